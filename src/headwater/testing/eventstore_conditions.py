"""Part of the event store suite: dynamic consistency boundaries and snapshots."""

import pytest

from headwater.errors import ConcurrencyConflict, ConditionFailed
from headwater.eventstore import (
    EVERYTHING,
    AppendCondition,
    Appended,
    EventFilter,
    EventStore,
    FilterItem,
    Snapshot,
)
from headwater.testing.eventstore_base import (
    EventStoreBase,
    event,
    log_of,
    matching,
    put,
    settled,
    write,
)


class ConditionConformance(EventStoreBase):
    """Conditions: no event matching a filter exists after a position."""

    async def _refused(self, store: EventStore, filter: EventFilter, after: int) -> int:
        """Append under a condition; return the position it failed at, 0 when it was stored."""
        before = await store.head()
        condition = AppendCondition(filter, after)
        new = write("probe", event("Probe", "probe"))
        (result,) = await settled(store.append([new], condition=condition))
        if isinstance(result, Appended):
            assert result.first == before + 1
            return 0
        assert isinstance(result, ConditionFailed)
        assert result.after == after
        assert await store.head() == before
        return result.position

    @pytest.mark.parametrize(
        ("filter", "last"),
        [
            (matching("x"), 5),
            (matching("y"), 4),
            (matching("x", "y"), 3),
            (matching(types=("A",)), 3),
            (matching(types=("B", "A")), 4),
            (matching("x", types=("A",)), 3),
            (matching("x", types=("A", "C")), 5),
            (matching("y", "x", types=("A",)), 3),
            (EventFilter((FilterItem(("B",), ("y",)), FilterItem((), ("z",)))), 4),
            (EventFilter((FilterItem(("None",)), FilterItem(("A",), ("z",)))), 0),
            (matching("y", types=("C",)), 0),
            (matching("absent"), 0),
            (matching(types=("Absent",)), 0),
        ],
    )
    async def test_conditions(self, store: EventStore, filter: EventFilter, last: int) -> None:
        """A condition fails exactly when an event after its position matches the filter."""
        stored = [("A", "x"), ("A",), ("A", "x", "y"), ("B", "y"), ("C", "x")]
        for kind, *tags in stored:
            await put(store, write("s", event(kind, *tags)))
        for after in range(7):
            position = await self._refused(store, filter, after)
            assert (position > 0) is (after < last), f"after {after}"
            if position:
                kind, *tags = stored[position - 1]
                assert position > after
                assert filter.matches(kind, tags)

    async def test_condition_on_everything(self, store: EventStore) -> None:
        """Without items, any event after the position fails the condition."""
        await put(store, write("s"), write("t"))
        for filter in (EVERYTHING, matching()):
            assert await self._refused(store, filter, 1) == 2
        assert await self._refused(store, EVERYTHING, 2) == 0

    async def test_condition_sees_its_neighbours(self, store: EventStore) -> None:
        """Of appends carried out together, a condition sees those before it, and only one wins."""
        cases = [
            matching("email:a"),
            matching("email:a", types=("Taken",)),
            matching("email:a", "other"),
            matching(types=("Taken",)),
        ]
        for number, filter in enumerate(cases):
            after = await store.head()
            new = event("Taken", "other", "email:a")
            results = await settled(
                *(
                    store.append(
                        [write(f"{number}/{n}", new)], condition=AppendCondition(filter, after)
                    )
                    for n in range(30)
                )
            )
            assert isinstance(results[0], Appended)
            lost = [result for result in results if isinstance(result, ConditionFailed)]
            assert len(lost) == 29
            assert {(error.after, error.position) for error in lost} == {(after, after + 1)}

    async def test_condition_ignores_losers(self, store: EventStore) -> None:
        """An append that failed leaves nothing that a condition could see."""
        condition = AppendCondition(matching("t", types=("X",)), 0)
        results = await settled(
            put(store, write("a", event("X", "t"), expected=9)),
            store.append([write("b", event("X", "t"))], condition=condition),
        )
        assert isinstance(results[0], ConcurrencyConflict)
        assert isinstance(results[1], Appended)

    async def test_condition_and_expectation(self, store: EventStore) -> None:
        """Both must hold."""
        await put(store, write("a", event("A", "t")))
        holds, fails = AppendCondition(matching("t"), 1), AppendCondition(matching("t"), 0)
        with pytest.raises(ConcurrencyConflict):
            await store.append([write("a", expected=0)], condition=holds)
        with pytest.raises(ConditionFailed):
            await store.append([write("a", expected=1)], condition=fails)
        await store.append([write("a", expected=1)], condition=holds)
        assert await store.head() == 2

    async def test_repeated_tags(self, store: EventStore) -> None:
        """A tag given twice counts once, on events and in filters."""
        await put(store, write("a", event("A", "t", "t", "u")))
        assert [stored.tags for stored in await log_of(store, matching("t", "t"))] == [
            ("t", "t", "u")
        ]
        assert await self._refused(store, matching("t", "t"), 0) == 1

    # --- snapshots ---

    async def test_snapshots(self, store: EventStore) -> None:
        """A snapshot replaces an older one of its stream and of the same version, never a newer."""
        for version, kept in ((3, 3), (2, 3), (3, 3), (7, 7), (1, 7)):
            mark = f"shape {version} {kept}"
            await store.save_snapshot(Snapshot("a", version, mark, b"\0state"))
            loaded = await store.load_snapshot("a")
            assert loaded is not None
            assert loaded.version == kept
            assert (loaded.fingerprint == mark) is (version == kept)
            assert loaded.data == b"\0state"
        assert await store.load_snapshot("b") is None
        assert await store.head() == 0

    async def test_snapshots_among_appends(self, store: EventStore) -> None:
        """Snapshots saved while appends are under way are kept, and harm none of them."""
        work = [put(store, write("a")) for _ in range(20)]
        saves = [store.save_snapshot(Snapshot(f"s{n}", n, "f", b"x")) for n in range(20)]
        results = await settled(*(one for pair in zip(work, saves, strict=True) for one in pair))
        assert not [result for result in results if isinstance(result, BaseException)]
        assert await store.version("a") == 20
        assert await store.load_snapshot("s19") == Snapshot("s19", 19, "f", b"x")
