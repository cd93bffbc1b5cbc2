"""`ScheduleProcessor`: sends what was put down for later."""

from collections.abc import Mapping, Sequence

import msgspec

from headwater.dispatch import CommandBus
from headwater.messages import Command
from headwater.processing.handling.applier import Applier
from headwater.processing.handling.dead_letters import first_letters, queue_of
from headwater.processing.running.processor import Processor
from headwater.processing.running.status import LocalStatus
from headwater.processing.sagas.processor import SagaProcessor
from headwater.processing.scheduling.applier import ScheduleApplier
from headwater.processing.scheduling.recurring import Recurring
from headwater.processing.scheduling.schedule import Schedule
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.views import ViewStore


class ScheduleProcessor(SagaProcessor):
    """Sends scheduled commands; one process at a time holds the claim.

    Each is sent until it is acknowledged, under its own key, so once in effect. What is merely away
    is tried again with back-off; what is refused becomes a letter. What others put down is seen
    within ``renew_s``.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        views: ViewStore,
        owner: str,
        commands: CommandBus,
        service: str,
        recurring: Mapping[str, Recurring] | None = None,
        known: Sequence[type[Command]] = (),
        settings: ProcessorSettings = DEFAULTS,
        concurrency: int = 64,
    ) -> None:
        """Wire up; nothing runs before `start`.

        Args:
            schedule: what is told here when something is put down.
            views: where it is kept.
            owner: names this process.
            commands: where commands go.
            service: whose commands they are.
            recurring: what is sent again and again, by name.
            known: the command classes that are meant where several have one name.
            settings: how it works.
            concurrency: how many commands are on their way at once.
        """
        self._sagas = applier = ScheduleApplier(
            commands,
            concurrency=concurrency,
            settings=settings,
            service=service,
            recurring=recurring or {},
            known=known,
        )
        Processor.__init__(  # that of sagas would make an applier of its own
            self, applier, source=applier.source, views=views, owner=owner, settings=settings
        )
        schedule.told = applier.told

    async def status(self) -> LocalStatus:
        """See `Processor.status`; what was refused is counted in the store."""
        status = await super().status()
        if not (letters := await self._letters()):
            return status
        queue = queue_of(self.name, self.claims.generation)
        parked = len(await first_letters(self.views, queue))
        return msgspec.structs.replace(status, letters=letters, parked=parked)

    async def concerns(self) -> list[str]:
        """See `Processor.concerns`; also what was refused, and waits for a person."""
        told = await super().concerns()
        if letters := await self._letters():
            seen = f"see `headwater dead-letters list --processor {self.name}`"
            told.append(f"{letters} commands were refused: {seen}")
        return told

    async def refresh(self) -> None:
        """Look at once for what was put down.

        Raises:
            StoreUnavailable: the view store is away.
        """
        await self.applier.refresh(self.views, list(self.claims.held.values()))


def schedule_applier(
    *, service: str, recurring: Mapping[str, Recurring], settings: ProcessorSettings = DEFAULTS
) -> Applier:
    """Return what `ProcessorAdmin` needs to look after scheduled commands: it sends nothing."""
    return ScheduleApplier(
        None, concurrency=1, settings=settings, service=service, recurring=recurring, known=()
    )
