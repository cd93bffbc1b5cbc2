"""The event store in memory: for tests, and the model that other backends are compared with."""

import asyncio
import bisect
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

import msgspec

from headwater.errors import (
    ConcurrencyConflict,
    ConditionFailed,
    HeadwaterError,
    IdempotencyKeyReused,
    StoreUnavailable,
)
from headwater.eventstore.api import (
    EVERYTHING,
    WHOLE,
    AppendCondition,
    Appended,
    EventFilter,
    Idempotency,
    Page,
    Pipeline,
    Shard,
    Snapshot,
    StoredEvent,
    StoredKey,
    StreamWrite,
)
from headwater.eventstore.checks import (
    broken_by,
    check_epoch,
    check_filter,
    check_import,
    check_names,
    check_range,
    check_retag,
    check_writes,
    new_keys,
    stored_before,
)
from headwater.eventstore.engine import EventStoreEngine
from headwater.eventstore.log_base import END, Found, LogBase, through
from headwater.eventstore.times import machine_us, recorded, runs_of
from headwater.messages import new_id
from headwater.messages.characters import check_text

_POSITION: Callable[[StoredEvent], int] = attrgetter("position")
_VERSION: Callable[[StoredEvent], int] = attrgetter("version")


class _Query(NamedTuple):
    log: Callable[[], list[StoredEvent]]
    filter: EventFilter
    number: Callable[[StoredEvent], int]
    backwards: bool


