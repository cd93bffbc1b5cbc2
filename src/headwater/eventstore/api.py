"""The event store ports: append, read, follow. These docstrings are the contract of every backend.

An `EventStore` is one log. Positions are dense from 1 over the whole log and become visible in
order: who has read up to position p has seen everything up to p, for ever. Versions are dense from
1 per stream. Recorded time is that of the store's clock. It never runs backwards along positions,
except after events that a wrong clock has stamped by more than `AHEAD_US_MAX` too late: positions
order, time informs.

Who only reads takes a `ReadableLog`, which needs no right to write.

A `StreamStore` is what those need who ask about streams only: an `EventStore`, or a
`ShardedEventStore` over several of them, each stream in one.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, Self

import msgspec

from headwater.errors import HeadwaterError
from headwater.messages import Event, Metadata
from headwater.messages.codec import encode_metadata, stored_event

AHEAD_US_MAX = 5_000_000
"""How far recorded time may be ahead of the store's clock, so that it does not run backwards."""

# Below, ``gc=False``: none of these can be part of a cycle, so the collector need not look at them.


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event to be appended, in stored form. ``data`` and ``metadata`` are UTF-8 JSON."""

    type: str
    type_version: int
    data: bytes
    metadata: bytes
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, event: Event, metadata: Metadata) -> Self:
        """Return the stored form of an event.

        Raises:
            Unstorable: the event, or the metadata, would not come back as the same.
        """
        return cls.and_back(event, encode_metadata(metadata))[0]

    @classmethod
    def and_back(cls, event: Event, metadata: bytes) -> tuple[Self, Event]:
        """Return the stored form of an event, and the event as it is read back from that.

        Raises:
            Unstorable: that would not be the same event.
        """
        kind, data, back = stored_event(event)
        return cls(kind.name, kind.version, data, metadata, kind.tags_of(back)), back


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as it is in the store. ``time`` is when it was recorded, microseconds UTC."""

    position: int
    stream: str
    version: int
    type: str
    type_version: int
    time: int
    tags: tuple[str, ...]
    data: bytes
    metadata: bytes


class StreamWrite(msgspec.Struct, frozen=True, gc=False):
    """Events for one stream.

    ``expected`` is the version the stream must be at: 0 for a stream that must not exist yet,
    None for no expectation. No stream is at a negative one.
    """

    stream: str
    events: Sequence[NewEvent]
    expected: int | None = None


class FilterItem(msgspec.Struct, frozen=True):
    """Matches an event of any of the types (empty: of every type) that has all of the tags."""

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class EventFilter(msgspec.Struct, frozen=True):
    """Matches an event that any item matches; without items, every event."""

    items: tuple[FilterItem, ...] = ()

    def matches(self, event_type: str, tags: Sequence[str]) -> bool:
        """Whether an event of this type with these tags is selected."""
        return not self.items or any(
            (not item.types or event_type in item.types) and all(tag in tags for tag in item.tags)
            for item in self.items
        )


EVERYTHING = EventFilter()
NOTHING = EventFilter((FilterItem(types=("",)),))
"""Matches no event, as each has a name."""


class AppendCondition(msgspec.Struct, frozen=True):
    """A dynamic consistency boundary: no event matching ``filter`` exists after ``after``."""

    filter: EventFilter
    after: int


class Idempotency(msgspec.Struct, frozen=True, gc=False):
    """A key that is stored with the append; ``fingerprint`` identifies the request's content."""

    key: str
    fingerprint: str = ""


class Pipeline:
    """Ties appends that build on one another.

    Appends submitted with the same pipeline are carried out in the order of submission. After
    one of them fails, or turns out to have been stored before under its idempotency key, every
    later one fails with `PipelineBroken`: what it was decided on never happened. A broken
    pipeline stays broken; start anew with another one. In a sharded store it belongs to the shard
    of its first append.
    """

    __slots__ = ("broken", "shard")

    def __init__(self) -> None:
        """Start unbroken."""
        self.broken: HeadwaterError | None = None
        self.shard: int | None = None


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The outcome of an append.

    Attributes:
        first: the position of the first event; ``last + 1`` when there were no events.
        last: the position of the last event; the head of the store when there were no events.
        time: recorded time, microseconds UTC.
        versions: the version of each write's stream after the append, in the order of the writes.
        streams: the streams of the writes, in their order.
        duplicate: the idempotency key was stored before, and this is the first outcome.
        shard: the shard whose positions these are; 0 in a store that is not sharded.
    """

    first: int
    last: int
    time: int
    streams: tuple[str, ...]
    versions: tuple[int, ...]
    duplicate: bool = False
    shard: int = 0


class StoredKey(msgspec.Struct, frozen=True):
    """An idempotency key as it is in the store, with the first (unmarked) outcome."""

    key: str
    fingerprint: str
    outcome: Appended


class Page(msgspec.Struct, frozen=True):
    """Some events in reading order, and how far the reader has come with them.

    ``through`` is the position up to which (forwards) everything selected has been delivered; it
    moves on past events that a filter left out. Backwards, everything selected after it has been
    delivered. Reading a stream, it is a version.
    """

    events: tuple[StoredEvent, ...]
    through: int


class Snapshot(msgspec.Struct, frozen=True):
    """A stored state of a stream at a version. ``fingerprint`` identifies the state's shape."""

    stream: str
    version: int
    fingerprint: str
    data: bytes


