"""The event bus port: publish and subscribe between services.

At least once, ordered per key, replayable. A bus has a fixed number of partitions; all events of
one key (a stream of the source) go to one partition and keep their order there. Partitions need
not be in order among each other: `BusEvent.confirmed` says up to where a source is there in all.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import msgspec

from headwater.eventbus.retention import Retention
from headwater.eventbus.types import EventType
from headwater.messages.hashing import stable_hash


class BusEvent(msgspec.Struct, frozen=True):
    """An event between services; on the wire it is CloudEvents 1.0 JSON (see `cloudevents`).

    Attributes:
        source: the service that owns the event.
        epoch: the epoch of its event store.
        position: its position there. ``(source, epoch, position)`` identifies the event.
        stream: its stream there; the partition key.
        version: its version in the stream.
        type, type_version, tags, data, metadata: as in the event store. A bus carries any type.
        time: recorded time, microseconds UTC.
        confirmed: all events of the source and epoch up to this position were on the bus, for good,
            when this one was published, or came with it: whoever sees this one can read them. 0
            when nothing was said.
        ends: by partition, the position of the last of these events there, or of a later one; 0:
            there is none. Whoever has seen all of them has seen all that is confirmed, and need not
            ask the bus. Empty: it is not said.
        id: of an event of another program, which has no epoch: with the source it identifies the
            event, wherever it is on the bus. Empty for the events of services.

    What is confirmed is no part of what identifies an event: it may differ when the event is
    published again.
    """

    source: str
    epoch: str
    position: int
    stream: str
    version: int
    type: str
    type_version: int
    time: int
    tags: tuple[str, ...]
    data: bytes
    metadata: bytes
    confirmed: int = 0
    ends: tuple[int, ...] = ()
    id: str = ""


WATERMARK = "headwater.Watermark"
"""The type of what says nothing but how far a source is confirmed; no handlers see it."""


def watermark(source: str, epoch: str, position: int, ends: tuple[int, ...] = ()) -> BusEvent:
    """Return what a relay publishes on a bus that is not ordered, when it has nothing else to say.

    Its ``stream`` is the name of the source. It is of a position whose event was published before,
    and yet delivered: the two differ in their type.
    """
    return BusEvent(
        source=source,
        epoch=epoch,
        position=position,
        stream=source,
        version=0,
        type=WATERMARK,
        type_version=1,
        time=0,
        tags=(),
        data=b"null",
        metadata=b"{}",
        confirmed=position,
        ends=ends,
    )


class Delivery(msgspec.Struct, frozen=True):
    """An event as delivered: its partition, its offset there.

    Offsets rise strictly within a partition. They need not be dense, so nothing follows from how
    far apart two of them are, or from a number between them that is missing.
    """

    partition: int
    offset: int
    event: BusEvent


class EventBus(Protocol):
    """A durable, partitioned log shared by all services of a system."""

    @property
    def partitions(self) -> int:
        """The number of partitions, from 1."""

    @property
    def ordered(self) -> bool:
        """Whether partitions are in order among each other.

        If so, whoever sees an event can read all that were published before it, and with it, in
        any partition. If not, a relay says with each event, and by `watermark`, what is confirmed.
        """

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """Publish events of one source, in their order; return when they are durable.

        An event that was published before (same source, epoch and position) may be delivered
        again, so subscribers compare positions; a backend that can drops it. For the same reason
        the positions of one source must rise within a partition: who shares the publishing of a
        source among several divides it by partition.

        Cancellation: any prefix may have been published; publish all again.

        Raises:
            MalformedMessage: an event's metadata is not a JSON object; nothing was published.
            StoreUnavailable: the bus cannot be reached or was closed; any prefix may have been
                published.
            DiskFull: any prefix may have been published.
        """

    async def stored(self, source: str, epoch: str) -> dict[int, int]:
        """Return for every partition the last position of a source that is there (0: none).

        A bus that may lose what it has confirmed, as it does not wait for the disk, says it so.
        Whoever has published further publishes again what comes after that; until this was asked
        such a bus takes no more of the source. Empty: it does not say, and loses nothing.

        Raises:
            StoreUnavailable: the bus cannot be reached or was closed.
        """

    def subscribe(
        self, *, after: Mapping[int, int], page_size: int = 1000
    ) -> AsyncIterator[Sequence[Delivery]]:
        """Deliver the events of some partitions, for ever, in order within each partition.

        Args:
            after: for each partition wanted, the offset after which to start; -1 is before the
                first event that there ever was, the one before `begin` is before what is kept.
            page_size: how many at most are delivered at once.

        Never delivers an empty page. Waits without polling, and is woken within milliseconds.
        No partition starves while others are busy.

        Raises:
            InvalidInput: there is no such partition, none is named, or ``page_size`` is below 1.
            EventsForgotten: events after an offset are not kept any more, whether that shows at the
                begin or while reading; nothing that comes after them was delivered.
            StoreUnavailable: the bus is away or was closed; subscribe again later.
            MalformedMessage: another program has published something that is no CloudEvent.
        """

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """Store which types of events a service publishes, in the place of its former ones.

        Nothing is stored when one of them is another type than what another service has announced
        under its name (see `is_other`); those are returned, each with the other's.

        Atomicity: in one step that no other announcement can come between.

        Cancellation: stored, or not.

        Raises:
            StoreUnavailable: the bus cannot be reached or was closed.
        """

    async def begin(self) -> dict[int, int]:
        """Return for every partition the offset from which on everything is kept (0: all of it).

        Whoever has read what is before it can go on. If nothing is kept at all, it is after `end`.

        Raises:
            StoreUnavailable: the bus cannot be reached or was closed.
        """

    async def end(self) -> dict[int, int]:
        """Return the offset of the last event of every partition (-1: there was none yet).

        Raises:
            StoreUnavailable: the bus cannot be reached or was closed.
        """

    async def note_reader(self, reader: str, offsets: Mapping[int, int]) -> None:
        """Note how far somebody has read for good, by partition; what comes later is kept for it.

        Raises:
            StoreUnavailable: the bus cannot be reached or was closed.
        """

    async def forget(self, retention: Retention) -> int:
        """Forget events that need not be kept, by the clock of the bus; return how many.

        A bus that cannot (`EventBusEngine.forgets`) keeps everything, and returns 0.

        The age of an event counts from the first call of this after it was published. Of each
        partition at least the last event stays. What is published again after it was forgotten
        is delivered again.

        Cancellation: some may have been forgotten.

        Raises:
            StoreUnavailable: the bus cannot be reached or was closed.
        """

    async def close(self) -> None:
        """Release everything. Twice is fine."""


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a key: its CRC-32 modulo the number."""
    return stable_hash(key) % partitions
