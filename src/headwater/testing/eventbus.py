"""The suite that every event bus passes: one test per sentence of `headwater.eventbus.api`.

A backend's whole test module::

    class TestMyEventBus(EventBusConformance):
        engine = ENGINE

        async def open_bus(self, place: Path, partitions: int) -> EventBus:
            return await MyEventBus.open(place / "bus", partitions=partitions)
"""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from headwater.errors import ConfigurationError, InvalidInput, StoreUnavailable
from headwater.eventbus import WATERMARK, BusEvent, EventBus, partition_of, watermark
from headwater.testing.eventbus_base import (
    PARTITIONS,
    START,
    WAIT_S_MAX,
    bus_event,
    collect,
    event_type,
    positions,
    subscription,
)
from headwater.testing.eventbus_retention import EventBusRetention


async def _publish_in_turn(bus: EventBus, *, calls: int, size: int) -> None:
    for first in range(1, calls * size + 1, size):
        await bus.publish([bus_event(n) for n in range(first, first + size)])


class EventBusConformance(EventBusRetention):
    """Subclass it, say how to open a bus, and declare what the backend can."""

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
                    there = await positions(bus, await bus.end())
                    assert there >= set(range(1, -(-seen // 10) * 10 + 1)), "all calls up to it"
        await publishing

    async def test_a_watermark_is_delivered(self, bus: EventBus) -> None:
        """Where partitions are in no order, how far a source is confirmed gets through."""
        await bus.publish([bus_event(n) for n in range(1, 7)])
        await bus.publish([bus_event(7, stream="accounts")])
        await bus.publish([watermark("accounts", "e1", 7, (7, 0))])
        await bus.publish([bus_event(8, stream="accounts")])
        found = await collect(bus, 8 if self.engine.ordered else 9)
        told = [d.event for d in found if d.event.type == WATERMARK]
        if not self.engine.ordered:  # else nobody publishes such, and it may pass for a repetition
            assert told == [watermark("accounts", "e1", 7, (7, 0))]
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

    async def test_what_is_stored_is_as_declared(self, bus: EventBus) -> None:
        """A bus that says how much of a source it has says it of every partition."""
        none = dict.fromkeys(range(PARTITIONS), 0) if self.engine.tells_stored else {}
        assert await bus.stored("accounts", "e1") == none
        await bus.publish([bus_event(n) for n in range(1, 30)])
        await bus.publish([watermark("accounts", "e1", 29)])
        last = dict(none)
        for n in range(1, 30) if none else ():
            last[partition_of(bus_event(n).stream, PARTITIONS)] = n
        assert await bus.stored("accounts", "e1") == last
        assert await bus.stored("accounts", "e2") == none
        assert await bus.stored("stock", "e1") == none

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
            bus.stored("s", "e"), collect(bus, 1), waiting,
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


__all__ = [
    "PARTITIONS",
    "START",
    "EventBusConformance",
    "bus_event",
    "collect",
    "event_type",
    "subscription",
]
