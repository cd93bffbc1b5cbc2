"""Part of the event store suite: reading the log and streams, in pages."""

import pytest

from headwater.errors import ConditionFailed, InvalidInput, StoreUnavailable
from headwater.eventstore import (
    EVERYTHING,
    NOTHING,
    AppendCondition,
    EventFilter,
    EventStore,
    FilterItem,
    NewEvent,
    Page,
    StoredEvent,
)
from headwater.testing.eventstore_base import (
    EventStoreBase,
    event,
    events_of,
    log_of,
    matching,
    pages_of,
    put,
    settled,
    write,
)

_KINDS = ("A", "B", "C")
_TAGS = ((), ("x",), ("y", "x"), ("z", "y", "x"), ("z",))
_FILTERS = (
    EVERYTHING,
    matching(),
    matching("x"),
    matching("x", "y"),
    matching("absent"),
    matching(types=("A",)),
    matching(types=("C", "A", "Absent")),
    matching("x", types=("B",)),
    matching("z", "x", types=("B", "C")),
    EventFilter((FilterItem(("A",), ("x",)), FilterItem((), ("z",)), FilterItem(("B", "C")))),
    EventFilter(tuple(FilterItem((), (tag,)) for tag in ("x", "y", "z", "x"))),
    EventFilter(tuple(FilterItem(("A", f"T{n}"), ("x", f"t{n}"[:1])) for n in range(100))),
    EventFilter((*(FilterItem((f"T{n}",)) for n in range(100)), FilterItem(("B",), ("y",)))),
    EventFilter((FilterItem(("A",)), FilterItem())),
    NOTHING,
)


_COMMON = (
    matching("all", "even"),
    matching("even", "all", "third"),
    matching("even", "odd"),
    matching("begin", "end"),
    matching("all", "rare"),
    matching("rare", "all", types=("A", "B")),
    matching("all", types=("Rare",)),
    matching("all", types=("Absent", "Rare", "A")),
    matching("end", types=("A",)),
    matching("all", "absent"),
    EventFilter((FilterItem(("Rare",), ("all",)), FilterItem((), ("even", "end")))),
)


def _longer() -> list[NewEvent]:
    """Return events some of whose tags and types are everywhere, and others rare or in one part."""
    return [
        event(
            "Rare" if n % 97 == 96 else _KINDS[n % 3],
            "all",
            "odd" if n % 2 else "even",
            *["third"] * (n % 3 == 0),
            *["rare"] * (n % 101 == 50),
            "begin" if n < 200 else "end",
        )
        for n in range(400)
    ]


async def _fill(store: EventStore, number: int = 60) -> list[StoredEvent]:
    for n in range(number):
        await put(store, write(f"s{n % 4}", event(_KINDS[n % 3], *_TAGS[n % 5])))
    return await log_of(store)


def _last(pages: list[Page]) -> int:
    return pages[-1].through