class Shard(msgspec.Struct, frozen=True):
    """Which part of a store a log is, as the log itself has it stored.

    Attributes:
        store: identifies the sharded store; empty for a log that is a store by itself.
        index: its number, from 0.
        count: of how many.
    """

    store: str = ""
    index: int = 0
    count: int = 1


WHOLE = Shard()
"""A log that is a store by itself."""


class ReadableStreams(Protocol):
    """Streams of events, to be read.

    All methods may be called by several tasks of one event loop at once. Any method raises
    `StoreUnavailable` when the database cannot be reached or is locked beyond the time allowed.
    """

    @property
    def epoch(self) -> str:
        """Identifies the store; differs after it, or any of its logs, was replaced."""

    @property
    def shards(self) -> Sequence["ReadableLog"]:
        """The logs, by number: of a `ReadableLog` itself alone."""

    def shard_of(self, stream: str) -> int:
        """Return the number of the log that a stream is in, the same for ever."""

    def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        until: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        page_size: int = 1000,
    ) -> AsyncIterator[Page]:
        """Read one stream; like `ReadableLog.read`, with versions instead of positions."""

    async def version(self, stream: str) -> int:
        """Return the version of a stream; 0 if it does not exist."""

    async def close(self) -> None:
        """Finish what was accepted, then release everything. Twice is fine."""


class ReadableLog(ReadableStreams, Protocol):
    """One totally ordered log of events, to be read.

    It is what those need who only read: an `EventStore`, or a log that was opened for reading
    (`EventStoreEngine.open_log`), which needs no right to write and writes nothing.
    """

    def read(
        self,
        *,
        filter: EventFilter = EVERYTHING,
        after: int = 0,
        until: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        page_size: int = 1000,
    ) -> AsyncIterator[Page]:
        """Read the log by position, in pages; ends at ``until`` or the head at the start.

        Forwards from the event after position ``after`` to position ``until`` (inclusive, None:
        the head). Backwards the same range from its end. At most ``limit`` events. The last page
        may be empty (it then only carries ``through``). A page is fetched when it is asked for.

        Raises:
            InvalidInput: a number is negative, or the page size is below 1.
        """

    def follow(
        self, *, filter: EventFilter = EVERYTHING, after: int = 0, page_size: int = 1000
    ) -> AsyncIterator[Page]:
        """Read forwards for ever: what is there, then what comes, woken within milliseconds.

        Events of other processes on the same store arrive too. Costs nothing while nothing
        happens. Closing the iterator (or cancelling the task) releases everything.
        """

    async def head(self) -> int:
        """Return the position of the last event; 0 for an empty store."""

    async def position_at(self, time: int) -> int:
        """Return the position of the last event recorded at or before ``time`` (µs UTC); else 0.

        All before it was recorded before, whatever a clock that was wrong has stamped it with.
        """

    def read_keys(
        self, *, since: int = 0, page_size: int = 1000
    ) -> AsyncIterator[tuple[StoredKey, ...]]:
        """Read the idempotency keys whose outcome's ``last`` is ``since`` or later, in pages.

        In order of the keys (by code points), each once, none of the pages empty. Keys that are
        stored while this goes on may or may not be among them. For copying a store; there is no
        index for it, so all keys are looked through.

        Raises:
            InvalidInput: ``since`` is negative, or the page size is below 1.
        """

    async def shard(self) -> Shard | None:
        """Return which shard this log is; None when that was never settled."""

    async def owner(self) -> str:
        """Return the service that this is the event store of; empty when that was never settled."""


