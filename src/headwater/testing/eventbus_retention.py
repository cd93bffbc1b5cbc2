"""The event bus suite, on what is forgotten, and on what is kept for whoever has not read it."""

from collections.abc import Mapping

import pytest

from headwater.errors import EventsForgotten
from headwater.eventbus import EventBus, partition_of
from headwater.eventbus.retention import Retention
from headwater.testing.eventbus_base import (
    PARTITIONS,
    START,
    EventBusBase,
    bus_event,
    collect,
    positions,
    subscription,
)


def before(begins: Mapping[int, int]) -> dict[int, int]:
    """Return the offsets after which all that is kept comes."""
    return {partition: begin - 1 for partition, begin in begins.items()}


class EventBusRetention(EventBusBase):
    """What `EventBus.forget` and `EventBus.note_reader` promise."""

    async def test_what_all_have_read_is_forgotten(self, bus: EventBus) -> None:
        """Events go when they are old and everybody known has read them; offsets go on."""
        await bus.publish([bus_event(n) for n in range(1, 61)])
        ends, read = await bus.end(), await self._offsets(bus, 60)
        assert await bus.begin() == dict.fromkeys(ends, 0)
        old = Retention(age_s=0.0)
        assert await bus.forget(Retention(age_s=3600.0)) == 0
        await bus.note_reader("slow", {p: offsets[2] for p, offsets in read.items()})
        await bus.note_reader("fast", ends)
        if not self.engine.forgets:
            await self._check_keeping(bus)
            return
        assert await bus.forget(old) == 3 * PARTITIONS
        assert await bus.forget(old) == 0
        begins = await bus.begin()
        kept = await self._offsets(bus, 60 - 3 * PARTITIONS, after=before(begins))
        assert kept == {p: offsets[3:] for p, offsets in read.items()}
        assert all(read[p][2] < begin <= read[p][3] for p, begin in begins.items())
        await bus.note_reader("slow", ends)
        assert await bus.forget(old) == 60 - 4 * PARTITIONS
        assert await bus.end() == ends
        await bus.publish([bus_event(n) for n in range(61, 65)])
        found = await collect(bus, 4, after=ends)
        assert sorted(d.event.position for d in found) == [61, 62, 63, 64]
        assert all(d.offset > ends[d.partition] for d in found)

    async def _offsets(
        self, bus: EventBus, count: int, *, after: Mapping[int, int] = START
    ) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for one in sorted(await collect(bus, count, after=after), key=lambda d: d.offset):
            found.setdefault(one.partition, []).append(one.offset)
        return found

    async def test_who_is_told_keeps_nobody_waiting(self, bus: EventBus) -> None:
        """A reader that was silent for as long as was said does not count any more."""
        await bus.publish([bus_event(n) for n in range(1, 21)])
        await bus.note_reader("gone", dict.fromkeys(range(PARTITIONS), -1))
        if not self.engine.forgets:
            await self._check_keeping(bus)
            return
        assert await bus.forget(Retention(age_s=0.0)) == 0
        assert await bus.forget(Retention(age_s=0.0, silent_s=0.0)) == 20 - PARTITIONS

    async def test_a_reader_that_comes_too_late_is_told(self, bus: EventBus) -> None:
        """Who would go on, or begin, behind what was forgotten is refused, and can ask for more."""
        await bus.publish([bus_event(n) for n in range(1, 41)])
        read = await self._offsets(bus, 40)
        if not self.engine.forgets:
            await self._check_keeping(bus)
            return
        await bus.forget(Retention(age_s=0.0))
        begins = await bus.begin()
        for after in (START, {p: offsets[0] for p, offsets in read.items()}, {0: read[0][-3]}):
            with pytest.raises(EventsForgotten, match="forgotten before they were read") as caught:
                await collect(bus, 1, after=after)
            partition = caught.value.partition
            assert (caught.value.after, caught.value.begin) == (after[partition], begins[partition])
        assert len(await collect(bus, PARTITIONS, after=before(begins))) == PARTITIONS
        nearly = {p: offsets[-2] for p, offsets in read.items()}
        assert len(await collect(bus, PARTITIONS, after=nearly)) == PARTITIONS

    async def test_a_slow_reader_is_told_when_it_goes_on(self, bus: EventBus) -> None:
        """What is forgotten between two pages is not passed over either."""
        await bus.publish([bus_event(n, stream="s") for n in range(1, 41)])
        async with subscription(bus, {partition_of("s", PARTITIONS): -1}, 5) as pages:
            assert len(await anext(pages)) == 5
            if not self.engine.forgets:
                await self._check_keeping(bus)
                return
            await bus.forget(Retention(age_s=0.0))
            with pytest.raises(EventsForgotten):
                await anext(pages)

    async def test_a_partition_begins_anywhere(self, bus: EventBus) -> None:
        """A partition that was never used begins at 0, whatever was forgotten of the others."""
        await bus.publish([bus_event(n, stream="s") for n in range(1, 11)])
        if not self.engine.forgets:
            await self._check_keeping(bus)
            return
        await bus.forget(Retention(age_s=0.0))
        used = partition_of("s", PARTITIONS)
        begins = await bus.begin()
        assert begins[used] > 0
        assert {p: b for p, b in begins.items() if p != used} == {
            p: 0 for p in range(PARTITIONS) if p != used
        }

    async def test_too_much_is_forgotten(self, bus: EventBus) -> None:
        """While there are more bytes than allowed the oldest go, and no more than that."""
        for first in (1, 41, 81):
            await bus.publish([bus_event(n) for n in range(first, first + 40)])
            await bus.forget(Retention())
        assert await bus.forget(Retention(bytes_max=1 << 40)) == 0
        if not self.engine.forgets:
            await self._check_keeping(bus)
            return
        assert await bus.forget(Retention(bytes_max=1)) == 120 - PARTITIONS

    async def _check_keeping(self, bus: EventBus) -> None:
        """Check that a bus that is declared to forget nothing does not."""
        ends = await bus.end()
        there = await positions(bus, ends)
        for retention in (Retention(age_s=0.0, silent_s=0.0), Retention(bytes_max=1, silent_s=0.0)):
            assert await bus.forget(retention) == 0
        assert await bus.begin() == dict.fromkeys(ends, 0)
        assert await bus.end() == ends
        assert await positions(bus, ends) == there != set()