class MemoryEventStore(LogBase[_Query]):
    """An `EventStore` that lasts as long as the object. Nothing is copied to disk."""

    def __init__(self, *, clock: Callable[[], int] = machine_us) -> None:
        """Start empty, with an epoch of its own; ``clock`` gives microseconds UTC."""
        self._clock = clock
        self._epoch = new_id()
        self._log: list[StoredEvent] = []
        self._runs: list[tuple[int, int]] = []  # position and time of events where time fell
        self._streams: dict[str, list[StoredEvent]] = {}
        self._outcomes: dict[str, tuple[Appended, str]] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._shard: Shard | None = None
        self._owner = ""
        self._followers: set[asyncio.Event] = set()
        self._closed = False

    async def append(
        self,
        writes: Sequence[StreamWrite],
        *,
        condition: AppendCondition | None = None,
        idempotency: Idempotency | None = None,
        pipeline: Pipeline | None = None,
    ) -> Appended:
        """See `EventStore.append`."""
        with _breaking(pipeline):
            self._check_open()
            check_writes(writes, idempotency)
            check_names(writes, condition, idempotency)
            if pipeline is not None and pipeline.broken is not None:
                raise broken_by(pipeline.broken)
            if idempotency is not None and idempotency.key in self._outcomes:
                outcome = self._stored_before(idempotency)
                if pipeline is not None:
                    pipeline.broken = stored_before(idempotency.key)
                return outcome
            self._check_expectations(writes)
            if condition is not None:
                self._check_condition(condition)
            return self._store(writes, idempotency)

    async def outcome(self, key: str) -> tuple[Appended, str] | None:
        """See `EventStore.outcome`."""
        self._check_open()
        check_text((key,))
        return self._outcomes.get(key)

    async def head(self) -> int:
        """See `EventStore.head`."""
        self._check_open()
        return len(self._log)

    async def version(self, stream: str) -> int:
        """See `EventStore.version`."""
        self._check_open()
        check_text((stream,))
        return len(self._streams.get(stream, ()))

    async def position_at(self, time: int) -> int:
        """See `EventStore.position_at`."""
        self._check_open()
        ending = len(self._log)
        for position, began in reversed(self._runs):
            if began <= time:
                break
            ending = position - 1
        else:
            position = 1
        return bisect.bisect_right(
            self._log, time, position - 1, ending, key=lambda event: event.time
        )

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """See `EventStore.save_snapshot`."""
        self._check_open()
        check_text((snapshot.stream, snapshot.fingerprint))
        kept = self._snapshots.get(snapshot.stream)
        if kept is None or kept.version <= snapshot.version:
            self._snapshots[snapshot.stream] = snapshot

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """See `EventStore.load_snapshot`."""
        self._check_open()
        check_text((stream,))
        return self._snapshots.get(stream)

    def read_snapshots(
        self, prefix: str = "", *, page_size: int = 100
    ) -> AsyncIterator[tuple[Snapshot, ...]]:
        """See `StreamStore.read_snapshots`."""
        check_range(after=0, until=None, limit=None, page_size=page_size)
        return self._read_snapshots(prefix, page_size)

    async def drop_snapshot(self, stream: str) -> bool:
        """See `StreamStore.drop_snapshot`."""
        self._check_open()
        return self._snapshots.pop(stream, None) is not None

    async def drop_snapshots(self, prefix: str = "") -> int:
        """See `StreamStore.drop_snapshots`."""
        self._check_open()
        gone = [stream for stream in self._snapshots if stream.startswith(prefix)]
        for stream in gone:
            del self._snapshots[stream]
        return len(gone)

    async def retag(self, tags: Mapping[int, Sequence[str]]) -> int:
        """See `EventStore.retag`."""
        self._check_open()
        check_retag(tags, range(1, len(self._log) + 1))
        changed = 0
        for position, wanted in tags.items():
            event = self._log[position - 1]
            if event.tags != (new := tuple(wanted)):
                changed += 1
                event = msgspec.structs.replace(event, tags=new)
                self._log[position - 1] = event
                self._streams[event.stream][event.version - 1] = event
        return changed

    async def forget_keys(self, age_s: float) -> int:
        """See `StreamStore.forget_keys`."""
        until = await self.position_at(self._clock() - int(age_s * 1_000_000))
        old = [key for key, (outcome, _) in self._outcomes.items() if outcome.last <= until]
        for key in old:
            del self._outcomes[key]
        return len(old)

    async def import_events(
        self, events: Sequence[StoredEvent], *, epoch: str, keys: Sequence[StoredKey] = ()
    ) -> None:
        """See `EventStore.import_events`."""
        self._check_open()
        check_epoch(epoch, stored=self._epoch, empty=not self._log and not self._outcomes)
        time = self._log[-1].time if self._log else 0
        versions = {event.stream: len(self._streams.get(event.stream, ())) for event in events}
        check_import(events, head=len(self._log), time=time, versions=versions)
        outcomes = self._outcomes
        new = new_keys(keys, {k.key: outcomes[k.key] for k in keys if k.key in outcomes})
        self._epoch = epoch
        self._runs += runs_of(events, time)
        for event in events:
            self._streams.setdefault(event.stream, []).append(event)
            self._log.append(event)
        self._outcomes.update({key.key: (key.outcome, key.fingerprint) for key in new})
        self._wake()

    async def probe(self) -> None:
        """See `EventStore.probe`."""
        self._check_open()

    async def shard(self) -> Shard | None:
        """See `EventStore.shard`."""
        self._check_open()
        return self._shard

    async def settle_shard(self, shard: Shard) -> Shard | None:
        """See `EventStore.settle_shard`."""
        self._check_open()
        if self._shard is None and (shard == WHOLE or not self._log):
            self._shard = shard
        return self._shard

    async def owner(self) -> str:
        """See `EventStore.owner`."""
        self._check_open()
        return self._owner

    async def settle_owner(self, service: str) -> str:
        """See `EventStore.settle_owner`."""
        self._check_open()
        self._owner = self._owner or service
        return self._owner

    async def close(self) -> None:
        """See `EventStore.close`."""
        self._closed = True
        self._wake()

    def _of_log(self, filter: EventFilter, *, backwards: bool) -> _Query:
        check_filter(filter)
        return _Query(lambda: self._log, filter, _POSITION, backwards)

    def _of_stream(self, stream: str, *, backwards: bool) -> _Query:
        check_text((stream,))
        return _Query(lambda: self._streams.get(stream, []), EVERYTHING, _VERSION, backwards)

    async def _fetch(
        self, query: _Query, low: int, high: int, limit: int, *, head: bool = True
    ) -> Found:
        del head  # it costs nothing
        self._check_open()
        log = query.log()
        select = _backwards if query.backwards else _forwards
        events = select(log, query.filter, low, min(high, len(log)), limit)
        return Found(events, len(log), len(events) == limit)

    async def _keys(self, since: int, page_size: int) -> AsyncIterator[tuple[StoredKey, ...]]:
        self._check_open()
        found = [
            StoredKey(key, fingerprint, outcome)
            for key, (outcome, fingerprint) in sorted(self._outcomes.items())
            if outcome.last >= since
        ]
        for start in range(0, len(found), page_size):
            self._check_open()
            yield tuple(found[start : start + page_size])

    async def _read_snapshots(
        self, prefix: str, page_size: int
    ) -> AsyncIterator[tuple[Snapshot, ...]]:
        self._check_open()
        found = sorted(stream for stream in self._snapshots if stream.startswith(prefix))
        for start in range(0, len(found), page_size):
            self._check_open()
            page = (self._snapshots.get(stream) for stream in found[start : start + page_size])
            if present := tuple(snapshot for snapshot in page if snapshot is not None):
                yield present

    async def _follow(self, filter: EventFilter, after: int, page_size: int) -> AsyncIterator[Page]:
        query = self._of_log(filter, backwards=False)
        woken = asyncio.Event()
        self._followers.add(woken)
        try:
            while True:
                woken.clear()
                found = await self._fetch(query, after, END, page_size)
                reached = through(query, found)
                if reached > after:
                    after = reached
                    yield Page(found.events, after)
                else:
                    await woken.wait()
        finally:
            self._followers.discard(woken)

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open another"
            raise StoreUnavailable(store="memory", reason=reason, outcome="not stored")

    def _stored_before(self, idempotency: Idempotency) -> Appended:
        outcome, fingerprint = self._outcomes[idempotency.key]
        if fingerprint != idempotency.fingerprint:
            raise IdempotencyKeyReused(key=idempotency.key)
        return msgspec.structs.replace(outcome, duplicate=True)

    def _check_expectations(self, writes: Sequence[StreamWrite]) -> None:
        for write in writes:
            actual = len(self._streams.get(write.stream, ()))
            if write.expected is not None and write.expected != actual:
                raise ConcurrencyConflict(
                    stream=write.stream, expected=write.expected, actual=actual
                )

    def _check_condition(self, condition: AppendCondition) -> None:
        for event in self._log[condition.after :]:
            if condition.filter.matches(event.type, event.tags):
                raise ConditionFailed(after=condition.after, position=event.position)

    def _store(self, writes: Sequence[StreamWrite], idempotency: Idempotency | None) -> Appended:
        first = len(self._log) + 1
        last = self._log[-1].time if self._log else 0
        time = recorded(self._clock(), last)
        if time < last and any(write.events for write in writes):
            self._runs.append((first, time))
        for write in writes:
            for new in write.events:
                stream = self._streams.setdefault(write.stream, [])
                event = StoredEvent(
                    position=len(self._log) + 1,
                    stream=write.stream,
                    version=len(stream) + 1,
                    type=new.type,
                    type_version=new.type_version,
                    time=time,
                    tags=new.tags,
                    data=new.data,
                    metadata=new.metadata,
                )
                stream.append(event)
                self._log.append(event)
        streams = tuple(write.stream for write in writes)
        versions = tuple(len(self._streams.get(stream, ())) for stream in streams)
        outcome = Appended(first, len(self._log), time, streams, versions)
        if idempotency is not None:
            self._outcomes[idempotency.key] = (outcome, idempotency.fingerprint)
        self._wake()
        return outcome

    def _wake(self) -> None:
        for woken in self._followers:
            woken.set()


def _forwards(
    log: list[StoredEvent], filter: EventFilter, after: int, end: int, wanted: int
) -> tuple[StoredEvent, ...]:
    return _first(filter, wanted, islice(log, after, end))


def _backwards(
    log: list[StoredEvent], filter: EventFilter, after: int, end: int, wanted: int
) -> tuple[StoredEvent, ...]:
    return _first(filter, wanted, (log[index] for index in range(end - 1, after - 1, -1)))


def _first(
    filter: EventFilter, wanted: int, events: Iterable[StoredEvent]
) -> tuple[StoredEvent, ...]:
    selected = (event for event in events if filter.matches(event.type, event.tags))
    return tuple(islice(selected, wanted))


@contextlib.contextmanager
def _breaking(pipeline: Pipeline | None) -> Iterator[None]:
    try:
        yield
    except HeadwaterError as error:
        if pipeline is not None and pipeline.broken is None:
            pipeline.broken = error
        raise


async def _open(_url: str) -> MemoryEventStore:
    return MemoryEventStore()


ENGINE = EventStoreEngine(open=_open, shared=False)
"""Opens ``memory:``, a new store each time."""

__all__ = ["ENGINE", "MemoryEventStore"]
