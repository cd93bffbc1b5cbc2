"""What is to be sent later: put down, listed and cancelled, by any process of the service."""

import math
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from headwater.errors import IdempotencyKeyReused, InvalidInput
from headwater.messages import Command, current, message_type, new_id, new_metadata
from headwater.messages.codec import message_form
from headwater.messages.idempotency import check_key, key_for
from headwater.messages.inheritance import qualified
from headwater.processing.sagas.views import deadlines_of, queued
from headwater.processing.scheduling.views import KEYED, NAME, RECURRING, ScheduledCommand
from headwater.views import ViewStore, ViewTransaction

_PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Scheduled(msgspec.Struct, frozen=True):
    """The receipt of a command that is sent later.

    Attributes:
        id: by which it can be cancelled; ``every:`` begins those of declared schedules.
        due: when it is sent, UTC, by the clock of the view store.
        name: the wire name of the command; of a declared schedule its name.
        content: the command as JSON; of a declared schedule empty, as it is made when it is due.
    """

    id: str
    due: datetime
    name: str
    content: msgspec.Raw = msgspec.Raw(b"")


class Schedule:
    """The commands of one service that are to be sent later; kept in its view store.

    Whoever shares the store sends them, one process at a time, and each once in effect.
    """

    def __init__(self, views: ViewStore, *, service: str) -> None:
        """Look after those in a view store, in which `open` makes room for them."""
        self._views = views
        self._service = service
        self.told: Callable[[float], None] = lambda _due: None

    async def open(self) -> None:
        """Make room. Twice is fine.

        Raises:
            StoreUnavailable: the view store is away.
        """
        await self._views.ensure([ScheduledCommand])

    async def add(
        self,
        command: Command,
        *,
        at: datetime | None = None,
        after: timedelta | None = None,
        idempotency_key: str = "",
        transaction: ViewTransaction | None = None,
    ) -> Scheduled:
        """Put down a command; return when that is durable.

        Args:
            command: what to send.
            at: when, with a zone; what is past is sent at once.
            after: or in how long, by the store's clock.
            idempotency_key: under which it is sent, and put down once; empty: one of its own.
            transaction: with which it is put down, or not at all; None: one of its own.

        Cancellation leaves it open whether it is put down; with a key it can be done again.

        Raises:
            InvalidInput: the time is none, or the key.
            IdempotencyKeyReused: another command is put down under the key.
            StoreUnavailable: the view store is away.
        """
        due = await self._due(at, after)
        row = self._row(command, due, idempotency_key)
        if transaction is not None:
            stored = await _put(transaction, row)
        else:
            async with self._views.transaction(synced=True) as own:
                stored = await _put(own, row)
        self.told(stored.due)
        return scheduled_of(stored)

    async def waiting(self) -> AsyncIterator[Scheduled]:
        """Yield what is to be sent later, the next first.

        What is being sent is not there any more; what was refused is a dead letter.

        Raises:
            StoreUnavailable: the view store is away.
        """
        cursor = ""
        while True:
            page = await self._views.find(
                ScheduledCommand,
                where={"queue": deadlines_of(NAME)},
                order_by="queue",
                limit=_PAGE,
                cursor=cursor,
            )
            for row in page.items:
                yield scheduled_of(row)
            cursor = page.next
            if not cursor:
                return

    async def list(self) -> list[Scheduled]:
        """Return what is to be sent later, the next first; see `waiting`."""
        return [one async for one in self.waiting()]

    async def cancel(self, id: str) -> bool:
        """Take a command back; return whether it was still there, so that it is not sent.

        Otherwise it is on its way, or was sent, or was never put down.

        Raises:
            InvalidInput: it is declared, and would come again.
            StoreUnavailable: the view store is away.
        """
        if id.startswith(RECURRING):
            reason = f"{id!r} is declared in the service: remove the declaration"
            raise InvalidInput(reason=reason)
        async with self._views.transaction(synced=True) as transaction:
            there = await transaction.load(ScheduledCommand, [id])  # nobody else has it meanwhile
            await transaction.delete(ScheduledCommand, list(there))
        return bool(there)

    async def _due(self, at: datetime | None, after: timedelta | None) -> float:
        if (at is None) == (after is None):
            raise InvalidInput(reason="say either at=, when to send it, or after=, in how long")
        if at is not None:
            if at.tzinfo is None:
                reason = f"at={at!r} says no zone: datetime(..., tzinfo=UTC)"
                raise InvalidInput(reason=reason)
            return _seconds(at)
        assert after is not None
        if after < timedelta():
            raise InvalidInput(reason=f"after={after!r} is over already: say timedelta() for now")
        due = await self._views.now() + after.total_seconds()
        try:
            _time(due)
        except OverflowError as error:
            raise InvalidInput(reason=f"after={after!r} is beyond the year 9999") from error
        return due

    def _row(self, command: Command, due: float, idempotency_key: str) -> ScheduledCommand:
        if idempotency_key:
            check_key(idempotency_key)
        id = f"{KEYED}{key_for(idempotency_key)}" if idempotency_key else new_id()
        content, _ = message_form(type(command)).write(command)
        context = current()
        due = math.ceil(due * 1e6) / 1e6
        return ScheduledCommand(
            id=id,
            queue=queued(NAME, due),
            due=due,
            type=message_type(type(command)).name,
            content=content.decode(),
            idempotency_key=idempotency_key or key_for(f"{self._service}:{NAME}/{id}"),
            cause=context.metadata if context is not None else new_metadata(),
            declared=qualified(type(command)),
        )


async def _put(transaction: ViewTransaction, row: ScheduledCommand) -> ScheduledCommand:
    """Save a row; return the one that was there before, if any."""
    there: dict[str, Any] = await transaction.load(ScheduledCommand, [row.id])
    known: ScheduledCommand | None = there.get(row.id)
    if known is None:
        await transaction.save([row])
        return row
    if (known.type, known.content) != (row.type, row.content):
        raise IdempotencyKeyReused(key=row.idempotency_key)
    return known


def scheduled_of(row: ScheduledCommand) -> Scheduled:
    """Return what is told of a row."""
    return Scheduled(row.id, _time(row.due), row.type, msgspec.Raw(row.content.encode()))


def _time(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def _seconds(time: datetime) -> float:
    return (time - _EPOCH) / timedelta(seconds=1)


__all__ = ["Schedule", "Scheduled", "scheduled_of"]