class StreamStore(ReadableStreams, Protocol):
    """Streams of events, each of them in one log."""

    @property
    def shards(self) -> Sequence["EventStore"]:
        """The logs, by number: of an `EventStore` itself alone."""

    async def append(
        self,
        writes: Sequence[StreamWrite],
        *,
        condition: AppendCondition | None = None,
        idempotency: Idempotency | None = None,
        pipeline: Pipeline | None = None,
    ) -> Appended:
        """Append all writes, or none; return when they are on disk.

        Ordering: the append takes its place before the first suspension; two appends submitted
        one after the other by one event loop are carried out in that order. Positions follow the
        order of the writes and of the events in them. A stream may occur once.

        Atomicity: expectations and condition are checked and the events stored in one step that
        no other process can come between. Appends may share a transaction (group commit), but
        each has its own verdict: one that fails changes nothing and harms no other.

        Idempotency: when the key was stored before with the same fingerprint, nothing is stored
        and the first outcome is returned, before expectations and condition are looked at. An
        append without events but with a key stores the key.

        Cancellation: the append may or may not be carried out, never in part.

        Raises:
            InvalidInput: a stream occurs twice, or an event cannot be stored.
            Overloaded: too many appends are waiting; nothing was stored.
            ConcurrencyConflict: a stream is not at its expected version.
            ConditionFailed: an event matching the condition exists after its position.
            IdempotencyKeyReused: the key was stored before with another fingerprint.
            PipelineBroken: an earlier append of the pipeline failed.
            DiskFull: nothing was stored.
            StoreUnavailable: nothing was stored, or it is unknown whether it was (its outcome
                says which); an idempotency key finds out.
        """

    async def outcome(self, key: str) -> tuple[Appended, str] | None:
        """Return the outcome stored under an idempotency key, and its fingerprint, if any."""

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, replacing the stream's of the same or an older version.

        A snapshot older than the one kept is ignored.
        """

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """Return the stream's snapshot, if one is kept."""

    def read_snapshots(
        self, prefix: str = "", *, page_size: int = 100
    ) -> AsyncIterator[tuple[Snapshot, ...]]:
        """Read the snapshots of all streams whose names begin with a prefix, in pages.

        In order of the names (by code points; sharded: shard by shard), none of the pages empty.
        Snapshots that are saved or dropped while this goes on may or may not be among them.

        Raises:
            InvalidInput: the page size is below 1.
        """

    async def drop_snapshot(self, stream: str) -> bool:
        """Remove the stream's snapshot; return whether there was one."""

    async def drop_snapshots(self, prefix: str = "") -> int:
        """Remove the snapshots of all streams whose names begin with a prefix; return how many."""

    async def forget_keys(self, age_s: float) -> int:
        """Forget the idempotency keys of appends that are older; return how many.

        By the store's clock; those of younger appends all stay. An append under a key that was
        forgotten is a new one.
        """


class EventStore(StreamStore, ReadableLog, Protocol):
    """One totally ordered log of events, divided into streams."""

    async def import_events(
        self, events: Sequence[StoredEvent], *, epoch: str, keys: Sequence[StoredKey] = ()
    ) -> None:
        """Store events of another store, exactly as they are there; return when they are on disk.

        For copying a store, from the beginning and in order. Appends go on where the imported
        events end, and readers are woken as by an append.

        Ordering: the positions must be those that come next, and each event's version the next
        of its stream; time must not run backwards by `AHEAD_US_MAX` or less.

        Atomicity: all events and keys, or nothing, in one step that no append and no other
        import can come between.

        Epoch: an empty store (no events, no keys) adopts the epoch; any other must have it.
        Whoever else has the empty store open must open it anew.

        Keys: may come before the events that they belong to. One that is stored already with
        the same outcome and fingerprint is left as it is.

        Cancellation: wholly carried out, or not at all.

        Raises:
            ConfigurationError: the engine does not import (`EventStoreEngine.imports`).
            ImportRefused: the events are not those that come next, the store has another epoch,
                or a key is stored with another outcome.
            InvalidInput: an event or a key cannot be stored.
            DiskFull: nothing was stored.
            StoreUnavailable: nothing was stored, or it is unknown whether it was (its outcome
                says which); the head tells.
        """

    async def retag(self, tags: Mapping[int, Sequence[str]]) -> int:
        """Give stored events, by position, other tags; return how many had others before.

        Nothing else of the events changes, and nobody is woken: who has read past a position has
        read the event as it was. Who reads it from now on sees it with its new tags, and filters
        select it by them.

        Atomicity: all events, or none. An append's condition is checked before it or after it; a
        decision on what was read before, with a condition after that position, is not seen.

        Cancellation: wholly carried out, or not at all.

        Raises:
            InvalidInput: there is no event at a position, or a tag cannot be stored.
            DiskFull: nothing was changed.
        """

    async def probe(self) -> None:
        """Find out whether events can be stored now: do what an append does, and take it back.

        Then something of no meaning is stored, as that alone shows a full disk. Nobody sees
        anything of it, and nobody is woken.

        Cancellation: nothing is left of it.

        Raises:
            DiskFull, StoreUnavailable, StoreCorrupt: an append would fail, too.
        """

    async def settle_shard(self, shard: Shard) -> Shard | None:
        """Store which shard this log is, once and for all; return what is stored now.

        What was settled before stays. A log that has events is settled as a store by itself
        only: for anything else, whose streams may be elsewhere, None is returned.

        Atomicity: in one step that no append and no other settling can come between.

        Cancellation: settled, or not.
        """

    async def settle_owner(self, service: str) -> str:
        """Store whose event store this is, once and for all; return the service that is stored now.

        What was settled before stays.

        Atomicity: in one step that no other settling can come between.

        Cancellation: settled, or not.
        """
