"""`SagaProcessor`: runs one saga type."""

from headwater.dispatch import CommandBus
from headwater.modelling.saga import Saga
from headwater.processing.handling.applier import Applier
from headwater.processing.running.processor import Processor
from headwater.processing.running.status import SagaStatus
from headwater.processing.sagas.applier import SagaApplier
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.processing.sources.source import Source
from headwater.views import ViewStore

_LATE_TRIES = 8


class SagaProcessor(Processor):
    """Runs one saga type over a source; shares the work like any `Processor`.

    Commands are sent after the commit that decided them, in order within one saga, with an
    idempotency key made of the service, the saga's type, its id, what began it, and a counter; so
    a command that is sent again after a crash has its effect once. What is merely away is tried
    again for ever, with back-off (see `saga_status`).
    """

    def __init__(
        self,
        saga: type[Saga],
        *,
        source: Source,
        views: ViewStore,
        owner: str,
        commands: CommandBus,
        settings: ProcessorSettings = DEFAULTS,
        concurrency: int = 64,
        service: str = "",
    ) -> None:
        """Wire up; nothing runs before `start`.

        Args:
            saga: the saga type.
            source: what it follows.
            views: where states, commands on their way, deadlines and tokens are.
            owner: names this process.
            commands: where commands go.
            settings: how it works.
            concurrency: how many commands are on their way at once.
            service: the service that runs it; others may have a saga of the same name.
        """
        self._sagas = SagaApplier(
            saga, source, commands, concurrency=concurrency, settings=settings, service=service
        )
        super().__init__(self._sagas, source=source, views=views, owner=owner, settings=settings)

    async def concerns(self) -> list[str]:
        """See `Processor.concerns`; of commands those that are tried again and again."""
        told = await super().concerns()
        late = [one for one in self._sagas.status().retrying if one[1] >= _LATE_TRIES]
        if late:
            told.append(f"{len(late)} commands wait, such as {late[0][0]}: {late[0][2]}")
        return told

    def saga_status(self) -> SagaStatus:
        """Return what is being sent from this process."""
        return self._sagas.status()


def saga_applier(
    saga: type[Saga],
    *,
    source: Source,
    settings: ProcessorSettings = DEFAULTS,
    service: str = "",
) -> Applier:
    """Return what `ProcessorAdmin` needs to look after a saga: it sends nothing by itself."""
    return SagaApplier(saga, source, None, concurrency=1, settings=settings, service=service)
