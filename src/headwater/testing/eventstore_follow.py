"""Part of the event store suite: following the log."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from headwater.errors import InvalidInput, StoreUnavailable
from headwater.eventstore import (
    EVERYTHING,
    AppendCondition,
    EventStore,
    Idempotency,
    Page,
    Pipeline,
    StoredEvent,
    StreamWrite,
)
from headwater.testing.eventstore_base import (
    EventStoreBase,
    event,
    events_of,
    log_of,
    matching,
    put,
    settled,
    soon,
    write,
)


async def _until(pages: AsyncIterator[Page], position: int) -> list[Page]:
    """Return the pages up to the first that goes through the position."""
    found = []
    async for page in pages:
        found.append(page)
        if page.through >= position:
            break
    return found


async def _closed(pages: AsyncIterator[Page]) -> None:
    await cast("AsyncGenerator[Page, None]", pages).aclose()


def _events(pages: list[Page]) -> list[StoredEvent]:
    return [stored for page in pages for stored in page.events]


def _some(draw: random.Random) -> list[StreamWrite]:
    """Return events for one stream or two, some with tags, some that will conflict."""
    streams = draw.sample(["a", "b\0\1", "ü"], draw.choice([1, 1, 2]))
    return [
        write(
            stream,
            *[
                event(draw.choice("TUV"), *draw.sample(["t1", 't"2', "t1"], draw.choice([0, 1, 2])))
                for _ in range(draw.choice([1, 1, 3]))
            ],
            expected=draw.choice([None, None, 0]),
        )
        for stream in streams
    ]


def _options(draw: random.Random) -> dict[str, Any]:
    """Return a key that others have perhaps used, a condition that perhaps fails, or nothing."""
    return draw.choice(
        [
            {},
            {},
            {"idempotency": Idempotency(f"{draw.randrange(9)}")},
            {"condition": AppendCondition(matching("t1"), draw.randrange(40))},
            {"pipeline": Pipeline()},
        ]
    )


class FollowConformance(EventStoreBase):
    """Following: what is there, then what comes, in order, with nothing left out."""

    async def test_what_is_there_then_what_comes(self, store: EventStore) -> None:
        """A follower gets the stored events in pages, then new ones when they are stored."""
        for _ in range(5):
            await put(store, write("a"))
        pages = store.follow(page_size=2)
        there = await soon(_until(pages, 5))
        assert [len(page.events) for page in there] == [2, 2, 1]
        for position in range(6, 20):
            waiting = asyncio.ensure_future(anext(pages))
            await asyncio.sleep(0)
            assert not waiting.done()
            await put(store, write("b"))
            page = await soon(waiting)
            assert [stored.position for stored in page.events] == [position]
        await _closed(pages)

    async def test_nothing_is_missed_under_load(self, store: EventStore) -> None:
        """Followers that start anywhere while events are stored see every one, once, in order."""
        following = [store.follow(after=after, page_size=7) for after in (0, 0, 3, 150)]
        tasks = [asyncio.ensure_future(_until(pages, 400)) for pages in following]
        for _ in range(40):
            await asyncio.gather(*(put(store, write(f"s{n}")) for n in range(10)))
        log = await log_of(store)
        assert len(log) == 400
        for pages, after in zip(await soon(asyncio.gather(*tasks)), (0, 0, 3, 150), strict=True):
            assert _events(pages) == log[after:]
        for one in following:
            await _closed(one)

    async def test_filtered(self, store: EventStore) -> None:
        """``through`` moves on past events that the filter leaves out."""
        await put(store, write("a", event("A"), event("B", "t"), event("A")))
        pages = store.follow(filter=matching("t"))
        first = await soon(_until(pages, 3))
        assert [stored.position for stored in _events(first)] == [2]
        await put(store, write("a", event("A")))
        assert await soon(anext(pages)) == Page((), 4)
        await put(store, write("a", event("C", "t")))
        assert [stored.position for stored in (await soon(anext(pages))).events] == [5]
        await _closed(pages)

    async def test_from_beyond_the_head(self, store: EventStore) -> None:
        """A follower ahead of the head waits until the log comes past it."""
        pages = store.follow(after=3)
        waiting = asyncio.ensure_future(anext(pages))
        for _ in range(3):
            await put(store, write("a"))
        await put(store, write("b"))
        page = await soon(waiting)
        assert [stored.position for stored in page.events] == [4]
        assert page.through == 4
        await _closed(pages)

    async def test_failed_appends_are_never_seen(self, store: EventStore) -> None:
        """Only what was stored is delivered."""
        pages = store.follow()
        waiting = asyncio.ensure_future(_until(pages, 10))
        await settled(*(put(store, write("a", expected=n // 2)) for n in range(20)))
        assert [s.version for s in _events(await soon(waiting))] == list(range(1, 11))
        await _closed(pages)

    async def test_cancelled_and_closed(self, store: EventStore) -> None:
        """Closing a follower, or cancelling its task, leaves the store and others as they were."""
        idle = store.follow()
        cancelled = asyncio.ensure_future(events_of(store.follow()))
        other = store.follow()
        await put(store, write("a"))
        assert (await soon(anext(idle))).through == 1
        await _closed(idle)
        cancelled.cancel()
        assert isinstance((await settled(cancelled))[0], asyncio.CancelledError)
        assert (await soon(anext(other))).through == 1
        waiting = asyncio.ensure_future(anext(other))
        await put(store, write("a"))
        assert (await soon(waiting)).through == 2
        await _closed(other)

    async def test_closing_the_store_ends_followers(self, store: EventStore) -> None:
        """A follower of a store that is closed gets `StoreUnavailable`."""
        await put(store, write("a"))
        pages = store.follow()
        await soon(anext(pages))
        waiting = asyncio.ensure_future(anext(pages))
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await soon(waiting)

    async def test_events_of_another_store(
        self, store: EventStore, opened: Callable[[], Awaitable[EventStore]]
    ) -> None:
        """Events stored through another store at the place arrive, if the log is shared."""
        other = await opened()
        pages = store.follow()
        waiting = asyncio.ensure_future(anext(pages))
        await asyncio.sleep(0)
        await put(other, write("a", event("Foreign")))
        if not self.shared:
            await put(store, write("a", event("Own")))
        page = await soon(waiting)
        assert [stored.type for stored in page.events] == ["Foreign" if self.shared else "Own"]
        await _closed(pages)

    @pytest.mark.parametrize("seed", range(3))
    async def test_what_comes_is_what_is_read(
        self, store: EventStore, opened: Callable[[], Awaitable[EventStore]], seed: int
    ) -> None:
        """Live events are those of the log, all of each, whoever stores them, in whatever turn."""
        draw = random.Random(seed)  # noqa: S311  # no secret
        stores = [store, await opened()] if self.shared else [store]
        following = [
            one.follow(filter=chosen, page_size=size)
            for one in stores
            for chosen, size in ((EVERYTHING, 1000), (EVERYTHING, 2), (matching("t1"), 1000))
        ]
        seen: list[list[StoredEvent]] = [[] for _ in following]
        reached = [0] * len(following)
        moved = asyncio.Event()

        async def watch(number: int) -> None:
            async for page in following[number]:
                seen[number] += page.events
                reached[number] = page.through
                moved.set()

        watching = [asyncio.create_task(watch(number)) for number in range(len(following))]
        for turn in range(60):
            one = draw.choice(stores)
            await settled(*(one.append(_some(draw), **_options(draw)) for _ in range(turn % 4)))
            if turn % 20 == 7:
                await one.append([write("late", event("Late", data=b"x" * 10))])
            await asyncio.sleep(draw.choice([0, 0, 0.002]))
        log = await log_of(store)

        while min(reached) < len(log):
            moved.clear()
            await soon(moved.wait())
        tagged = [stored for stored in log if "t1" in stored.tags]
        assert len(tagged) > 5
        for number, found in enumerate(seen):
            assert found == (tagged if number % 3 == 2 else log)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    @pytest.mark.parametrize("wrong", [{"after": -1}, {"page_size": 0}])
    async def test_impossible_starts(self, store: EventStore, wrong: dict[str, int]) -> None:
        """A start or a page size that makes no sense is refused, with its name."""
        (name,) = wrong
        with pytest.raises(InvalidInput, match=name):
            await anext(store.follow(**wrong))  # type: ignore[arg-type]  # by name
