"""An event bus in memory as brokers have them: gaps between offsets, partitions in no order.

Each partition of a publication becomes visible at a moment of its own, what is published again is
there again, and retention may take the last event, too.
"""

import asyncio
from collections.abc import Mapping, Sequence

from headwater.eventbus import WATERMARK, BusEvent, Delivery, EventType, partition_of
from headwater.eventbus.base import PagedBus
from headwater.eventbus.checks import check_count, check_kept
from headwater.eventbus.memory import MemoryEventBus, MemoryWake
from headwater.eventbus.retention import Retention


class SparseEventBus(PagedBus):
    """An `EventBus` of one process; ``held_back`` are partitions whose events wait for `let_go`.

    ``asked`` is how often its ends were looked for. It says what is ``stored`` only if it `tells`.
    """

    ordered = False

    def __init__(self, partitions: int, *, tells: bool = True) -> None:
        check_count(partitions, bus="sparse")
        self._fired = MemoryWake()
        super().__init__("sparse", partitions, self._fired)
        self._logs: list[list[Delivery]] = [[] for _ in range(partitions)]
        self._begins = [0] * partitions
        self._read: dict[str, Mapping[int, int]] = {}
        self._names = MemoryEventBus(1)
        self.held_back: set[int] = set()
        self.asked = 0
        self._tells = tells
        self._let_go = asyncio.Event()

    def let_go(self) -> None:
        """Make visible what is held back."""
        self.held_back.clear()
        self._let_go.set()
        self._let_go = asyncio.Event()

    async def publish(self, events: Sequence[BusEvent]) -> None:
        self._check_open()
        by_partition: dict[int, list[BusEvent]] = {}
        for event in events:
            by_partition.setdefault(partition_of(event.stream, self.partitions), []).append(event)
        ways = [self._store(p, by_partition[p]) for p in sorted(by_partition, reverse=True)]
        await asyncio.gather(*ways)

    async def _store(self, partition: int, events: Sequence[BusEvent]) -> None:
        while partition in self.held_back:
            await self._let_go.wait()
        for event in events:
            await asyncio.sleep(0)
            offset = self._end(partition) + 1 + event.position % 3
            self._logs[partition].append(Delivery(partition, offset, event))
            self._fired.fire()

    async def stored(self, source: str, epoch: str) -> dict[int, int]:
        self._check_open()
        logs = self._logs if self._tells else []
        return {
            partition: max(
                (
                    d.event.position
                    for d in log
                    if (d.event.source, d.event.epoch) == (source, epoch)
                    and d.event.type != WATERMARK
                ),
                default=0,
            )
            for partition, log in enumerate(logs)
        }

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        self._check_open()
        return await self._names.announce(source, types)

    async def begin(self) -> dict[int, int]:
        self._check_open()
        return dict(enumerate(self._begins))

    async def end(self) -> dict[int, int]:
        self._check_open()
        self.asked += 1
        return {partition: self._end(partition) for partition in range(self.partitions)}

    def _end(self, partition: int) -> int:
        log = self._logs[partition]
        return log[-1].offset if log else self._begins[partition] - 1

    async def note_reader(self, reader: str, offsets: Mapping[int, int]) -> None:
        self._check_open()
        self._read[reader] = dict(offsets)

    async def forget(self, retention: Retention) -> int:
        if retention.age_s and not 0 < retention.bytes_max < 1_000_000:
            return 0
        readers = list(self._read.values()) if retention.silent_s else []
        before = sum(map(len, self._logs))
        for partition, log in enumerate(self._logs):
            self.cut(
                partition,
                min(
                    [one[partition] for one in readers] + [d.offset for d in log[-2:-1]], default=-1
                ),
            )
        return before - sum(map(len, self._logs))

    def cut(self, partition: int, until: int) -> None:
        """Forget the events of a partition up to an offset."""
        self._logs[partition] = [d for d in self._logs[partition] if d.offset > until]
        self._begins[partition] = max(self._begins[partition], until + 1)

    async def close(self) -> None:
        self._closed = True
        self._fired.fire()

    async def _page(
        self, offsets: Mapping[int, int], size: int, *, live: bool
    ) -> Sequence[Delivery]:
        page: list[Delivery] = []
        for partition, offset in offsets.items():
            check_kept(partition, offset, self._begins[partition], bus="sparse")
            page += [d for d in self._logs[partition] if d.offset > offset][: size - len(page)]
        return page
