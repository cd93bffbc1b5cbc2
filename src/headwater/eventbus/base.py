"""What the event buses here share: subscribing page by page, and publishing in group commits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from headwater.errors import MalformedMessage, StoreUnavailable
from headwater.eventbus import cloudevents
from headwater.eventbus.api import BusEvent, Delivery, partition_of
from headwater.eventbus.checks import check_subscription

E = TypeVar("E")
_COMMIT_EVENTS_MAX = 10_000


class Wake(Protocol):
    """Tells that there may be something new."""

    def ticket(self) -> int:
        """Return a number that changes with every wake-up; take it before looking for changes."""

    async def wait(self, ticket: int) -> None:
        """Return after a wake-up later than the ticket, now and then, or when it is closed."""


class OpenBus:
    """A bus that is open, until it is closed."""

    def __init__(self, name: str, partitions: int) -> None:
        """Begin open; ``name`` is for messages."""
        self._name = name
        self._partitions = partitions
        self._closed = False

    @property
    def partitions(self) -> int:
        """See `EventBus.partitions`."""
        return self._partitions

    async def stored(self, source: str, epoch: str) -> dict[int, int]:  # noqa: ARG002
        """See `EventBus.stored`; what is confirmed is on disk, or shared with nobody."""
        self._check_open()
        return {}

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open it again"
            raise StoreUnavailable(store=self._name, reason=reason, outcome="not stored")


class PagedBus(OpenBus):
    """A bus of which pages can be read, with wake-ups: subclasses say how.

    ``ordered`` and ``live_max`` are for subclasses to set: see `EventBus.ordered`, and how many
    events are asked for at most when there are probably only some.
    """

    ordered = True
    live_max = 1000

    def __init__(self, name: str, partitions: int, wake: Wake) -> None:
        """Begin open; ``name`` is for messages."""
        super().__init__(name, partitions)
        self._wake = wake

    async def subscribe(
        self, *, after: Mapping[int, int], page_size: int = 1000
    ) -> AsyncIterator[Sequence[Delivery]]:
        """See `EventBus.subscribe`.

        Raises:
            MalformedMessage: another program has stored something that is not a CloudEvents
                document; it says where.
        """
        check_subscription(after, page_size, partitions=self._partitions)
        offsets, wait, live = dict(after), self._waiter(), False
        while True:
            self._check_open()
            ticket = self._wake.ticket()  # before looking, so that nothing is missed
            size = min(page_size, self.live_max) if live else page_size
            page = await self._page(offsets, size, live=live)
            # The first partitions of this page are the last of the next: none starves.
            for partition, offset in {d.partition: d.offset for d in page}.items():
                del offsets[partition]
                offsets[partition] = offset
            if page:
                yield page
            live = len(page) < size
            if live:
                await wait(ticket, len(page))

    async def _page(
        self, offsets: Mapping[int, int], size: int, *, live: bool
    ) -> Sequence[Delivery]:
        """Return the next events, of the first partitions first; less than ``size``: that is all.

        Raises:
            EventsForgotten: what comes after one of the offsets is not there any more.
        """
        raise NotImplementedError

    def _waiter(self) -> Callable[[int, int], Awaitable[None]]:
        """Return how one subscription waits after a ticket, having found so many events."""
        return lambda ticket, _found: self._wake.wait(ticket)


class Entry(msgspec.Struct, frozen=True):
    """An event on its way into the log."""

    source: str
    epoch: str
    position: int
    partition: int
    document: str


class GroupCommits(OpenBus, Generic[E]):
    """A bus that stores all events of a call, and of all calls that wait, together.

    ``E`` is an event on its way.
    """

    def __init__(self, name: str, partitions: int) -> None:
        """Begin open."""
        OpenBus.__init__(self, name, partitions)
        self._waiting: list[tuple[list[E], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """See `EventBus.publish`. All events of a call are stored together.

        While some are being stored the next calls queue up, and go together after them.
        """
        self._check_open()
        entries = [self._entry(event) for event in events]
        if not entries:
            return
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, stored))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting())
        await stored

    async def close(self) -> None:
        """See `EventBus.close`. What was being published is finished first."""
        self._closed = True
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await self._close()

    async def _append(self, entries: Sequence[E]) -> None:
        """Store together, in their order, those entries that are not stored yet.

        Some may be there twice.
        """
        raise NotImplementedError

    async def _close(self) -> None:
        """Release everything. Twice is fine."""
        raise NotImplementedError

    def _entry(self, event: BusEvent) -> E:
        """Return an event as it is stored."""
        raise NotImplementedError

    async def _commit_waiting(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._take())
        finally:
            self._committing = None

    def _take(self) -> list[tuple[list[E], asyncio.Future[None]]]:
        """Take what goes into one transaction: bounded, but at least one call."""
        size, taken = 0, 0
        for entries, _ in self._waiting:
            size += len(entries)
            if taken and size > _COMMIT_EVENTS_MAX:
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    async def _commit(self, batch: list[tuple[list[E], asyncio.Future[None]]]) -> None:
        entries = [entry for group, _ in batch for entry in group]
        failure: Exception | None = None
        try:
            await self._append(entries)
        except asyncio.CancelledError:
            for _, stored in batch:
                stored.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # it belongs to those who wait
            failure = error
        for _, stored in batch:
            if not stored.done():
                if failure is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(failure)


class CommittingBus(GroupCommits[Entry], PagedBus):
    """A bus that stores what goes together in one transaction."""

    def __init__(self, name: str, partitions: int, wake: Wake) -> None:
        """Begin open."""
        PagedBus.__init__(self, name, partitions, wake)
        GroupCommits.__init__(self, name, partitions)

    def _entry(self, event: BusEvent) -> Entry:
        return Entry(
            source=event.source,
            epoch=event.epoch,
            position=event.position,
            partition=partition_of(event.stream, self._partitions),
            document=cloudevents.encode(event).decode(),
        )


def delivery(partition: int, offset: int, document: bytes | str) -> Delivery:
    """Return a stored document as it is delivered.

    Raises:
        MalformedMessage: another program has stored something that is not a CloudEvents document.
    """
    try:
        return Delivery(partition, offset, cloudevents.decode(document, place=offset + 1))
    except MalformedMessage as error:
        name = f"event at offset {offset} of partition {partition}"
        raise MalformedMessage(name=name, reason=error.reason) from error


__all__ = ["CommittingBus", "Entry", "GroupCommits", "PagedBus", "Wake", "delivery"]
