"""Part of the event store suite: importing events and keys, and reading keys."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest

from headwater.errors import (
    ConcurrencyConflict,
    ConditionFailed,
    IdempotencyKeyReused,
    ImportRefused,
    InvalidInput,
    StoreUnavailable,
)
from headwater.eventstore import (
    AppendCondition,
    Appended,
    EventStore,
    Idempotency,
    StoredEvent,
    StoredKey,
    StreamWrite,
)
from headwater.testing.eventstore_base import (
    EventStoreBase,
    ManualClock,
    event,
    events_of,
    importing,
    log_of,
    matching,
    places,
    put,
    settled,
    soon,
    write,
)

_EPOCH = "of-another-store"
_TIME = 1_600_000_000_000_000
_ODD = ("Köln/\U0001f600", "nul\0inside", "one\1inside", "quote'\"\\", "new\nline", " ")

Open = Callable[[], Awaitable[EventStore]]


def stored(
    position: int,
    stream: str = "a",
    version: int | None = None,
    *,
    time: int | None = None,
    tags: tuple[str, ...] = (),
) -> StoredEvent:
    """Return an event to import; without a version that of the only stream."""
    return StoredEvent(
        position=position,
        stream=stream,
        version=position if version is None else version,
        type="Imported",
        type_version=2,
        time=_TIME + position if time is None else time,
        tags=tags,
        data=b'{"n":%d}' % position,
        metadata=b'{"id":"%d"}' % position,
    )


def key(name: str, last: int = 1, fingerprint: str = "f") -> StoredKey:
    """Return a key to import, of an append that stored the event at a position."""
    return StoredKey(name, fingerprint, Appended(last, last, _TIME + last, ("a",), (last,)))


async def keys_of(store: EventStore, *, since: int = 0, page_size: int = 1000) -> list[StoredKey]:
    """Return all keys of all pages."""
    pages = [page async for page in store.read_keys(since=since, page_size=page_size)]
    assert all(0 < len(page) <= page_size for page in pages)
    return [each for page in pages for each in page]


async def check_refused(
    store: EventStore, events: Sequence[StoredEvent], expected: str, *, epoch: str = _EPOCH
) -> None:
    """An import is refused for a reason, and nothing of it is stored, its key neither."""
    head = await store.head()
    with pytest.raises(ImportRefused, match=expected):
        await store.import_events(events, epoch=epoch, keys=[key("refused")])
    assert await store.head() == head
    assert await store.outcome("refused") is None


class KeyReadingConformance(EventStoreBase):
    """Idempotency keys are read in pages, as they are copied."""

    async def test_keys_are_read(self, store: EventStore) -> None:
        """All keys are read, in order and once, with what was stored under them."""
        assert await keys_of(store) == []
        names = [*_ODD, "", *(f"k{n:04}" for n in range(700))]
        work = [
            store.append(
                [write(f"s{n % 7}", event(), event())], idempotency=Idempotency(name, f"f{n}")
            )
            for n, name in enumerate(names)
        ]
        outcomes = [one for one in await settled(*work) if isinstance(one, Appended)]
        expected = [
            StoredKey(name, f"f{n}", outcomes[n])
            for name, n in sorted((name, n) for n, name in enumerate(names))
        ]
        for page_size in (1, 7, 100, 707, 1000):
            assert await keys_of(store, page_size=page_size) == expected
        for since in (1, 2, 3, 700, 1413, 1414, 1415):
            found = await keys_of(store, since=since, page_size=100)
            assert found == [each for each in expected if each.outcome.last >= since]

    async def test_key_of_no_events_is_read(self, store: EventStore) -> None:
        """The key of an append without events is read with the head that it had."""
        await put(store, write("a"))
        outcome = await store.append([StreamWrite("a", ())], idempotency=Idempotency("k", "f"))
        assert await keys_of(store, since=1) == [StoredKey("k", "f", outcome)]
        assert await keys_of(store, since=2) == []

    async def test_key_reading_checks_its_numbers(self, store: EventStore) -> None:
        """Numbers that select nothing sensible are refused when they are given."""
        with pytest.raises(InvalidInput):
            store.read_keys(since=-1)
        with pytest.raises(InvalidInput):
            store.read_keys(page_size=0)


@importing
class ImportConformance(EventStoreBase):
    """Events and keys of another store are stored as they are, in order, or not at all."""

    async def test_imported_events_are_kept_as_they_are(self, store: EventStore) -> None:
        """Imported events have the position, version, time, tags and contents that they had."""
        events = [
            StoredEvent(n, f"s{text}", 1, f"T{text}", n, _TIME, (text, "all", text), data, data[:1])
            for n, (text, data) in enumerate(
                zip(_ODD, [b"", b"\0\xff", b"{}", b"[1]", b" ", b"x" * 70_000], strict=True), 1
            )
        ]
        await store.import_events(events[:4], epoch=_EPOCH)
        await store.import_events(events[4:], epoch=_EPOCH)
        assert await log_of(store) == events
        assert await store.head() == 6
        for each in events:
            assert await events_of(store.read_stream(each.stream)) == [each]
            assert await log_of(store, matching(each.tags[0])) == [each]
            assert await log_of(store, matching(types=(each.type,))) == [each]
        assert await log_of(store, matching("all")) == events

    async def test_many_events_of_many_streams(self, store: EventStore) -> None:
        """Thousands of events are imported in one step, streams mixed."""
        events = [stored(n + 1, f"s{n % 700}", n // 700 + 1) for n in range(2100)]
        await store.import_events(events, epoch=_EPOCH)
        assert await log_of(store) == events
        assert await store.version("s699") == 3

    async def test_appends_go_on_behind(self, store: EventStore, clock: ManualClock) -> None:
        """After an import appends get the next position and version, and no earlier time."""
        await store.import_events([], epoch=_EPOCH)
        late = clock.now + 1000
        await put(store, write("b"))
        await store.import_events([stored(2, "a", 1, time=late)], epoch=_EPOCH)
        assert await put(store, write("a", expected=1)) == Appended(3, 3, late, ("a",), (2,))
        await store.import_events([stored(4, "a", 3, time=late)], epoch=_EPOCH)
        with pytest.raises(ConcurrencyConflict):
            await put(store, write("a", expected=2))
        clock.now = late + 5
        appended = await put(store, write("b"), write("a"))
        assert appended == Appended(5, 6, late + 5, ("b", "a"), (2, 4))
        assert await store.position_at(late) == 4

    async def test_conditions_see_imported_events(self, store: EventStore) -> None:
        """A consistency boundary that imported events touch is seen as such."""
        await put(store, write("b", event("Other", "t:2")))
        epoch = store.epoch
        events = [stored(2, "a", 1, time=2**52, tags=("t:1",)), stored(3, "a", 2, time=2**52)]
        await store.import_events(events, epoch=epoch)
        for filter, last in [
            (matching("t:1"), 2),
            (matching(types=("Imported",)), 3),
            (matching("t:1", types=("Imported",)), 2),
        ]:
            with pytest.raises(ConditionFailed):
                await store.append([write("c")], condition=AppendCondition(filter, last - 1))
            await store.append([StreamWrite("c", ())], condition=AppendCondition(filter, last))

    async def test_only_the_next_position(self, store: EventStore) -> None:
        """Events that leave a gap, repeat a position or are stored already are refused."""
        await check_refused(store, [stored(2)], "position 2, expected 1")
        await store.import_events([stored(1), stored(2)], epoch=_EPOCH)
        await check_refused(store, [stored(2)], "position 2, expected 3")
        await check_refused(store, [stored(4)], "position 4, expected 3")
        await check_refused(store, [stored(3), stored(3)], "position 3, expected 4")
        await check_refused(store, [stored(3), stored(5)], "position 5, expected 4")
        await store.import_events([stored(3)], epoch=_EPOCH)
        assert [each.position for each in await log_of(store)] == [1, 2, 3]

    async def test_only_the_next_version(self, store: EventStore) -> None:
        """Events that are not the next of their streams are refused."""
        await check_refused(store, [stored(1, version=2)], "version 2 of stream 'a', expected 1")
        await store.import_events([stored(1), stored(2, "b", 1)], epoch=_EPOCH)
        await check_refused(store, [stored(3, version=3)], "version 3 of stream 'a', expected 2")
        await check_refused(store, [stored(3, "b", 1)], "version 1 of stream 'b', expected 2")
        wrong = [stored(3, "a", 2), stored(4, "b", 2), stored(5, "a", 4)]
        await check_refused(store, wrong, "position 5 has version 4 of stream 'a', expected 3")
        assert places(await log_of(store)) == [(1, "a", 1), (2, "b", 1)]

    async def test_time_does_not_run_backwards(self, store: EventStore) -> None:
        """Events recorded before the one in front of them are refused."""
        await store.import_events([stored(1, time=100), stored(2, time=100)], epoch=_EPOCH)
        await check_refused(store, [stored(3, time=99)], "recorded at 99, expected 100 or later")
        wrong = [stored(3, time=200), stored(4, time=199)]
        await check_refused(store, wrong, "position 4 was recorded at 199, expected 200")
        await store.import_events([stored(3, time=100)], epoch=_EPOCH)

    async def test_refused_key_takes_all_along(self, store: EventStore) -> None:
        """An import that refuses one of its keys stores none of its events either."""
        await store.import_events([stored(1)], epoch=_EPOCH, keys=[key("k")])
        wrong = [key("new"), key("k", 2)]
        with pytest.raises(ImportRefused, match="'k' is stored with another outcome"):
            await store.import_events([stored(2)], epoch=_EPOCH, keys=wrong)
        with pytest.raises(ImportRefused, match="'n' is stored with another outcome"):
            await store.import_events([stored(2)], epoch=_EPOCH, keys=[key("n"), key("n", 2)])
        with pytest.raises(ImportRefused, match="'k' is stored with another outcome"):
            await store.import_events((), epoch=_EPOCH, keys=[key("k", fingerprint="other")])
        assert await store.head() == 1
        assert await store.outcome("new") is None

    async def test_empty_store_adopts_the_epoch(self, store: EventStore, opened: Open) -> None:
        """An empty store takes the epoch over, for good; one with content keeps its own."""
        own = store.epoch
        await store.import_events((), epoch="first")
        assert store.epoch == "first" != own
        await store.import_events([stored(1)], epoch=_EPOCH)
        assert store.epoch == _EPOCH
        expected = f"of epoch '{_EPOCH}', expected 'other'"
        await check_refused(store, [stored(2)], expected, epoch="other")
        await check_refused(store, [], expected, epoch="other")
        assert store.epoch == _EPOCH
        assert ((await opened()).epoch == _EPOCH) is self.shared

    async def test_key_alone_is_content(self, store: EventStore) -> None:
        """A store with a key but no events is not empty: it keeps its epoch."""
        await store.import_events((), epoch=_EPOCH, keys=[key("k")])
        with pytest.raises(ImportRefused, match="epoch"):
            await store.import_events([stored(1)], epoch="other")
        await store.import_events([stored(1)], epoch=_EPOCH)

    async def test_imported_keys_hold(self, store: EventStore) -> None:
        """An append with an imported key is a duplicate; with another fingerprint it fails."""
        keys = [key("k"), *(key(text, 7) for text in _ODD)]
        await store.import_events([stored(1)], epoch=_EPOCH, keys=keys)
        await store.import_events((), epoch=_EPOCH, keys=keys[:2])  # stored already
        for each in keys:
            assert await store.outcome(each.key) == (each.outcome, "f")
        again = await store.append([write("a")], idempotency=Idempotency("k", "f"))
        assert again == msgspec.structs.replace(keys[0].outcome, duplicate=True)
        with pytest.raises(IdempotencyKeyReused):
            await store.append([write("a")], idempotency=Idempotency("k", "g"))
        assert await store.head() == 1

    async def test_what_is_read_can_be_imported(self, store: EventStore) -> None:
        """Importing once more what is there changes nothing for keys and is refused for events."""
        idempotency = Idempotency("k\0", "f\1")
        await store.append([write("a", event("T", "x")), write("b")], idempotency=idempotency)
        log, keys = await log_of(store), await keys_of(store)
        await store.import_events((), epoch=store.epoch, keys=keys)
        with pytest.raises(ImportRefused):
            await store.import_events(log, epoch=store.epoch, keys=keys)
        assert await log_of(store) == log
        assert await keys_of(store) == keys

    async def test_followers_are_woken(self, store: EventStore) -> None:
        """Who follows gets imported events at once."""
        await store.import_events([stored(1)], epoch=_EPOCH)
        following = store.follow()
        assert (await soon(anext(following))).through == 1
        waiting = asyncio.ensure_future(anext(following))
        await store.import_events([stored(2)], epoch=_EPOCH)
        page = await soon(waiting)
        assert (page.events, page.through) == ((stored(2),), 2)

    async def test_nothing_comes_between(self, store: EventStore) -> None:
        """Of imports of the same events beside appends at most one succeeds; nothing is torn."""
        epoch = store.epoch
        events = [stored(n, time=2**52) for n in range(1, 101)]
        work = [store.import_events(events, epoch=epoch) for _ in range(4)]
        results = await settled(*work, *(put(store, write("b")) for _ in range(20)))
        assert all(isinstance(one, ImportRefused | None) for one in results[:4])
        imported = results[:4].count(None)
        assert imported <= 1
        assert not any(isinstance(one, BaseException) for one in results[4:])
        log = await log_of(store)
        assert [each.position for each in log] == list(range(1, 100 * imported + 21))
        assert [each.version for each in log if each.stream == "b"] == list(range(1, 21))

    async def test_others_at_the_same_place(self, store: EventStore, opened: Open) -> None:
        """A store opened at the same place goes on behind what was imported, and this behind it."""
        if not self.shared:
            await store.import_events([stored(1)], epoch=_EPOCH)
            assert await (await opened()).head() == 0
            return
        await store.import_events([stored(1)], epoch=_EPOCH)
        other = await opened()
        assert (await put(other, write("a"))).versions == (2,)
        with pytest.raises(ImportRefused):
            await store.import_events([stored(2)], epoch=_EPOCH)
        await store.import_events([stored(3, time=2**52)], epoch=_EPOCH)
        assert (await put(other, write("a"), write("b"))).versions == (4, 1)

    async def test_closed_store(self, store: EventStore) -> None:
        """A closed store imports nothing and gives no keys."""
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.import_events([stored(1)], epoch=_EPOCH)
        with pytest.raises(StoreUnavailable):
            await keys_of(store)
