"""Claims and generations in the databases do what the model in memory does."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from headwater.errors import HeadwaterError
from headwater.testing.views_base import Clock
from headwater.views import Key, Segment, View, ViewStore
from headwater.views.memory import MemoryViewStore
from headwater.views.postgres import PostgresViewStore
from headwater.views.sqlite import SQLiteViewStore
from tests.postgres_server import drop_schema


class Doc(View):
    id: Annotated[str, Key]
    text: str = ""


generations = st.integers(1, 4)
processors = st.sampled_from(["p", "q"])
numbers = st.integers(0, 5)
Work = Callable[[ViewStore], Any]


class Agreement(RuleBasedStateMachine):
    """Does the same to both stores and compares every outcome, errors included."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.claims: list[Segment] = []
        self.stores: list[ViewStore] = []

    @initialize()
    def start(self) -> None:
        real = self.runner.run(self.open_fresh())
        self.stores = [MemoryViewStore(clock=self.clock), real]
        self.both(lambda store: store.ensure([Doc]))
        self.open("p", 1, 1)
        self.claim(0, "a", 10)

    async def open_fresh(self) -> ViewStore:
        """Open the other store, empty."""
        raise NotImplementedError

    def both(self, work: Work) -> Any:
        model, real = [self.runner.run(outcome(work, store)) for store in self.stores]
        assert real == model
        return model

    def chosen(self, number: int) -> list[Segment]:
        return [self.claims[number % len(self.claims)]] if self.claims else []

    @rule(processor=processors, count=st.integers(1, 3), generation=generations)
    def open(self, processor: str, count: int, generation: int) -> None:
        self.both(
            lambda s: s.open_segments(processor, count=count, token="0", generation=generation)
        )

    @rule(number=numbers, owner=st.sampled_from(["a", "b"]), lease_s=st.sampled_from([1, 10]))
    def claim(self, number: int, owner: str, lease_s: float) -> None:
        segments = self.both(lambda store: store.segments())
        if segments:
            segment = segments[number % len(segments)]
            claimed = self.both(lambda s: s.claim(segment, owner=owner, lease_s=lease_s))
            if claimed is not None:
                self.claims.append(claimed)

    @rule(number=numbers)
    def renew(self, number: int) -> None:
        self.both(lambda store: store.renew(self.chosen(number), lease_s=5))

    @rule(number=numbers)
    def release(self, number: int) -> None:
        self.both(lambda store: store.release(self.chosen(number)))

    @rule(processor=processors, generation=generations)
    def reset(self, processor: str, generation: int) -> None:
        self.both(lambda s: s.reset(processor, token="reset", generation=generation))

    @rule(seconds=st.sampled_from([1, 5, 10]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(number=numbers, text=st.text("abc", max_size=2), generation=st.none() | generations)
    def work(self, number: int, text: str, generation: int | None) -> None:
        async def transact(store: ViewStore) -> None:
            chosen = {} if generation is None else {"Doc": generation}
            async with store.transaction(generations=chosen) as step:
                await step.save([Doc(str(number % 3), text)])
                await step.advance(self.chosen(number), text)

        self.both(transact)

    @rule(generation=generations)
    def ensure(self, generation: int) -> None:
        self.both(lambda store: store.ensure([Doc], generation=generation))

    @rule(processor=processors, generation=generations)
    def activate(self, processor: str, generation: int) -> None:
        self.both(lambda store: store.activate(processor, generation, [Doc]))

    @rule(processor=processors, generation=generations)
    def drop(self, processor: str, generation: int) -> None:
        self.both(lambda store: store.drop_generation(processor, generation, [Doc]))

    @invariant()
    def same(self) -> None:
        if self.stores:
            self.both(lambda store: store.segments())
            self.both(lambda store: store.find(Doc))
            self.both(lambda store: store.generation("p"))

    def teardown(self) -> None:
        for store in self.stores:
            self.runner.run(store.close())
        self.runner.close()


async def outcome(work: Work, store: ViewStore) -> Any:
    try:
        return await work(store)
    except HeadwaterError as error:
        return str(error)


LIMITS = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_claims_and_generations_in_sqlite_agree_with_the_model(tmp_path: Path) -> None:
    """Any sequence of claims, leases, work, resets and activations has the same outcomes."""

    class Machine(Agreement):
        async def open_fresh(self) -> ViewStore:
            directory = await asyncio.to_thread(tempfile.mkdtemp, dir=tmp_path)
            return await SQLiteViewStore.open(f"{directory}/views.db", clock=self.clock)

    run_state_machine_as_test(Machine, settings=LIMITS)


def test_claims_and_generations_in_postgres_agree_with_the_model(postgres_url: str) -> None:
    """Any sequence of claims, leases, work, resets and activations has the same outcomes."""

    class Machine(Agreement):
        async def open_fresh(self) -> ViewStore:
            await asyncio.to_thread(drop_schema, postgres_url)
            return await PostgresViewStore.open(postgres_url, clock=self.clock)

    run_state_machine_as_test(Machine, settings=LIMITS)
