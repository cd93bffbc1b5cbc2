"""Saga steps within one transaction: load states, call the pure handlers, save their effects."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from headwater.errors import CommandRefused, HeadwaterError, Rejection, ViewUnreadable
from headwater.messages import Command, Metadata, handling, message_type
from headwater.messages.codec import message_form
from headwater.messages.idempotency import key_for
from headwater.modelling.saga import Cancel, Deadline, Effects, End, SagaType, effects_of
from headwater.processing.sagas.views import (
    PendingCommand,
    SagaDeadline,
    SagaState,
    queued,
    saga_queue,
    segment_of_saga,
)
from headwater.views import ViewTransaction


class _Live:
    """A saga while it is being worked on. ``data`` is its stored state, None when there is none."""

    __slots__ = ("changed", "data", "ended", "origin", "sent", "state")

    def __init__(self, data: bytes | None, origin: str, sent: int) -> None:
        self.state: Any = None  # read when it is needed
        self.data = data
        self.origin = origin
        self.sent = sent
        self.changed = False
        self.ended = False


class SagaWork:
    """Steps of many sagas of one type, to be saved together.

    Attributes:
        commands: what is to be sent after the commit, in order.
        deadlines: what is to be watched after the commit.
    """

    def __init__(
        self,
        kind: SagaType,
        processor: str,
        count: int,
        clock: Callable[[], float],
        *,
        service: str = "",
    ) -> None:
        """Begin with nothing; ``service`` keeps its keys off those of others' sagas of one name."""
        self._kind = kind
        self._keys = f"{service}:" if service else ""
        self._processor = processor
        self._count = count
        self._clock = clock
        self._live: dict[str, _Live] = {}
        self._deadlines: dict[str, SagaDeadline | None] = {}
        self.commands: list[tuple[PendingCommand, Command | Exception]] = []

    @property
    def deadlines(self) -> list[SagaDeadline]:
        """The deadlines that were set and not called off again."""
        return [deadline for deadline in self._deadlines.values() if deadline is not None]

    @property
    def called_off(self) -> list[str]:
        """The ids of deadlines that run no more."""
        return [key for key, deadline in self._deadlines.items() if deadline is None]

    async def load(self, transaction: ViewTransaction, sagas: Iterable[str]) -> None:
        """Load the states of these sagas, at once."""
        missing = [saga for saga in dict.fromkeys(sagas) if saga not in self._live]
        if not missing:
            return
        found = await transaction.load(SagaState, [self._id(saga) for saga in missing])
        for saga in missing:
            row = found.get(self._id(saga))
            self._live[saga] = (
                _Live(None, "", 0) if row is None else _Live(bytes(row.state), row.origin, row.sent)
            )

    def exists(self, saga: str) -> bool:
        """Whether a loaded saga is there."""
        live = self._live[saga]
        return live.state is not None or live.data is not None

    def touched(self, saga: str) -> bool:
        """Whether a step was made for a saga."""
        return self._live[saga].changed

    def begin(self, saga: str, origin: str) -> None:
        """Begin a saga that is not there."""
        live = self._live[saga]
        live.state, live.origin, live.sent = self._kind.cls(id=saga), origin, 0
        live.ended = False

    def step(
        self, saga: str, cause: Metadata, function: Callable[..., Effects], *given: Any
    ) -> None:
        """Call a handler of a saga that is there, and take its effects.

        Raises:
            ViewUnreadable: its stored state does not fit the class any more.
            Unstorable: its state, or a command, could not be read again as the same.
            Exception: what the handler raised; in any case nothing of this work must be saved.
        """
        live = self._live[saga]
        live.changed = True
        if live.state is None and live.data is not None:
            live.state = self._read(saga, live.data)
        with handling(cause):
            effects = effects_of(self._kind, function(live.state, *given))
        for effect in effects:
            if isinstance(effect, Command):
                self._send(saga, live, effect, cause)
            elif isinstance(effect, Deadline):
                self._deadlines[f"{self._id(saga)}/{effect.name}"] = self._deadline(
                    saga, effect, cause
                )
            elif isinstance(effect, Cancel):
                self._deadlines[f"{self._id(saga)}/{effect.name}"] = None
            else:
                assert isinstance(effect, End)
                live.ended = True
        if live.ended:
            live.state = live.data = None
            for name in self._kind.deadlines:
                self._deadlines[f"{self._id(saga)}/{name}"] = None
        else:
            live.data, live.state = self._kind.form.write(live.state)

    async def save(self, transaction: ViewTransaction) -> None:
        """Save everything."""
        changed = [(saga, live) for saga, live in self._live.items() if live.changed]
        saved = [
            SagaState(
                id=self._id(saga),
                saga=self._kind.name,
                state=msgspec.Raw(live.data),
                origin=live.origin,
                sent=live.sent,
            )
            for saga, live in changed
            if live.data is not None
        ]
        ended = [self._id(saga) for saga, live in changed if live.data is None]
        if saved or self.commands or self.deadlines:
            await transaction.save([*saved, *(row for row, _ in self.commands), *self.deadlines])
        if ended:
            await transaction.delete(SagaState, ended)
        if self.called_off:
            await transaction.delete(SagaDeadline, self.called_off)

    def _read(self, saga: str, data: bytes) -> Any:
        try:
            return self._kind.form.read(data)
        except Exception as error:
            raise ViewUnreadable(
                view=f"state of {self._kind.name}",
                key=saga,
                reason=str(error),
                remedy="give new fields a default, then retry the dead letters",
            ) from error

    def _send(self, saga: str, live: _Live, command: Command, cause: Metadata) -> None:
        live.sent += 1
        content, back = message_form(type(command)).write(command)
        number = f"{self._id(saga)}/{live.origin}/{live.sent:06d}"
        row = PendingCommand(
            id=number,
            queue=self._queue(saga),
            saga=saga,
            type=message_type(type(command)).name,
            content=content.decode(),
            idempotency_key=key_for(self._keys + number),
            cause=cause,
            since=self._clock(),
        )
        self.commands.append((row, back))

    def _deadline(self, saga: str, effect: Deadline, cause: Metadata) -> SagaDeadline:
        due = self._clock() + effect.after.total_seconds()
        return SagaDeadline(
            id=f"{self._id(saga)}/{effect.name}",
            queue=queued(self._queue(saga), due),
            saga=saga,
            name=effect.name,
            due=due,
            cause=cause,
        )

    def _id(self, saga: str) -> str:
        return f"{self._kind.name}/{saga}"

    def _queue(self, saga: str) -> str:
        return saga_queue(self._processor, segment_of_saga(saga, self._count), self._count)


def refusal_step(
    kind: SagaType, command: Command, error: HeadwaterError
) -> tuple[Callable[..., Effects], HeadwaterError] | None:
    """Return the handler of a refusal and the error to give it; None when nothing takes it."""
    handler = kind.rejection_handler(command, error)
    if handler is not None:
        return handler.function, error
    if isinstance(error, Rejection):
        return None
    refused = CommandRefused(
        command=type(command).__name__, cause_code=error.code, reason=str(error)
    )
    handler = kind.rejection_handler(command, refused)
    return None if handler is None else (handler.function, refused)
