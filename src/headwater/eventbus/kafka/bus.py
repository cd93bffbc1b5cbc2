"""An event bus on Apache Kafka: one topic of events, one of notes."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Self, TypeVar

from headwater.errors import ConfigurationError, StoreCorrupt, StoreUnavailable
from headwater.eventbus import cloudevents
from headwater.eventbus.api import WATERMARK, BusEvent, Delivery, partition_of
from headwater.eventbus.base import GroupCommits
from headwater.eventbus.checks import check_count, check_subscription
from headwater.eventbus.checks import check_kept as check_not_forgotten
from headwater.eventbus.kafka import notes
from headwater.eventbus.kafka.documents import HEADERS
from headwater.eventbus.kafka.faults import unavailable
from headwater.eventbus.kafka.publishing import Publisher, Record
from headwater.eventbus.kafka.reading import LogGap, Reader, Stopped
from headwater.eventbus.kafka.settings import Place
from headwater.eventbus.kafka.stored import Last, Log, find_last
from headwater.eventbus.kafka.topics import Found, Topics
from headwater.eventbus.retention import Growth, Retention, forgettable
from headwater.eventbus.types import EventType

T = TypeVar("T")
_THREADS_MAX = 1000
_CHECK_S = 5.0  # the client does not tell that a topic was deleted, or that a line is silent
_OVERHEAD_BYTES = 1024  # of what a record and its batch are besides key and value


class _Outgoing(NamedTuple):
    """An event on its way."""

    origin: tuple[str, str]
    position: int
    record: Record


class KafkaEventBus(GroupCommits[_Outgoing]):
    """An `EventBus` on a cluster; use `open`.

    The client blocks, so it is used in threads: one publishes, and each subscription has one.
    """

    ordered = False

    def __init__(
        self, place: Place, topics: Topics, found: Found, partitions: int, *, patience_s: float
    ) -> None:
        """Take over topics that are as they should be; use `open`."""
        super().__init__(place.name, partitions)
        self._place = place
        self._topics = topics
        self._patience_s = patience_s
        self._bytes_max = found.bytes_max
        self._publisher = Publisher(place, bytes_max=found.bytes_max, patience_s=patience_s)
        self._writer = ThreadPoolExecutor(1, "kafka-publishing")
        self._threads = ThreadPoolExecutor(_THREADS_MAX, "kafka-reading")
        self._readers: set[Reader] = set()
        self._confirmed: dict[tuple[str, str], dict[int, int]] = {}  # by origin and partition
        self._doubts = 0  # how often what was confirmed before may have been lost
        self._asked: dict[tuple[str, str], int] = {}  # as of which of them `stored` was asked

    @classmethod
    async def open(cls, url: str, *, partitions: int = 4, patience_s: float = 10.0) -> Self:
        """Open the bus of a prefix of topics, which are made if missing.

        Args:
            url: ``kafka://user:password@host:9092,host2:9092/prefix``; the guide has its options.
            partitions: of the topic of events.
            patience_s: how long at most the cluster may take for anything.

        Raises:
            ConfigurationError: the URL is wrong, or a topic is there with other settings.
            StoreCorrupt: the topic of events was replaced by another one.
            StoreUnavailable: the cluster cannot be reached.
        """
        check_count(partitions, bus="on Kafka")
        place = Place.parse(url)
        topics = Topics(place, patience_s=patience_s)
        found = await topics.ensure(partitions)
        bus = cls(place, topics, found, partitions, patience_s=patience_s)
        try:
            await bus._settle_log(found.id)
        except BaseException:
            await bus.close()
            raise
        return bus

    async def _settle_log(self, log: str) -> None:
        """Let the notes belong to a topic of events, if they belong to none yet."""
        known = notes.latest(await self._notes())
        if notes.LOG not in known:
            await self._note([(notes.LOG, log.encode())])
        elif known[notes.LOG].value != log.encode():
            raise self._topics.replaced("was deleted and made anew")

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """See `EventBus.publish`.

        Raises:
            ConfigurationError: an event is larger than the topic takes; nothing was published.
        """
        try:
            await super().publish(events)
        except ConfigurationError:
            found = await self._topics.bytes_max()
            if found == self._bytes_max:
                raise
            self._bytes_max = found
            await self._write(lambda: self._publisher.set_bytes_max(found))
            await super().publish(events)

    async def stored(self, source: str, epoch: str) -> dict[int, int]:
        """See `EventBus.stored`; what others have published since its last event is read."""
        self._check_open()
        doubts = self._doubts
        found = await self._last(source, epoch)
        stored = {partition: last.position for partition, last in found.items()}
        self._asked[source, epoch], self._confirmed[source, epoch] = doubts, dict(stored)
        return stored

    async def _last(self, source: str, epoch: str) -> dict[int, Last]:
        """Return for every partition the last event of a source, and note it."""
        first, following = await self._topics.offsets()
        noted = notes.last_of(notes.latest(await self._notes()), source, epoch)

        def look(partition: int) -> Last:
            log = Log(
                self._place,
                partition,
                first[partition],
                following[partition],
                self._patience_s,
            )
            return find_last(log, source=source, epoch=epoch, noted=noted.get(partition))

        every = sorted(first)
        looked = await asyncio.gather(*(self._read(partial(look, p)) for p in every))
        found = dict(zip(every, looked, strict=True))
        await self._note([
            notes.stored(partition, last, source, epoch)
            for partition, last in found.items()
            if last != noted.get(partition)
        ])  # fmt: skip
        return found

    async def subscribe(
        self, *, after: Mapping[int, int], page_size: int = 1000
    ) -> AsyncIterator[Sequence[Delivery]]:
        """See `EventBus.subscribe`.

        Raises:
            StoreCorrupt: the log ends before an offset, or the topic is another one.
        """
        check_subscription(after, page_size, partitions=self._partitions)
        self._check_open()
        reader = Reader(self._place, after)
        self._readers.add(reader)
        checked = -math.inf
        try:
            while True:
                if time.monotonic() > checked + _CHECK_S:
                    await self._check_there(reader.after)
                    checked = time.monotonic()
                self._check_open()
                page = await self._read(partial(reader.page, page_size, wait_s=_CHECK_S))
                if page:
                    yield page
        except (LogGap, Stopped) as gap:
            self._check_open()
            await self._check_there(reader.after)
            raise StoreCorrupt(store=self._name, reason=str(gap), outcome="not stored") from gap
        finally:
            reader.stop()
            if not self._closed:  # else whoever closes the bus does it
                self._readers.discard(reader)
                self._threads.submit(reader.close)

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """See `EventBus.announce`."""
        self._check_open()
        key, value = notes.claimed(source, types)
        await self._note([(key, value)])
        log = await self._notes()
        if all(note.key != key for note in log):
            raise unavailable(self._name, "what was announced is not there any more")
        verdict = notes.decide(log, key)
        await self._note([(one, None) for one in verdict.over])
        return verdict.clashes

    async def begin(self) -> dict[int, int]:
        """See `EventBus.begin`."""
        self._check_open()
        first, _ = await self._topics.offsets()
        return first

    async def end(self) -> dict[int, int]:
        """See `EventBus.end`."""
        self._check_open()
        _, following = await self._topics.offsets()
        return {partition: offset - 1 for partition, offset in following.items()}

    async def note_reader(self, reader: str, offsets: Mapping[int, int]) -> None:
        """See `EventBus.note_reader`."""
        self._check_open()
        await self._note(notes.reached(reader, offsets))

    async def forget(self, retention: Retention) -> int:
        """See `EventBus.forget`; how many bytes an event has is known on average."""
        self._check_open()
        for origin in list(self._confirmed):
            await self._last(*origin)  # and it is noted, before something of it is forgotten
        first, following = await self._topics.offsets()
        noted = notes.growth_of(notes.latest(await self._notes()), first)
        await self._note([*await self._grown(noted, first, following), (notes.CLOCK, b"{}")])
        known = notes.latest(await self._notes())
        now, growth = known[notes.CLOCK].at, notes.growth_of(known, first)
        found = forgettable(
            growth,
            notes.readers_of(known, now=now, retention=retention),
            {partition: offset - 1 for partition, offset in following.items()},
            now=now,
            retention=retention,
        )
        begins = {p: offset + 1 for p, offset in found.items() if offset >= first[p]}
        if begins:
            await self._topics.delete_before(begins)
        over = [step for step in growth if step.offset <= found.get(step.partition, -1)]
        await self._note([(notes.growth_key(step), None) for step in over])
        return sum(begin - first[partition] for partition, begin in begins.items())

    async def _grown(
        self, growth: Sequence[Growth], first: Mapping[int, int], following: Mapping[int, int]
    ) -> list[tuple[str, bytes]]:
        """Return notes of how partitions have grown since it was last noted."""
        noted = {step.partition: step.offset for step in growth}
        found = []
        for partition, after in following.items():
            since = max(noted.get(partition, -1) + 1, first[partition])
            if since < after:
                mean = partial(
                    notes.bytes_each,
                    self._place,
                    partition,
                    first=since,
                    following=after,
                    patience_s=self._patience_s,
                )
                found.append(notes.grown(partition, after - 1, await self._read(mean)))
        return found

    async def _close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._end_threads)

    def _end_threads(self) -> None:
        readers = list(self._readers)
        for reader in readers:
            reader.stop()
        for reader in readers:
            reader.close()
        self._readers.clear()
        self._threads.shutdown()
        self._writer.shutdown()
        self._publisher.close()

    def _entry(self, event: BusEvent) -> _Outgoing:
        partition = partition_of(event.stream, self._partitions)
        key, value = event.stream.encode(), cloudevents.encode(event)
        size = len(key) + len(value) + _OVERHEAD_BYTES
        if size > self._bytes_max:
            raise ConfigurationError(
                subject=f"topic {self._place.events} of event bus {self._name}",
                reason=f"event {event.type!r} at {event.source}/{event.position} has {size} bytes, "
                f"the topic takes {self._bytes_max}: raise its max.message.bytes",
            )
        record = Record(self._place.events, partition, key, value, HEADERS)
        position = 0 if event.type == WATERMARK else event.position
        return _Outgoing((event.source, event.epoch), position, record)

    async def _append(self, entries: Sequence[_Outgoing]) -> None:
        """Publish, unless something is missing of what was published before.

        A broker that was away may have come back without its last events. More of a source, after
        what is missing then, would keep subscribers from taking that in when it comes again.
        """
        await self._note_cut()
        for origin in {one.origin for one in entries}:
            if self._asked.get(origin, 0) < self._doubts:
                await self._check_kept(origin)
        await self._send([one.record for one in entries])
        for origin, position, record in entries:
            known = self._confirmed.setdefault(origin, {})
            known[record.partition] = max(position, known.get(record.partition, 0))

    async def _check_kept(self, origin: tuple[str, str]) -> None:
        """Check that what was confirmed of a source is there.

        Raises:
            StoreUnavailable: it is not.
        """
        doubts, confirmed = self._doubts, self._confirmed.get(origin, {})
        for partition, last in (await self._last(*origin)).items():
            if last.position < confirmed.get(partition, 0):
                reason = (
                    f"partition {partition} had events of {origin[0]} up to position "
                    f"{confirmed[partition]}, and to {last.position} now: ask what is stored, and "
                    "publish again what comes after it"
                )
                raise unavailable(self._name, reason)
        self._asked[origin] = doubts

    async def _note_cut(self) -> None:
        if await self._write(self._publisher.was_cut):
            self._doubts += 1

    async def _note(self, given: Sequence[tuple[str, bytes | None]]) -> None:
        if given:
            await self._note_cut()
            await self._send(notes.records(self._place, given))

    async def _send(self, records: Sequence[Record]) -> None:
        try:
            await self._write(lambda: self._publisher.send(records))
        except StoreUnavailable:
            self._doubts += 1
            raise

    async def _notes(self) -> list[notes.Note]:
        return await self._read(lambda: notes.read(self._place, patience_s=self._patience_s))

    async def _check_there(self, after: Mapping[int, int]) -> None:
        """Check that what comes after some offsets is there, or is what will come next.

        Raises:
            EventsForgotten: it was forgotten.
            StoreCorrupt: the log ends before.
        """
        first, following = await self._topics.offsets()
        for partition, offset in after.items():
            check_not_forgotten(partition, offset, first[partition], bus=self._name)
            if offset >= following[partition]:
                reason = (
                    f"partition {partition} ends at offset {following[partition] - 1}, and what "
                    f"comes after {offset} was asked for: its log was cut"
                )
                raise StoreCorrupt(store=self._name, reason=reason, outcome="not stored")

    async def _write(self, work: Callable[[], T]) -> T:
        return await self._in(self._writer, work)

    async def _read(self, work: Callable[[], T]) -> T:
        return await self._in(self._threads, work)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(threads, work)
        except RuntimeError:  # they have ended
            self._check_open()
            raise
        return await future


__all__ = ["KafkaEventBus"]
