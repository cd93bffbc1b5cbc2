"""Part of the event store suite: looking through snapshots, dropping them, and retagging events."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from headwater.errors import ConditionFailed, InvalidInput, StoreUnavailable
from headwater.eventstore import (
    AppendCondition,
    EventFilter,
    EventStore,
    Snapshot,
    StoredEvent,
    StreamWrite,
)
from headwater.testing.eventstore_base import (
    EventStoreBase,
    event,
    events_of,
    log_of,
    matching,
    places,
    put,
    settled,
    soon,
    write,
)

Opened = Callable[[], Awaitable[EventStore]]

# Names around a prefix, by code points; \uffff comes before \U00010000, in UTF-16 behind it.
_NAMES = (
    "",
    "A",
    "A/",
    "A/\0",
    "A/1",
    "A/1\0",
    "A/10",
    "A/2",
    "A/\uffff",
    "A/\U0010ffff",
    "A0",
    "B",
)
_ODD = (
    "\U0010ffff",
    "\U0010ffff\U0010ffff",
    "\ud7ff",
    "\ud7ffx",
    "\ue000",
    "\0",
    "\0\1",
    "\1",
    "\1\2",
)


def kept(stream: str) -> Snapshot:
    """Return a snapshot of a stream."""
    return Snapshot(stream, 3, f"f{stream}", b"\0" + stream.encode())


async def snapshots_of(store: EventStore, prefix: str = "", *, page_size: int = 100) -> list[str]:
    """Return the streams of all snapshots with a prefix, which are as they were saved."""
    pages = [page async for page in store.read_snapshots(prefix, page_size=page_size)]
    assert all(0 < len(page) <= page_size for page in pages)
    found = [snapshot for page in pages for snapshot in page]
    assert found == [kept(snapshot.stream) for snapshot in found]
    return [snapshot.stream for snapshot in found]


def with_tags(events: list[StoredEvent], tags: dict[int, tuple[str, ...]]) -> list[StoredEvent]:
    """Return events of which some have other tags."""
    return [
        msgspec.structs.replace(each, tags=tags.get(each.position, each.tags)) for each in events
    ]


class UpkeepConformance(EventStoreBase):
    """What administrators do: nothing of it changes what has happened."""

    # --- snapshots ---

    async def test_snapshots_are_read_by_prefix(self, store: EventStore) -> None:
        """Snapshots of streams with a prefix are read in order and once, whatever the page size."""
        assert await snapshots_of(store) == []
        for stream in (*reversed(_NAMES), *_ODD):
            await store.save_snapshot(kept(stream))
        names = sorted((*_NAMES, *_ODD))
        for prefix in ("", "A", "A/", "A/1", "A/10", "C", *_ODD):
            expected = [name for name in names if name.startswith(prefix)]
            for page_size in (1, 2, 5, 100):
                assert await snapshots_of(store, prefix, page_size=page_size) == expected

    async def test_a_page_has_a_size(self, store: EventStore) -> None:
        """A page of no snapshots is refused when it is asked for."""
        with pytest.raises(InvalidInput, match="page_size is 0, expected at least 1"):
            store.read_snapshots(page_size=0)

    async def test_one_snapshot_is_dropped(self, store: EventStore) -> None:
        """Dropping the snapshot of a stream leaves those of streams whose names begin alike."""
        for stream in _NAMES:
            await store.save_snapshot(kept(stream))
        assert await store.drop_snapshot("A/1") is True
        assert await store.drop_snapshot("A/1") is False
        assert await store.load_snapshot("A/1") is None
        assert await snapshots_of(store) == [name for name in _NAMES if name != "A/1"]
        await store.save_snapshot(kept("A/1"))
        assert await store.load_snapshot("A/1") == kept("A/1")

    @pytest.mark.parametrize("prefix", ["", "A/", "A/1", "C", *_ODD])
    async def test_snapshots_are_dropped_by_prefix(self, store: EventStore, prefix: str) -> None:
        """Dropping by a prefix removes the snapshots of just those streams, and tells how many."""
        names = sorted((*_NAMES, *_ODD))
        for stream in names:
            await store.save_snapshot(kept(stream))
        left = [name for name in names if not name.startswith(prefix)]
        assert await store.drop_snapshots(prefix) == len(names) - len(left)
        assert await store.drop_snapshots(prefix) == 0
        assert await snapshots_of(store) == left

    async def test_an_older_snapshot_may_follow_a_dropped_one(self, store: EventStore) -> None:
        """What was dropped is forgotten: an older snapshot is kept again."""
        await store.save_snapshot(Snapshot("a", 7, "f", b""))
        await store.drop_snapshots()
        await store.save_snapshot(Snapshot("a", 3, "f", b""))
        assert await store.load_snapshot("a") == Snapshot("a", 3, "f", b"")

    # --- tags ---

    async def test_events_are_given_other_tags(self, store: EventStore) -> None:
        """Retagged events are selected by their new tags, not the old; nothing else changes."""
        new = [event("A", "t:1", "t:2"), event("A"), event("B", "t:1"), event("B", "t:3")]
        await put(store, write("a", *new), write("b", event("A", "t:1")))
        before = await log_of(store)
        tags = {1: ("t:2", "n:\0", "n:ü"), 2: ("t:1", "t:1"), 3: (), 4: ("t:3",)}
        assert await store.retag(tags) == 3
        after = with_tags(before, tags)
        assert await log_of(store) == after
        assert await events_of(store.read_stream("a", backwards=True)) == after[3::-1]
        found = {
            tag: [each.position for each in await log_of(store, matching(tag))]
            for tag in ("t:1", "t:2", "t:3", "n:\0", "n:ü")
        }
        assert found == {"t:1": [2, 5], "t:2": [1], "t:3": [4], "n:\0": [1], "n:ü": [1]}
        assert places(await log_of(store, matching("t:1", types=("A",)))) == [
            (2, "a", 2),
            (5, "b", 1),
        ]
        assert places(await log_of(store, matching("t:2", "n:ü"))) == [(1, "a", 1)]
        assert await store.retag(tags) == 0
        assert await store.retag({}) == 0
        assert await log_of(store) == after

    async def test_tags_for_no_event(self, store: EventStore) -> None:
        """Tags for a position without an event are refused, and none of the others is given."""
        await put(store, write("a", event("A", "t:1")))
        for position in (0, 2, -1, 2**40):
            with pytest.raises(InvalidInput, match=f"no event at position {position} "):
                await store.retag({1: ("t:2",), position: ("t:2",)})
        assert await log_of(store, matching("t:2")) == []
        assert len(await log_of(store, matching("t:1"))) == 1

    async def test_conditions_see_new_tags(self, store: EventStore) -> None:
        """A consistency boundary is checked by the tags that events have now."""
        await put(store, write("a", event("A"), event("B", "gone:1")))

        async def refused(filter: EventFilter, after: int = 0) -> bool:
            try:
                await store.append([StreamWrite("x", ())], condition=AppendCondition(filter, after))
            except ConditionFailed:
                return True
            return False

        assert not await refused(matching("new:1"))
        assert await refused(matching("gone:1"))
        await store.retag({1: ("new:1", "also:1"), 2: ("new:1",)})
        assert await refused(matching("new:1"))
        assert await refused(matching("new:1"), 1)
        assert not await refused(matching("new:1"), 2)
        assert await refused(matching("new:1", types=("A",)))
        assert await refused(matching("also:1", "new:1"))
        assert not await refused(matching("also:1", "new:1"), 1)
        assert not await refused(matching("gone:1"))

    async def test_others_see_new_tags(self, store: EventStore, opened: Opened) -> None:
        """Whoever else has the log open checks conditions and reads by the new tags."""
        other = await opened()
        await put(store, write("a"))
        condition = AppendCondition(matching("new:1"), 0)
        await other.append([StreamWrite("x", ())], condition=condition)
        await store.retag({1: ("new:1",)})
        if not self.shared:
            assert await log_of(other) == []
            return
        with pytest.raises(ConditionFailed):
            await other.append([StreamWrite("x", ())], condition=condition)
        assert len(await log_of(other, matching("new:1"))) == 1

    async def test_retagging_beside_appends(self, store: EventStore) -> None:
        """Appends go on while events are retagged, and neither harms the other."""
        await put(store, write("a", *(event("A", f"t:{n}") for n in range(100))))
        tags = {n: (f"u:{n}", "all") for n in range(1, 101)}
        work = [put(store, write(f"s{n % 3}", event("B", "all"))) for n in range(60)]
        again = [store.retag(tags), *work[:30], store.retag(tags), *work[30:]]
        results = await settled(*again)
        assert not [result for result in results if isinstance(result, BaseException)]
        assert sorted(result for result in results if isinstance(result, int)) == [0, 100]
        log = await log_of(store)
        assert [each.tags for each in log[:100]] == list(tags.values())
        assert await log_of(store, matching("all")) == log
        assert len(log) == 160

    async def test_many_events_at_once(self, store: EventStore) -> None:
        """Thousands of events are retagged in one step."""
        for _ in range(3):
            await put(store, write("a", *(event("A", "old") for _ in range(1000))))
        assert await soon(store.retag(dict.fromkeys(range(1, 3001), ("new", "old")))) == 3000
        assert len(await log_of(store, matching("new", "old"))) == 3000

    # --- probing ---

    async def test_a_probe_leaves_nothing(self, store: EventStore) -> None:
        """To ask whether events can be stored, at any time and by many, changes nothing."""
        await store.probe()
        outcome = await put(store, write("a", event("A", "t")))
        await settled(*(store.probe() for _ in range(5)), put(store, write("b")))
        await store.probe()
        assert [each.position for each in await log_of(store)] == [1, 2]
        assert (outcome.first, await store.head()) == (1, 2)
        assert [keys async for keys in store.read_keys()] == []

    async def test_a_closed_store_is_left_alone(self, store: EventStore) -> None:
        """In a closed store nothing is read, dropped or retagged."""
        await put(store, write("a"))
        await store.close()
        for work in (store.drop_snapshot("a"), store.drop_snapshots(), store.retag({1: ("t",)})):
            with pytest.raises(StoreUnavailable):
                await work
        with pytest.raises(StoreUnavailable):
            await snapshots_of(store)
