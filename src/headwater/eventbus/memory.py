"""An event bus in memory: for tests, and between the services of one process."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice

from headwater.errors import StoreUnavailable
from headwater.eventbus.api import BusEvent, Delivery, partition_of
from headwater.eventbus.checks import check_count, check_subscription
from headwater.eventbus.engine import EventBusEngine
from headwater.eventbus.retention import Mark, Retention, check_kept, forgettable
from headwater.eventbus.types import EventType, clashes


class MemoryEventBus:
    """An `EventBus` of one process that is gone with it."""

    def __init__(self, partitions: int = 4) -> None:
        """Start empty.

        Raises:
            ConfigurationError: there is no partition.
        """
        check_count(partitions, bus="memory")
        self._logs: list[list[Delivery]] = [[] for _ in range(partitions)]
        self._begins = [0] * partitions  # offsets of what is kept
        self._marks: list[Mark] = []
        self._readers: dict[tuple[str, int], tuple[int, float]] = {}
        self._published: set[tuple[str, str, int]] = set()
        self._types: dict[str, list[EventType]] = {}
        self._waiting: set[asyncio.Event] = set()
        self._closed = False

    @property
    def partitions(self) -> int:
        """See `EventBus.partitions`."""
        return len(self._logs)

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """See `EventBus.publish`."""
        self._check_open()
        for event in events:
            identity = (event.source, event.epoch, event.position)
            if identity not in self._published:
                self._published.add(identity)
                partition = partition_of(event.stream, len(self._logs))
                log = self._logs[partition]
                log.append(Delivery(partition, self._end(partition) + 1, event))
        self._notify()

    async def subscribe(
        self, *, after: Mapping[int, int], page_size: int = 1000
    ) -> AsyncIterator[Sequence[Delivery]]:
        """See `EventBus.subscribe`."""
        check_subscription(after, page_size, partitions=self.partitions)
        offsets = dict(after)
        woken = asyncio.Event()
        self._waiting.add(woken)
        try:
            while True:
                self._check_open()
                woken.clear()
                page = self._page(offsets, page_size)
                if not page:
                    await woken.wait()
                    continue
                # The first partitions of this page are the last of the next: none starves.
                for delivery in page:
                    offsets.pop(delivery.partition, None)
                    offsets[delivery.partition] = delivery.offset
                yield page
        finally:
            self._waiting.discard(woken)

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """See `EventBus.announce`."""
        self._check_open()
        found = clashes(types, [one for known in self._types.values() for one in known])
        if not found:
            self._types[source] = list(types)
        return found

    async def end(self) -> dict[int, int]:
        """See `EventBus.end`."""
        self._check_open()
        return {partition: self._end(partition) for partition in range(len(self._logs))}

    def _end(self, partition: int) -> int:
        return self._begins[partition] + len(self._logs[partition]) - 1

    async def note_reader(self, reader: str, offsets: Mapping[int, int]) -> None:
        """See `EventBus.note_reader`."""
        self._check_open()
        now = time.monotonic()
        self._readers.update({(reader, p): (offset, now) for p, offset in offsets.items()})

    async def forget(self, retention: Retention) -> int:
        """See `EventBus.forget`."""
        ends, now = await self.end(), time.monotonic()
        marked = {mark.partition: mark.offset for mark in self._marks}
        for partition, end in ends.items():
            since = max(marked.get(partition, -1) + 1, self._begins[partition])
            new = self._logs[partition][since - self._begins[partition] :]
            if new:
                size = sum(len(delivery.event.data) for delivery in new)
                self._marks.append(Mark(partition, end, now, size))
        known = [
            (p, n) for (_, p), (n, seen) in self._readers.items() if seen > now - retention.silent_s
        ]
        readers = {p: min(n for q, n in known if q == p) for p, _ in known}
        found = forgettable(self._marks, readers, ends, now=now, retention=retention)
        count = 0
        for partition, until in found.items():
            log, begin = self._logs[partition], self._begins[partition]
            gone = log[: max(0, until + 1 - begin)]
            self._published -= {(d.event.source, d.event.epoch, d.event.position) for d in gone}
            del log[: len(gone)]
            self._begins[partition] += len(gone)
            count += len(gone)
        self._marks = [m for m in self._marks if m.offset > found.get(m.partition, -1)]
        return count

    async def close(self) -> None:
        """See `EventBus.close`."""
        self._closed = True
        self._notify()

    def _page(self, offsets: Mapping[int, int], page_size: int) -> list[Delivery]:
        page: list[Delivery] = []
        for partition, offset in offsets.items():
            start = max(0, offset + 1 - self._begins[partition])
            found = list(islice(self._logs[partition], start, start + page_size - len(page)))
            if found:
                check_kept(partition, offset, found[0].offset)
            page += found
        return page

    def _notify(self) -> None:
        for event in self._waiting:
            event.set()

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open a new one"
            raise StoreUnavailable(store="memory", reason=reason, outcome="not stored")


async def _open(_url: str, partitions: int) -> MemoryEventBus:
    return MemoryEventBus(partitions=partitions)


ENGINE = EventBusEngine(open=_open, shared=False, drops_repeated=True)
"""Opens ``memory:``, a new bus each time."""

__all__ = ["ENGINE", "MemoryEventBus"]