class ReadConformance(EventStoreBase):
    """Reads: paged, filtered, in both directions."""

    async def test_pages(self, store: EventStore) -> None:
        """Events come in order of position, in pages of the size asked for."""
        log = await _fill(store, 25)
        assert [stored.position for stored in log] == list(range(1, 26))
        pages = await pages_of(store.read(page_size=10))
        assert [len(page.events) for page in pages] == [10, 10, 5]
        assert [page.through for page in pages] == [10, 20, 25]
        assert [stored for page in pages for stored in page.events] == log
        pages = await pages_of(store.read(page_size=5, after=5, until=15))
        assert pages == [Page(tuple(log[5:10]), 10), Page(tuple(log[10:15]), 15)]

    async def test_pages_backwards(self, store: EventStore) -> None:
        """Backwards the same range comes from its end; what is after ``through`` was delivered."""
        log = await _fill(store, 25)
        pages = await pages_of(store.read(backwards=True, page_size=10))
        assert [stored for page in pages for stored in page.events] == log[::-1]
        assert [page.through for page in pages] == [15, 5, 0]
        pages = await pages_of(store.read(backwards=True, after=3, until=13, page_size=5))
        assert pages == [Page(tuple(log[8:13][::-1]), 8), Page(tuple(log[3:8][::-1]), 3)]

    @pytest.mark.parametrize("number", range(len(_FILTERS)))
    async def test_filters(self, store: EventStore, number: int) -> None:
        """A read delivers what the filter matches in the range, whatever the page size."""
        filter = _FILTERS[number]
        log = await _fill(store)
        for after, until in ((0, None), (7, 50), (0, 1), (59, 60), (60, None), (30, 30)):
            end = len(log) if until is None else until
            wanted = [s for s in log[after:end] if filter.matches(s.type, s.tags)]
            for size in (1, 7, 1000):
                pages = await pages_of(
                    store.read(filter=filter, after=after, until=until, page_size=size)
                )
                assert [stored for page in pages for stored in page.events] == wanted
                assert all(len(page.events) <= size for page in pages)
                assert _last(pages) == end
                _check_through(pages, wanted)
                found = await events_of(
                    store.read(
                        filter=filter, after=after, until=until, page_size=size, backwards=True
                    )
                )
                assert found == wanted[::-1]

    async def test_filter_of_thousands_of_items(self, store: EventStore) -> None:
        """A filter of thousands of items selects what a few would."""
        alike = [FilterItem(("A", "B"), (f"t{n}",)) for n in range(3000)]
        unlike = [FilterItem(("A", f"T{n}"), (f"t{n}",)) for n in range(1100)]
        log = await _fill(store)
        for items in (alike, unlike):
            filter = EventFilter((*items, FilterItem(("A", "B"), ("x",))))
            wanted = [s for s in log if filter.matches(s.type, s.tags)]
            assert wanted
            assert await events_of(store.read(filter=filter)) == wanted

    @pytest.mark.parametrize("number", range(len(_COMMON)))
    async def test_filters_on_a_longer_log(self, store: EventStore, number: int) -> None:
        """What tags and types have in common is found wherever, and however rarely, it occurs."""
        filter = _COMMON[number]
        await put(store, write("s", *_longer()))
        log = await log_of(store)
        wanted = [stored for stored in log if filter.matches(stored.type, stored.tags)]
        for size in (3, 1000):
            pages = await pages_of(store.read(filter=filter, page_size=size))
            assert [stored for page in pages for stored in page.events] == wanted
            _check_through(pages, wanted)
            read = store.read(filter=filter, page_size=size, backwards=True)
            assert await events_of(read) == wanted[::-1]
        last = wanted[-1].position if wanted else 0
        for after in {0, max(last - 1, 0), last, len(log)}:
            condition = AppendCondition(filter, after)
            (result,) = await settled(store.append([write("probe")], condition=condition))
            assert isinstance(result, ConditionFailed) is (after < last)

    async def test_limit(self, store: EventStore) -> None:
        """At most ``limit`` events come, and ``through`` says where to go on."""
        log = await _fill(store, 20)
        pages = await pages_of(store.read(limit=7, page_size=3))
        assert [len(page.events) for page in pages] == [3, 3, 1]
        assert _last(pages) == 7
        pages = await pages_of(store.read(limit=7, page_size=3, backwards=True))
        assert [s for page in pages for s in page.events] == log[:-8:-1]
        assert _last(pages) == 13
        assert await pages_of(store.read(limit=0, after=4)) == [Page((), 4)]
        assert await pages_of(store.read(limit=0, backwards=True)) == [Page((), 20)]
        (page,) = await pages_of(store.read(limit=1, filter=matching("z", "y"), backwards=True))
        assert page.events == (log[18],)
        assert (await events_of(store.read(limit=100, after=15))) == log[15:]

    async def test_range_beyond_the_log(self, store: EventStore) -> None:
        """A range ends at the head; an empty one gives one page that carries ``through``."""
        log = await _fill(store, 5)
        assert await pages_of(store.read(until=99)) == [Page(tuple(log), 5)]
        assert await pages_of(store.read(after=5)) == [Page((), 5)]
        assert await pages_of(store.read(after=9, until=99)) == [Page((), 9)]
        assert await pages_of(store.read(after=3, until=2)) == [Page((), 3)]
        assert await pages_of(store.read(after=9, backwards=True)) == [Page((), 9)]
        assert await pages_of(store.read(until=0)) == [Page((), 0)]

    async def test_read_ends_at_the_head_of_its_start(self, store: EventStore) -> None:
        """What is appended while somebody reads is not part of that reading."""
        log = await _fill(store, 6)
        pages = store.read(page_size=4)
        read = [*(await anext(pages)).events]
        await _fill(store, 6)
        assert [*read, *(await events_of(pages))] == log

    async def test_pages_are_fetched_when_asked_for(self, store: EventStore) -> None:
        """Nothing is read ahead: a page asked for after closing cannot be had."""
        await _fill(store, 6)
        pages = store.read(page_size=2)
        assert len((await anext(pages)).events) == 2
        await store.close()
        with pytest.raises(StoreUnavailable):
            await anext(pages)

    async def test_streams(self, store: EventStore) -> None:
        """A stream is read like the log, by versions."""
        log = await _fill(store, 40)
        stream = [stored for stored in log if stored.stream == "s1"]
        assert [stored.version for stored in stream] == list(range(1, 11))
        pages = await pages_of(store.read_stream("s1", page_size=4))
        assert [stored for page in pages for stored in page.events] == stream
        assert [page.through for page in pages] == [4, 8, 10]
        found = await events_of(store.read_stream("s1", after=2, until=7))
        assert found == stream[2:7]
        pages = await pages_of(
            store.read_stream("s1", after=2, until=7, backwards=True, page_size=3)
        )
        assert [stored for page in pages for stored in page.events] == stream[2:7][::-1]
        assert [page.through for page in pages] == [4, 2]
        assert await events_of(store.read_stream("s1", limit=1, backwards=True)) == stream[-1:]
        assert await pages_of(store.read_stream("s1", limit=0)) == [Page((), 0)]
        assert await pages_of(store.read_stream("s1", after=10)) == [Page((), 10)]
        assert await pages_of(store.read_stream("absent", backwards=True)) == [Page((), 0)]

    async def test_stream_ends_at_its_version_of_the_start(self, store: EventStore) -> None:
        """What is appended to a stream while somebody reads it is not part of that reading."""
        await put(store, write("a", event(), event(), event()))
        pages = store.read_stream("a", page_size=2)
        assert len((await anext(pages)).events) == 2
        await put(store, write("a"))
        assert [stored.version for stored in await events_of(pages)] == [3]

    @pytest.mark.parametrize(
        "wrong", [{"after": -1}, {"until": -1}, {"limit": -1}, {"page_size": 0}]
    )
    async def test_impossible_ranges(self, store: EventStore, wrong: dict[str, int]) -> None:
        """A number that selects nothing sensible is refused, with its name."""
        (name,) = wrong
        with pytest.raises(InvalidInput, match=name):
            await events_of(store.read(**wrong))  # type: ignore[arg-type]  # by name
        with pytest.raises(InvalidInput, match=name):
            await events_of(store.read_stream("a", **wrong))  # type: ignore[arg-type]  # by name


def _check_through(pages: list[Page], wanted: list[StoredEvent]) -> None:
    """Everything selected up to ``through`` has been delivered by then, and nothing after it."""
    delivered = 0
    for page in pages:
        delivered += len(page.events)
        due = sum(stored.position <= page.through for stored in wanted)
        assert delivered == due
