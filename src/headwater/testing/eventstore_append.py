"""Part of the event store suite: appending, positions, versions, time, pipelines, closing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from headwater.errors import (
    ConcurrencyConflict,
    InvalidInput,
    PipelineBroken,
    StoreUnavailable,
)
from headwater.eventstore import (
    Appended,
    EventStore,
    Idempotency,
    Page,
    Pipeline,
    Snapshot,
    StreamWrite,
)
from headwater.testing.eventstore_base import (
    EventStoreBase,
    ManualClock,
    event,
    events_of,
    log_of,
    pages_of,
    places,
    put,
    settled,
    soon,
    write,
)


class AppendConformance(EventStoreBase):
    """Appends: atomic, ordered, each with its own verdict."""

    async def test_empty_store(self, store: EventStore) -> None:
        """An empty store has head 0, version 0 of every stream, and nothing to read."""
        assert await store.head() == 0
        assert await store.version("absent") == 0
        assert await store.position_at(2**60) == 0
        assert await pages_of(store.read()) == [Page((), 0)]
        assert await pages_of(store.read_stream("absent")) == [Page((), 0)]
        assert await store.load_snapshot("absent") is None
        assert await store.outcome("absent") is None

    async def test_positions_and_versions_are_dense(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        """Positions follow the order of writes and events from 1; versions are per stream."""
        first = await put(store, write("a", event(), event()), write("b", event()))
        second = await put(store, write("b", event(), event(), event()), write("c"), write("a"))
        assert first == Appended(1, 3, clock.now, ("a", "b"), (2, 1))
        assert second == Appended(4, 8, clock.now, ("b", "c", "a"), (4, 1, 3))
        expected = [(1, "a", 1), (2, "a", 2), (3, "b", 1), (4, "b", 2), (5, "b", 3), (6, "b", 4)]
        assert places(await log_of(store)) == [*expected, (7, "c", 1), (8, "a", 3)]
        assert await store.head() == 8
        assert [await store.version(stream) for stream in "abc"] == [3, 4, 1]

    async def test_events_are_kept_as_they_are(self, store: EventStore, clock: ManualClock) -> None:
        """Names and contents come back byte by byte, whatever they are."""
        texts = ["plain", "Köln/\U0001f600", "quote'\"\\", "new\nline", "nul\0inside", " "]
        contents = [
            b"{}",
            b"",
            b"\0\xff\xfe",
            '{"a":"\u20ac"}'.encode(),
            b" [1, 2] ",
            b"x" * 70_000,
        ]
        for number, (text, content) in enumerate(zip(texts, contents, strict=True), start=1):
            new = event(text, text, f"tag:{text}", data=content, metadata=content[::-1])
            await put(store, write(text, new))
            (stored,) = await events_of(store.read_stream(text))
            assert (stored.position, stored.stream, stored.version) == (number, text, 1)
            assert (stored.type, stored.type_version, stored.time) == (text, 1, clock.now)
            assert stored.tags == (text, f"tag:{text}")
            assert (stored.data, stored.metadata) == (content, content[::-1])
        log = await log_of(store)
        assert [stored.data for stored in log] == contents
        assert [stored.type for stored in log] == texts

    async def test_expected_versions(self, store: EventStore) -> None:
        """An expectation is met by exactly that version; 0 is a new stream, None is any."""
        await put(store, write("a", expected=0))
        await put(store, write("a", expected=1), write("b", expected=0))
        await put(store, write("a"), write("b", expected=1))
        assert await store.version("a") == 3
        for expected in (0, 2, 4):
            with pytest.raises(ConcurrencyConflict) as caught:
                await put(store, write("a", expected=expected))
            assert caught.value.fields() == {"stream": "a", "expected": expected, "actual": 3}
        with pytest.raises(ConcurrencyConflict):
            await put(store, write("absent", expected=1))
        assert await store.head() == 5

    async def test_all_writes_or_none(self, store: EventStore) -> None:
        """When one expectation fails, no write of the append is stored, before or after it."""
        await put(store, write("b"))
        with pytest.raises(ConcurrencyConflict) as caught:
            await put(store, write("a"), write("b", expected=0), write("c"))
        assert caught.value.stream == "b"
        assert [await store.version(stream) for stream in "abc"] == [0, 1, 0]
        assert await store.head() == 1
        assert (await put(store, write("a", expected=0), write("c", expected=0))).first == 2

    async def test_a_stream_occurs_once(self, store: EventStore) -> None:
        """An append that names a stream twice is refused, and stores nothing."""
        with pytest.raises(InvalidInput, match="'a'"):
            await put(store, write("a"), write("b"), write("a"))
        assert await store.head() == 0

    async def test_append_without_events(self, store: EventStore, clock: ManualClock) -> None:
        """Without events nothing is stored, but expectations are checked."""
        await put(store, write("a"))
        assert await store.append([]) == Appended(2, 1, clock.now, (), ())
        checked = await store.append([StreamWrite("a", (), 1)])
        assert checked == Appended(2, 1, clock.now, ("a",), (1,))
        with pytest.raises(ConcurrencyConflict):
            await store.append([StreamWrite("a", (), 0)])
        assert await store.head() == 1

    async def test_large_appends(self, store: EventStore) -> None:
        """An append may have thousands of events, and any number of streams."""
        many = [event("Happened", f"n:{number}", data=b"%d" % number) for number in range(3000)]
        outcome = await put(store, write("a", *many), *(write(f"s{n}") for n in range(700)))
        assert (outcome.first, outcome.last) == (1, 3700)
        log = await log_of(store)
        assert [stored.position for stored in log] == list(range(1, 3701))
        assert [stored.data for stored in log[:3000]] == [new.data for new in many]

    async def test_order_of_submission(self, store: EventStore) -> None:
        """Appends submitted one after the other by one event loop are carried out in that order."""
        outcomes = await asyncio.gather(*(put(store, write(f"s{n % 7}")) for n in range(300)))
        assert [outcome.first for outcome in outcomes] == list(range(1, 301))
        assert [stored.stream for stored in await log_of(store)] == [
            f"s{n % 7}" for n in range(300)
        ]

    async def test_losers_harm_no_neighbours(self, store: EventStore) -> None:
        """Of appends carried out together, each has its own verdict."""
        results = await settled(
            *(put(store, write(f"s{n % 10}", event(), expected=n // 20)) for n in range(100))
        )
        won = [result for result in results if isinstance(result, Appended)]
        lost = [result for result in results if isinstance(result, ConcurrencyConflict)]
        assert len(won) + len(lost) == 100
        assert [w.first for w in won] == list(range(1, len(won) + 1))
        assert [await store.version(f"s{n}") for n in range(10)] == [5] * 10
        assert len(won) == 50

    async def test_concurrent_expectations_have_one_winner(self, store: EventStore) -> None:
        """Of any number of appends that expect the same version, exactly one is stored."""
        results = await settled(*(put(store, write("a", expected=0)) for _ in range(50)))
        assert sum(isinstance(result, Appended) for result in results) == 1
        assert isinstance(results[0], Appended)
        assert await store.head() == 1

    async def test_time_never_runs_backwards(self, store: EventStore, clock: ManualClock) -> None:
        """Recorded time follows the clock, except when the clock is set back."""
        start = clock.now
        times = []
        for moved in (0, 10, -500, 3, 20):
            clock.now = start + moved
            times.append((await put(store, write("a"))).time - start)
        assert times == [0, 10, 10, 10, 20]
        assert [stored.time - start for stored in await log_of(store)] == times

    async def test_position_at(self, store: EventStore, clock: ManualClock) -> None:
        """`position_at` is the last event recorded at or before a time, 0 before the first."""
        start = clock.now
        for moved in (0, 10, 10, 40):
            clock.now = start + moved
            await put(store, write("a", event(), event()))
        asked = (-1, 0, 9, 10, 39, 40, 1_000_000)
        found = [await store.position_at(start + moved) for moved in asked]
        assert found == [0, 2, 2, 6, 6, 8, 8]

    async def test_cancelled_appends_are_whole(self, store: EventStore) -> None:
        """A cancelled append is carried out wholly or not at all, and the store goes on."""
        tasks = [
            asyncio.ensure_future(put(store, write(f"a{n}", event(), event()), write(f"b{n}")))
            for n in range(40)
        ]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await settled(*tasks)
        outcome = await put(store, write("last"))
        log = await log_of(store)
        assert [stored.position for stored in log] == list(range(1, outcome.last + 1))
        for number in range(40):
            versions = [await store.version(f"{kind}{number}") for kind in "ab"]
            assert versions == [2, 1] or (versions == [0, 0] and number % 2 == 0)

    # --- pipelines ---

    async def test_pipeline_in_order(self, store: EventStore) -> None:
        """Appends of a pipeline may each expect what the one before leads to."""
        pipeline = Pipeline()
        results = await settled(
            *(store.append([write("a", expected=n)], pipeline=pipeline) for n in range(20))
        )
        assert [r.versions for r in results if isinstance(r, Appended)] == [
            (n + 1,) for n in range(20)
        ]
        assert pipeline.broken is None

    async def test_pipeline_breaks_with_its_first_failure(self, store: EventStore) -> None:
        """All appends after a failed one fail with `PipelineBroken`; others are not concerned."""
        pipeline, other = Pipeline(), Pipeline()
        results = await settled(
            store.append([write("a", expected=0)], pipeline=pipeline),
            store.append([write("a", expected=7)], pipeline=pipeline),
            store.append([write("b")], pipeline=pipeline),
            store.append([write("a", expected=1)], pipeline=other),
            store.append([], pipeline=pipeline),
            put(store, write("c")),
        )
        kinds = [type(result) for result in results]
        broken = PipelineBroken
        assert kinds == [Appended, ConcurrencyConflict, broken, Appended, broken, Appended]
        assert "version 1, expected 7" in str(results[2])
        assert str(results[4]) == str(results[2])
        assert isinstance(pipeline.broken, ConcurrencyConflict)
        assert other.broken is None

    async def test_broken_pipeline_stays_broken(self, store: EventStore) -> None:
        """What expects a version that happens to match later fails still: its base never was."""
        pipeline = Pipeline()
        await put(store, write("a"))
        with pytest.raises(ConcurrencyConflict):  # decided on version 0, a foreign event came in
            await store.append([write("a", expected=0)], pipeline=pipeline)
        for _ in range(2):
            with pytest.raises(PipelineBroken):  # would be at 1 after the one above
                await store.append([write("a", expected=1)], pipeline=pipeline)
        assert await store.version("a") == 1

    async def test_duplicate_breaks_a_pipeline(self, store: EventStore) -> None:
        """A duplicate returns the first outcome, and what was decided on it anew fails."""
        key = Idempotency("k")
        await store.append([write("a", expected=0)], idempotency=key)
        pipeline = Pipeline()
        results = await settled(
            store.append([write("a", expected=1)], idempotency=key, pipeline=pipeline),
            store.append([write("b")], pipeline=pipeline),
        )
        assert isinstance(results[0], Appended)
        assert results[0].duplicate
        assert isinstance(results[1], PipelineBroken)
        assert "'k'" in str(results[1])
        with pytest.raises(PipelineBroken):
            await store.append([write("b")], pipeline=pipeline)
        assert await store.version("b") == 0

    async def test_refused_input_breaks_a_pipeline(self, store: EventStore) -> None:
        """An append that is refused for its form counts as failed, but only for those after it."""
        pipeline = Pipeline()
        results = await settled(
            store.append([write("a")], pipeline=pipeline),
            store.append([write("a"), write("a")], pipeline=pipeline),
            store.append([write("b")], pipeline=pipeline),
        )
        assert isinstance(results[0], Appended)
        assert isinstance(results[1], InvalidInput)
        assert isinstance(results[2], PipelineBroken)
        assert isinstance(pipeline.broken, InvalidInput)

    # --- opening and closing ---

    async def test_a_second_store_at_the_place(
        self, store: EventStore, opened: Callable[[], Awaitable[EventStore]]
    ) -> None:
        """A shared log is seen by, and open to, all stores at its place; others see nothing."""
        await put(store, write("a"))
        other = await opened()
        assert (other.epoch == store.epoch) is self.shared
        assert await other.head() == (1 if self.shared else 0)
        results = await settled(
            *(put(one, write("a", expected=n)) for n in range(1, 20) for one in (store, other))
        )
        won = [result for result in results if isinstance(result, Appended)]
        if self.shared:
            log = await log_of(store)
            assert (
                [e.position for e in log]
                == [e.version for e in log]
                == list(range(1, len(log) + 1))
            )
            assert len(won) == len(log) - 1
            assert log == await log_of(other)
        else:
            assert await store.head() == 20
            assert await other.head() == 0

    async def test_reopened(
        self, store: EventStore, opened: Callable[[], Awaitable[EventStore]]
    ) -> None:
        """What was acknowledged outlives the store if its log is shared, and only then."""
        key = Idempotency("k", "print")
        first = await store.append([write("a", event("X", "t:1"))], idempotency=key)
        await store.save_snapshot(Snapshot("a", 1, "shape", b"state"))
        log, epoch = await log_of(store), store.epoch
        await store.close()
        again = await opened()
        kept = self.shared
        assert (again.epoch == epoch) is kept
        assert await log_of(again) == (log if kept else [])
        assert await again.outcome("k") == ((first, "print") if kept else None)
        assert (await again.load_snapshot("a") is not None) is kept
        assert (await again.append([], idempotency=key)).duplicate is kept
        assert (await put(again, write("a"))).versions == ((2,) if kept else (1,))

    async def test_epoch(self, store: EventStore) -> None:
        """The epoch is text that does not change while the store is open."""
        epoch = store.epoch
        await put(store, write("a"))
        assert epoch
        assert store.epoch == epoch

    async def test_close_finishes_accepted_appends(self, store: EventStore) -> None:
        """Appends accepted before closing are carried out; twice closing is fine."""
        tasks = [asyncio.ensure_future(put(store, write("a"))) for _ in range(50)]
        await asyncio.sleep(0)
        await soon(store.close())
        results = await settled(*tasks)
        assert [r.last for r in results if isinstance(r, Appended)] == list(range(1, 51))
        await soon(store.close())

    async def test_closed(self, store: EventStore) -> None:
        """After closing, everything raises `StoreUnavailable`, which says that it is closed."""
        await store.close()
        asked: list[Awaitable[object]] = [
            put(store, write("a")),
            store.append([], pipeline=Pipeline()),
            store.outcome("k"),
            store.head(),
            store.version("a"),
            store.position_at(0),
            store.save_snapshot(Snapshot("a", 1, "", b"")),
            store.load_snapshot("a"),
            events_of(store.read()),
            events_of(store.read_stream("a")),
            events_of(store.follow()),
        ]
        results = await settled(*asked)
        assert [type(result) for result in results] == [StoreUnavailable] * len(asked)
        assert all("closed" in str(result) for result in results)
        assert {error.outcome for error in results if isinstance(error, StoreUnavailable)} == {
            "not stored"
        }
