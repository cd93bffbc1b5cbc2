"""An event bus in memory: for tests, and between the services of one process."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from itertools import islice

from headwater.eventbus.api import BusEvent, Delivery, partition_of
from headwater.eventbus.base import PagedBus
from headwater.eventbus.checks import check_count, check_kept
from headwater.eventbus.engine import EventBusEngine
from headwater.eventbus.retention import Growth, Retention, forgettable
from headwater.eventbus.types import EventType, clashes


class MemoryWake:
    """Wakes the tasks that wait for something new."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._next = asyncio.Event()
        self._count = 0

    def ticket(self) -> int:
        """See `Wake.ticket`."""
        return self._count

    async def wait(self, ticket: int) -> None:
        """See `Wake.wait`."""
        if self._count == ticket:
            await self._next.wait()

    def fire(self) -> None:
        """Wake all that wait."""
        self._count += 1
        self._next.set()
        self._next = asyncio.Event()


class MemoryEventBus(PagedBus):
    """An `EventBus` of one process that is gone with it."""

    def __init__(self, partitions: int = 4) -> None:
        """Start empty.

        Raises:
            ConfigurationError: there is no partition.
        """
        check_count(partitions, bus="memory")
        self._wakes = MemoryWake()
        super().__init__("memory", partitions, self._wakes)
        self._logs: list[list[Delivery]] = [[] for _ in range(partitions)]
        self._begins = [0] * partitions  # offsets of what is kept
        self._growth: list[Growth] = []
        self._readers: dict[tuple[str, int], tuple[int, float]] = {}
        self._published: set[tuple[str, str, int]] = set()
        self._types: dict[str, list[EventType]] = {}

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
        self._wakes.fire()

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """See `EventBus.announce`."""
        self._check_open()
        found = clashes(types, [one for known in self._types.values() for one in known])
        if not found:
            self._types[source] = list(types)
        return found

    async def begin(self) -> dict[int, int]:
        """See `EventBus.begin`."""
        self._check_open()
        return dict(enumerate(self._begins))

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
        known = {step.partition: step.offset for step in self._growth}
        for partition, end in ends.items():
            since = max(known.get(partition, -1) + 1, self._begins[partition])
            new = self._logs[partition][since - self._begins[partition] :]
            if new:
                size = sum(len(delivery.event.data) for delivery in new)
                self._growth.append(Growth(partition, end, now, size))
        read = [
            (p, n) for (_, p), (n, seen) in self._readers.items() if seen > now - retention.silent_s
        ]
        readers = {p: min(n for q, n in read if q == p) for p, _ in read}
        found = forgettable(self._growth, readers, ends, now=now, retention=retention)
        count = 0
        for partition, until in found.items():
            log, begin = self._logs[partition], self._begins[partition]
            gone = log[: max(0, until + 1 - begin)]
            self._published -= {(d.event.source, d.event.epoch, d.event.position) for d in gone}
            del log[: len(gone)]
            self._begins[partition] += len(gone)
            count += len(gone)
        self._growth = [g for g in self._growth if g.offset > found.get(g.partition, -1)]
        return count

    async def close(self) -> None:
        """See `EventBus.close`."""
        self._closed = True
        self._wakes.fire()

    async def _page(
        self,
        offsets: Mapping[int, int],
        size: int,
        *,
        live: bool,  # noqa: ARG002  # all the same
    ) -> Sequence[Delivery]:
        page: list[Delivery] = []
        for partition, offset in offsets.items():
            start = max(0, offset + 1 - self._begins[partition])
            found = list(islice(self._logs[partition], start, start + size - len(page)))
            if found:
                check_kept(partition, offset, self._begins[partition], bus=self._name)
            page += found
        return page


async def _open(_url: str, partitions: int) -> MemoryEventBus:
    return MemoryEventBus(partitions=partitions)


ENGINE = EventBusEngine(open=_open, shared=False, ordered=True, drops_repeated=True)
"""Opens ``memory:``, a new bus each time."""

__all__ = ["ENGINE", "MemoryEventBus", "MemoryWake"]
