"""The event store in SQLite behaves as the model in memory does, whatever is done to both."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headwater.errors import ConditionFailed, HeadwaterError
from headwater.eventstore import (
    AppendCondition,
    Appended,
    EventFilter,
    EventStore,
    FilterItem,
    Idempotency,
    NewEvent,
    Pipeline,
    Snapshot,
    StreamWrite,
)
from headwater.eventstore.memory import MemoryEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.testing.eventstore import ManualClock
from headwater.testing.eventstore_base import events_of, pages_of
from headwater.testing.history import History, RecordedStore, Verdict, check_store

STREAMS = st.sampled_from(["a", "b", "c/\u20ac"])
TYPES = st.sampled_from(["A", "B", "C"])
TAGS = st.sampled_from(["x", "y", "z"])
POSITIONS = st.integers(0, 40)
EVENTS = st.builds(
    NewEvent,
    type=TYPES,
    type_version=st.integers(1, 3),
    data=st.binary(max_size=4),
    metadata=st.binary(max_size=2),
    tags=st.lists(TAGS, max_size=3).map(tuple),
)
WRITES = st.lists(
    st.builds(
        StreamWrite,
        stream=STREAMS,
        events=st.lists(EVENTS, max_size=3),
        expected=st.none() | st.integers(0, 6),
    ),
    max_size=3,
)
FILTERS = st.builds(
    EventFilter,
    st.lists(
        st.builds(
            FilterItem,
            types=st.lists(TYPES, max_size=2).map(tuple),
            tags=st.lists(TAGS, max_size=2).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
)


class Request(msgspec.Struct):
    """One append, to be made in both stores."""

    writes: list[StreamWrite]
    condition: AppendCondition | None
    key: Idempotency | None
    pipeline: int | None


REQUESTS = st.builds(
    Request,
    writes=WRITES,
    condition=st.none() | st.builds(AppendCondition, filter=FILTERS, after=POSITIONS),
    key=st.none()
    | st.builds(Idempotency, key=st.sampled_from("kl"), fingerprint=st.sampled_from("fg")),
    pipeline=st.none() | st.integers(0, 1),
)
RANGES = st.fixed_dictionaries(
    {
        "after": POSITIONS,
        "until": st.none() | POSITIONS,
        "backwards": st.booleans(),
        "limit": st.none() | st.integers(0, 5),
        "page_size": st.integers(1, 7),
    }
)


class Comparison(RuleBasedStateMachine):
    """Does the same to both stores and compares every answer; the log is a witness besides."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.clock = ManualClock()
        self.model = MemoryEventStore(clock=self.clock)
        self.pipelines = [(Pipeline(), Pipeline()) for _ in range(2)]
        self.history = History()

    @initialize()
    def open(self) -> None:
        self.store = self._recorded()
        self.other = self._recorded()
        self.epoch = self.store.epoch

    def _recorded(self) -> RecordedStore:
        return RecordedStore(self.history, self.runner.run(self._open()))

    async def _open(self) -> SQLiteEventStore:
        path = Path(self.directory.name) / "events.db"
        return await SQLiteEventStore.open(path, clock=self.clock, readers=1)

    @rule(requests=st.lists(REQUESTS, min_size=1, max_size=6))
    def append_together(self, requests: list[Request]) -> None:
        expected = self.runner.run(self._append(self.model, 0, requests))
        actual = self.runner.run(self._append(self.store, 1, requests))
        for request, model, store in zip(requests, expected, actual, strict=True):
            self._compare(request, model, store)

    @rule(request=REQUESTS)
    def append_elsewhere(self, request: Request) -> None:
        (expected,) = self.runner.run(self._append(self.model, 0, [request]))
        (actual,) = self.runner.run(self._append(self.other, 1, [request]))
        self._compare(request, expected, actual)

    async def _append(self, store: EventStore, side: int, requests: list[Request]) -> list[Any]:
        work = [
            store.append(
                request.writes,
                condition=request.condition,
                idempotency=request.key,
                pipeline=None
                if request.pipeline is None
                else self.pipelines[request.pipeline][side],
            )
            for request in requests
        ]
        return await asyncio.gather(*work, return_exceptions=True)

    def _compare(self, request: Request, expected: Any, actual: Any) -> None:
        if isinstance(expected, ConditionFailed):  # any event that matches may be named
            assert isinstance(actual, ConditionFailed)
            assert request.condition is not None
            assert actual.position > expected.after == actual.after
            assert request.condition.filter.matches(*self._event_at(actual.position))
        elif isinstance(expected, HeadwaterError):
            assert type(actual) is type(expected)
            if "cause" not in expected.fields():  # which may name a position
                assert actual.fields() == expected.fields()
        else:
            assert isinstance(expected, Appended)
            assert actual == expected

    def _event_at(self, position: int) -> tuple[str, tuple[str, ...]]:
        (stored,) = self.runner.run(events_of(self.model.read(after=position - 1, until=position)))
        return stored.type, stored.tags

    @rule(number=st.integers(0, 1))
    def start_pipeline_anew(self, number: int) -> None:
        model, store = self.pipelines[number]
        assert type(model.broken) is type(store.broken)
        self.pipelines[number] = (Pipeline(), Pipeline())

    @rule(filter=FILTERS, numbers=RANGES)
    def read(self, filter: EventFilter, numbers: dict[str, Any]) -> None:
        self._same(lambda store: pages_of(store.read(filter=filter, **numbers)))

    @rule(stream=STREAMS, numbers=RANGES)
    def read_stream(self, stream: str, numbers: dict[str, Any]) -> None:
        self._same(lambda store: pages_of(store.read_stream(stream, **numbers)))

    @rule(filter=FILTERS, after=POSITIONS, size=st.integers(1, 5))
    def follow(self, filter: EventFilter, after: int, size: int) -> None:
        async def caught_up(store: EventStore) -> list[Any]:
            head, found = await store.head(), []
            if after < head:
                pages = store.follow(filter=filter, after=after, page_size=size)
                async for page in pages:
                    found.extend(page.events)
                    if page.through >= head:
                        break
                await pages.aclose()
            return found

        self._same(caught_up)

    @rule(moved=st.integers(-20, 50))
    def move_clock(self, moved: int) -> None:
        self.clock.now += moved

    @rule(moved=st.integers(-60, 20))
    def position_at(self, moved: int) -> None:
        self._same(lambda store: store.position_at(self.clock.now + moved))

    @rule(
        snapshot=st.builds(
            Snapshot, stream=STREAMS, version=st.integers(0, 5), fingerprint=TAGS, data=st.binary()
        )
    )
    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._same(lambda store: store.save_snapshot(snapshot))

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.store = self._recorded()
        assert self.store.epoch == self.epoch

    @invariant()
    def same_state(self) -> None:
        if not hasattr(self, "store"):
            return
        self._same(_state)

    def _same(self, ask: Any) -> None:
        assert self.runner.run(ask(self.store)) == self.runner.run(ask(self.model))

    def teardown(self) -> None:
        verdict = Verdict(0, 0)
        if hasattr(self, "store"):
            verdict = self.runner.run(check_store(self.history, self.store))
            self.runner.run(self.store.close())
            self.runner.run(self.other.close())
        self.runner.close()
        self.directory.cleanup()
        assert not verdict.violations, verdict


async def _state(store: EventStore) -> list[Any]:
    state: list[Any] = [await store.head(), await events_of(store.read())]
    for stream in ("a", "b", "c/\u20ac"):
        state.append((await store.version(stream), await store.load_snapshot(stream)))
    return [*state, await store.outcome("k"), await store.outcome("l")]


Comparison.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    phases=[Phase.reuse, Phase.generate],  # a failure is reported as found: shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)


class TestAgainstTheModel(Comparison.TestCase):
    """SQLite and memory give the same answers to any sequence of requests."""
