"""The suite that every event bus passes: one test per sentence of `headwater.eventbus.api`.

A backend's whole test module::

    class TestMyEventBus(EventBusConformance):
        engine = ENGINE

        async def open_bus(self, place: Path, partitions: int) -> EventBus:
            return await MyEventBus.open(place / "bus", partitions=partitions)
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar, cast

import pytest
import pytest_asyncio

from headwater.errors import (
    ConfigurationError,
    EventsForgotten,
    InvalidInput,
    StoreUnavailable,
)
from headwater.eventbus import (
    WATERMARK,
    BusEvent,
    Delivery,
    EventBus,
    EventBusEngine,
    EventType,
    partition_of,
    watermark,
)
from headwater.eventbus.retention import Retention

WAIT_S_MAX = 30.0
PARTITIONS = 4
START = dict.fromkeys(range(PARTITIONS), -1)


def bus_event(
    position: int, *, stream: str = "", source: str = "accounts", epoch: str = "e1"
) -> BusEvent:
    """Return an event with all its parts in use."""
    return BusEvent(
        source=source,
        epoch=epoch,
        position=position,
        stream=stream or f"Account/{position % 7}",
        version=position,
        type="MoneyWithdrawn",
        type_version=2,
        time=1_700_000_000_123_456 + position,
        tags=("account:7", 'odd:"ü"'),
        data=b'{"amount":%d,"text":"\xc3\xbc"}' % position,
        metadata=b'{"id":"0190","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
        confirmed=position // 2,
    )


def event_type(source: str, field: str, *, name: str = "Moved") -> EventType:
    """Return a type with one field that must be there."""
    return EventType(name, source, f"{source}.{name}", {field: "text"}, (field,))


async def collect(
    bus: EventBus, count: int, *, after: Mapping[int, int] = START, page_size: int = 1000
) -> list[Delivery]:
    """Return the first deliveries of a subscription, at least so many as asked for."""
    found: list[Delivery] = []
    async with asyncio.timeout(WAIT_S_MAX), subscription(bus, after, page_size) as pages:
        while len(found) < count:
            found += await anext(pages)
    return found


def subscription(
    bus: EventBus, after: Mapping[int, int] = START, page_size: int = 1000
) -> "aclosing[AsyncGenerator[list[Delivery], None]]":
    """Subscribe for the length of a block."""
    pages = bus.subscribe(after=after, page_size=page_size)
    return aclosing(cast("AsyncGenerator[list[Delivery], None]", pages))


async def _publish_in_turn(bus: EventBus, *, calls: int, size: int) -> None:
    for first in range(1, calls * size + 1, size):
        await bus.publish([bus_event(n) for n in range(first, first + size)])


async def _positions(bus: EventBus, ends: Mapping[int, int]) -> set[int]:
    """Return the positions of what there is up to some offsets."""
    left = {partition: end for partition, end in ends.items() if end >= 0}
    found: set[int] = set()
    async with subscription(bus, dict.fromkeys(left, -1)) as pages:
        while left:
            for one in await anext(pages):
                if one.offset <= ends[one.partition]:
                    found.add(one.event.position)
                if one.offset >= ends[one.partition]:
                    left.pop(one.partition, None)
    return found


def before(begins: Mapping[int, int]) -> dict[int, int]:
    """Return the offsets after which all that is kept comes."""
    return {partition: begin - 1 for partition, begin in begins.items()}


class EventBusConformance:
    """Subclass it, say how to open a bus, and declare what the backend can.

    Attributes:
        engine: what it says it can.
    """

    pytestmark = pytest.mark.asyncio
    engine: ClassVar[EventBusEngine]

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        """Open a bus whose data is in the directory ``place``."""
        raise NotImplementedError

    @property
    def shared(self) -> bool:
        """Whether buses at one place share their data, and keep it when all are closed."""
        return self.engine.shared

    @pytest_asyncio.fixture
    async def bus(self, tmp_path: Path) -> AsyncIterator[EventBus]:
        """Open a bus of four partitions."""
        bus = await self.open_bus(tmp_path, PARTITIONS)
        yield bus
        await bus.close()

    async def test_what_is_published_is_delivered(self, bus: EventBus) -> None:
        """An event is delivered with all its parts, in the partition of its stream."""
        events = [bus_event(n) for n in range(1, 30)]
        await bus.publish(events)
        found = await collect(bus, 29)
        assert bus.partitions == PARTITIONS
        assert sorted((d.event for d in found), key=lambda e: e.position) == events
        for delivery in found:
            assert delivery.partition == partition_of(delivery.event.stream, PARTITIONS)

    async def test_any_type_and_content_passes(self, bus: EventBus) -> None:
        """Types nobody here knows, empty tags and any JSON content pass unchanged."""
        contents = [b"null", b"[1,2.50,1e3]", b'"text"', b'{"a":{"b":[]}}', b"0"]
        events = [
            BusEvent("weather", "x/1", n, "Köln", 1, f"com.example.{n}", 1, 0, (), content, b"{}")
            for n, content in enumerate(contents, 1)
        ]
        await bus.publish(events)
        assert [d.event for d in await collect(bus, len(events))] == events

    async def test_order_of_a_stream_is_kept(self, bus: EventBus) -> None:
        """Events of a stream come in the order of publishing, also over several calls."""
        for first in range(1, 101, 10):
            await bus.publish([bus_event(n) for n in range(first, first + 10)])
        by_stream: dict[str, list[int]] = {}
        for delivery in await collect(bus, 100):
            by_stream.setdefault(delivery.event.stream, []).append(delivery.event.position)
        assert len(by_stream) == 7
        assert all(positions == sorted(positions) for positions in by_stream.values())

    async def test_offsets_rise_within_a_partition(self, bus: EventBus) -> None:
        """Offsets of a partition rise strictly, and `end` returns the last of each."""
        assert await bus.end() == START
        await bus.publish([bus_event(n) for n in range(1, 50)])
        last: dict[int, int] = dict(START)
        for delivery in await collect(bus, 49, page_size=3):
            assert delivery.offset > last[delivery.partition]
            last[delivery.partition] = delivery.offset
        assert await bus.end() == last

    async def test_partitions_are_in_order_as_declared(self, bus: EventBus) -> None:
        """Whoever sees an event of an ordered bus can read all that came before it or with it."""
        assert bus.ordered == self.engine.ordered
        publishing = asyncio.create_task(_publish_in_turn(bus, calls=20, size=10))
        seen = 0
        async with asyncio.timeout(WAIT_S_MAX), subscription(bus, page_size=3) as pages:
            while seen < 200:
                seen = max(d.event.position for d in await anext(pages))
                if self.engine.ordered:
                    there = await _positions(bus, await bus.end())
                    assert there >= set(range(1, -(-seen // 10) * 10 + 1)), "all calls up to it"
        await publishing

    async def test_a_watermark_is_delivered(self, bus: EventBus) -> None:
        """Where partitions are in no order, how far a source is confirmed gets through."""
        await bus.publish([bus_event(n) for n in range(1, 8)])
        await bus.publish([watermark("accounts", "e1", 7)])
        await bus.publish([bus_event(8, stream="accounts")])
        found = await collect(bus, 8 if self.engine.ordered else 9)
        told = [d.event for d in found if d.event.type == WATERMARK]
        if not self.engine.ordered:  # else nobody publishes such, and it may pass for a repetition
            assert told == [watermark("accounts", "e1", 7)]
        assert {d.partition for d in found if d.event.stream == "accounts"} == {
            partition_of("accounts", PARTITIONS)
        }

    async def test_nothing_to_publish_is_fine(self, bus: EventBus) -> None:
        """Publishing no events changes nothing."""
        await bus.publish([])
        assert await bus.end() == START

    async def test_replay_from_any_offset(self, bus: EventBus) -> None:
        """A subscription after an offset delivers exactly what follows it, as often as wanted."""
        await bus.publish([bus_event(n, stream="one") for n in range(1, 21)])
        partition = partition_of("one", PARTITIONS)
        whole = await collect(bus, 20, after={partition: -1})
        for number in (0, 7, 18):
            rest = await collect(bus, 19 - number, after={partition: whole[number].offset})
            assert rest == whole[number + 1 :]

    async def test_only_the_wanted_partitions_are_delivered(self, bus: EventBus) -> None:
        """A subscription to some partitions gets nothing of the others."""
        await bus.publish([bus_event(n) for n in range(1, 200)])
        wanted = {1: -1, 3: -1}
        expected = [
            n for n in range(1, 200) if partition_of(f"Account/{n % 7}", PARTITIONS) in wanted
        ]
        found = await collect(bus, len(expected), after=wanted)
        assert sorted(d.event.position for d in found) == expected

    async def test_pages_are_bounded_and_never_empty(self, bus: EventBus) -> None:
        """No page is larger than asked for, and none is empty."""
        await bus.publish([bus_event(n) for n in range(1, 51)])
        async with subscription(bus, page_size=7) as pages:
            sizes: list[int] = []
            while sum(sizes) < 50:
                sizes.append(len(await anext(pages)))
        assert set(sizes) <= set(range(1, 8))

    async def test_no_partition_starves(self, bus: EventBus) -> None:
        """While one partition has more than a page, the others are delivered all the same."""
        busy, quiet = "Account/0", "Account/1"
        assert partition_of(busy, PARTITIONS) != partition_of(quiet, PARTITIONS)
        await bus.publish([bus_event(n, stream=busy) for n in range(1, 101)])
        await bus.publish([bus_event(101, stream=quiet)])
        async with subscription(bus, page_size=10) as pages:
            first = [d.event.stream for _ in range(2) for d in await anext(pages)]
        assert quiet in first

    async def test_subscribers_are_woken(self, bus: EventBus) -> None:
        """Whoever waits gets what is published later; each subscriber gets everything."""
        tasks = [asyncio.create_task(collect(bus, 3)) for _ in range(3)]
        await asyncio.sleep(0)
        for n in range(1, 4):
            await bus.publish([bus_event(n)])
        for found in await asyncio.gather(*tasks):
            assert sorted(d.event.position for d in found) == [1, 2, 3]

    async def test_concurrent_publishers_lose_nothing(self, bus: EventBus) -> None:
        """Events of many calls at once are all delivered, each call's in its order."""

        async def publish(source: str) -> None:
            for n in range(1, 26):
                await bus.publish([bus_event(n, source=source, stream="s")])

        sources = [f"s{n}" for n in range(8)]
        await asyncio.gather(*(publish(source) for source in sources))
        found = await collect(bus, 200)
        for source in sources:
            positions = [d.event.position for d in found if d.event.source == source]
            assert positions == list(range(1, 26))

    async def test_repeated_events_are_as_declared(self, bus: EventBus) -> None:
        """Published again, an event is dropped or comes again; in another epoch it is another."""
        events = [bus_event(n, stream="s") for n in (1, 2, 3)]
        await bus.publish(events)
        await bus.publish([*events[1:], events[2]])
        await bus.publish([bus_event(n, stream="s", source="own") for n in (1, 2, 1, 3)])
        await bus.publish([bus_event(3, stream="s", epoch="e2"), bus_event(4, stream="s")])
        await bus.publish([bus_event(4, stream="s", source="other")])
        expected = 9 if self.engine.drops_repeated else 13
        found = await collect(bus, expected)
        identities = Counter((d.event.source, d.event.epoch, d.event.position) for d in found)
        assert len(identities) == 9
        first_seen = [d.event.position for d in found if d.event.source == "own"]
        assert list(dict.fromkeys(first_seen)) == [1, 2, 3]
        assert identities["accounts", "e1", 3] == (1 if self.engine.drops_repeated else 3)
        assert len(found) == expected

    async def test_cancelled_publishing_can_be_repeated(self, bus: EventBus) -> None:
        """A publication that was cancelled at any step is whole after publishing it again."""
        for n in range(1, 30):
            events = [bus_event(2 * n - 1, stream="s"), bus_event(2 * n, stream="s")]
            task = asyncio.ensure_future(bus.publish(events))
            for _ in range(n % 10):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await bus.publish(events)
        found = await collect(bus, 58)
        first_seen = dict.fromkeys(d.event.position for d in found)
        assert list(first_seen) == list(range(1, 59))

    async def test_a_name_means_one_thing(self, bus: EventBus) -> None:
        """A service that announces another type under a name of another's is told, and not kept."""
        ours, theirs = event_type("accounts", "id"), event_type("stock", "item")
        assert await bus.announce("accounts", [ours]) == []
        assert await bus.announce("stock", [theirs, event_type("stock", "id", name="Own")]) == [
            (theirs, ours)
        ]
        again = event_type("accounts", "id", name="Own")
        assert await bus.announce("accounts", [ours, again]) == []  # nothing of stock's was kept
        assert await bus.announce("stock", [event_type("stock", "id")]) == []

    async def test_an_announcement_replaces_the_former_one(self, bus: EventBus) -> None:
        """What a service announces no more is free for others."""
        assert await bus.announce("accounts", [event_type("accounts", "id")]) == []
        assert await bus.announce("accounts", [event_type("accounts", "id", name="Other")]) == []
        assert await bus.announce("stock", [event_type("stock", "item")]) == []
        assert await bus.announce("accounts", []) == []

    async def test_of_two_announcements_at_once_one_is_kept(
        self, bus: EventBus, tmp_path: Path
    ) -> None:
        """Of two services that announce two types under one name at once one is kept."""
        other = await self.open_bus(tmp_path, PARTITIONS)
        found = await asyncio.gather(
            bus.announce("accounts", [event_type("accounts", "id")]),
            other.announce("stock", [event_type("stock", "item")]),
        )
        assert sorted(map(len, found)) == ([0, 1] if self.engine.shared else [0, 0])
        await other.close()

    async def test_bad_subscriptions_are_refused(self, bus: EventBus) -> None:
        """Partitions that do not exist, none at all, and empty pages are refused with a remedy."""
        for after, page_size, match in (
            ({4: -1}, 10, r"partitions \[4\] .* 0 to 3"),
            ({-1: -1, 0: -1}, 10, r"partitions \[-1\] .* 0 to 3"),
            ({}, 10, "name some"),
            ({0: -1}, 0, "page_size is 0"),
        ):
            async with subscription(bus, after, page_size) as pages:
                with pytest.raises(InvalidInput, match=match):
                    await anext(pages)

    async def test_a_bus_has_partitions(self, tmp_path: Path) -> None:
        """A bus without partitions is refused."""
        with pytest.raises(ConfigurationError, match=r"0 partitions .* at least 1"):
            await self.open_bus(tmp_path, 0)

    async def test_a_closed_bus_says_so(self, bus: EventBus) -> None:
        """After `close`, which may be called twice, everything raises `StoreUnavailable`."""
        waiting = asyncio.create_task(collect(bus, 1))
        await asyncio.sleep(0)
        await bus.close()
        await bus.close()
        for use in (
            bus.publish([bus_event(1)]), bus.begin(), bus.end(), bus.announce("s", []),
            collect(bus, 1), waiting,
        ):  # fmt: skip
            with pytest.raises(StoreUnavailable, match="closed") as caught:
                await use
            assert caught.value.outcome == "not stored"

    async def test_sharing_is_as_declared(self, bus: EventBus, tmp_path: Path) -> None:
        """Buses at one place share events and wake-ups, or nothing."""
        other = await self.open_bus(tmp_path, PARTITIONS)
        waiting = asyncio.create_task(collect(other, 1))
        await asyncio.sleep(0)
        await bus.publish([bus_event(1)])
        if not self.engine.shared:
            assert await other.end() == START
            await other.publish([bus_event(1)])
        assert [d.event for d in await waiting] == [bus_event(1)]
        assert await other.end() == await bus.end()
        await other.close()

    async def test_keeping_is_as_declared(self, bus: EventBus, tmp_path: Path) -> None:
        """What was published is there after closing and opening again, if buses share."""
        await bus.publish([bus_event(n) for n in range(1, 10)])
        end = await bus.end()
        await bus.close()
        again = await self.open_bus(tmp_path, PARTITIONS)
        assert await again.end() == (end if self.engine.shared else START)
        await again.close()

    async def test_the_number_of_partitions_is_kept(self, bus: EventBus, tmp_path: Path) -> None:
        """A shared bus cannot be opened with another number of partitions; both are named."""
        if self.engine.shared:
            with pytest.raises(ConfigurationError, match="4 partitions, 5 were asked for"):
                await self.open_bus(tmp_path, 5)
        else:
            other = await self.open_bus(tmp_path, 5)
            assert other.partitions == 5
            await other.close()
        assert bus.partitions == PARTITIONS

    async def test_what_all_have_read_is_forgotten(self, bus: EventBus) -> None:
        """Events go when they are old and everybody known has read them; offsets go on."""
        await bus.publish([bus_event(n) for n in range(1, 61)])
        ends, read = await bus.end(), await self._offsets(bus, 60)
        assert await bus.begin() == dict.fromkeys(ends, 0)
        old = Retention(age_s=0.0)
        assert await bus.forget(Retention(age_s=3600.0)) == 0
        await bus.note_reader("slow", {p: offsets[2] for p, offsets in read.items()})
        await bus.note_reader("fast", ends)
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
        assert await bus.forget(Retention(age_s=0.0)) == 0
        assert await bus.forget(Retention(age_s=0.0, silent_s=0.0)) == 20 - PARTITIONS

    async def test_a_reader_that_comes_too_late_is_told(self, bus: EventBus) -> None:
        """Who would go on, or begin, behind what was forgotten is refused, and can ask for more."""
        await bus.publish([bus_event(n) for n in range(1, 41)])
        read = await self._offsets(bus, 40)
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
            await bus.forget(Retention(age_s=0.0))
            with pytest.raises(EventsForgotten):
                await anext(pages)

    async def test_a_partition_begins_anywhere(self, bus: EventBus) -> None:
        """A partition that was never used begins at 0, whatever was forgotten of the others."""
        await bus.publish([bus_event(n, stream="s") for n in range(1, 11)])
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
        assert await bus.forget(Retention(bytes_max=1)) == 120 - PARTITIONS
