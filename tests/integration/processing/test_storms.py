"""Rebuilds, replays, splits and merges at random, all at once, among processes that come and go."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from headwater.errors import ConfigurationError
from headwater.processing import DeadLetter, Processor, ProcessorAdmin
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import (
    AccountView,
    Deposited,
    Ledger,
    MonthView,
    Opened,
    append,
)
from tests.integration.processing.test_faults import POISON, Faulty, die

ACCOUNTS = [f"a{number}" for number in range(12)]


class Storm:
    """Processors with a view store of their own each, and administrators at work beside them."""

    def __init__(self, stores: Stores, seed: int, *, faults: bool = False) -> None:
        self.stores = stores
        self.chance = random.Random(seed)  # not for secrets
        self.running: list[Processor] = []
        self.balances: Counter[str] = Counter()
        self.months: Counter[str] = Counter()
        self._faults = faults
        self._asides: list[asyncio.Task[Any]] = []
        self._admins: list[ProcessorAdmin] = []

    async def begin(self) -> None:
        for name in ACCOUNTS:
            await append(self.stores.store, name, Opened(name, "x"))
        await self.join()
        await until(self._is_begun)
        for number in range(3):
            self._admins.append(
                ProcessorAdmin(
                    Ledger,
                    source=self.stores.source,
                    views=await self.stores.another(),
                    owner=f"admin-{number}",
                    settings=QUICK,
                )
            )

    async def _is_begun(self) -> bool:
        """Whether there are segments: before that there is nothing to administer."""
        return bool(await self.stores.views.segments("ledger"))

    async def join(self) -> Processor:
        """Start one more processor."""
        handlers = Ledger()
        handlers.poison = {POISON}
        views: Any = Faulty(await self.stores.another(), self.chance)
        views.on = False  # a start that meets a fault fails as a whole
        processor = Processor(
            handlers,
            source=self.stores.source,
            views=views,
            owner=f"owner-{len(self.stores.started)}",
            settings=QUICK,
        )
        self.running.append(await self.stores.start(processor))
        views.on = self._faults
        return processor

    async def leave(self) -> None:
        """Stop a processor, or let it crash."""
        leaving = self.running.pop(self.chance.randrange(len(self.running)))
        await (die(leaving) if self.chance.random() < 0.5 else leaving.stop())
        self.stores.clock.skip(0.5)

    async def deposit(self, amount: int) -> int:
        """Store an event, let the others work, more or less, and return its position."""
        name, month = self.chance.choice(ACCOUNTS), f"2024-{self.chance.randrange(1, 4)}"
        self.balances[name] += amount
        self.months[month] += amount
        position = await append(self.stores.store, name, Deposited(name, amount, month))
        for _ in range(self.chance.randrange(60)):
            await asyncio.sleep(0)
        return position

    def administer(self, *, replays: bool) -> None:
        """Begin something that changes segments or generations; or cancel what was begun."""
        dice, admin = self.chance.random(), self.chance.choice(self._admins)
        if dice < 0.15:
            self._aside(admin.resize(self.chance.randrange(1, 10)))
        elif dice < 0.3:
            join, segments = self.chance.random() < 0.3, self.chance.choice([0, 0, 2, 5])
            self._aside(admin.rebuild(join=join, segments=segments))
        elif dice < 0.38 and replays:
            self._aside(admin.reset())
        elif dice < 0.43 and self._asides:
            self.chance.choice(self._asides).cancel()

    def _aside(self, work: Any) -> None:
        self._asides.append(asyncio.create_task(work))

    async def calm_down(self) -> ProcessorAdmin:
        """Wait for all that was begun, none of which may fail, and let one processor catch up."""
        if not self.running:
            await self.join()
        async with asyncio.timeout(60):
            for outcome in await asyncio.gather(*self._asides, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome
        while self.running:
            await self.leave()
        self.stores.clock.skip(2)
        self._faults = False
        await self.stores.caught_up(await self.join())
        return self._admins[0]

    async def check(self, admin: ProcessorAdmin) -> None:
        """Views agree with the log, and of no other generation is anything left."""
        views = self.stores.views
        for sequence in {letter.sequence async for letter in admin.letters()}:
            assert (await admin.retry(sequence)).failed is None
        accounts = (await views.find(AccountView, limit=100)).items
        assert {view.id: view.balance for view in accounts} == {
            n: self.balances[n] for n in ACCOUNTS
        }
        months = (await views.find(MonthView, limit=100)).items
        assert {view.month: view.total for view in months} == dict(self.months)
        active = await views.generation("ledger")
        following = active + 1  # of a rebuild that was cancelled
        segments = await views.segments("ledger")
        assert active in {s.generation for s in segments} <= {active, following}
        assert len({s.count for s in segments if s.generation == active}) == 1
        left = (await views.find(DeadLetter, limit=1000)).items
        assert {letter.queue for letter in left} <= {f"ledger@{following}"}
        for generation in range(1, active):
            with pytest.raises(ConfigurationError, match="is not in the store"):
                async with views.transaction(generations={"AccountView": generation}) as work:
                    await work.load(AccountView, ["a0"])


@pytest.mark.parametrize("seed", range(4))
async def test_views_agree_with_the_log_after_a_storm(stores: Stores, seed: int) -> None:
    """Whatever met whatever else: each event has its effect once, and no work is left over."""
    storm = Storm(stores, seed, faults=seed % 2 == 1)
    await storm.begin()
    chance = storm.chance
    for _ in range(40):
        if len(storm.running) < 3 and chance.random() < 0.4:
            await storm.join()
        if storm.running and chance.random() < 0.2:
            await storm.leave()
        for _ in range(10):
            await storm.deposit(POISON if chance.random() < 0.01 else chance.randrange(100))
        storm.administer(replays=True)
    await storm.check(await storm.calm_down())


@pytest.mark.parametrize("seed", range(2))
async def test_readers_never_go_back_in_a_storm(stores: Stores, seed: int) -> None:
    """Who waits for a token sees at least what it stands for, through rebuilds and resizes."""
    storm = Storm(stores, seed)
    await storm.begin()
    for turn in range(60):
        if len(storm.running) < 3 and storm.chance.random() < 0.4:
            await storm.join()
        elif len(storm.running) > 1 and storm.chance.random() < 0.2:
            await storm.running.pop(0).stop()
        storm.administer(replays=False)
        position = await storm.deposit(1)
        await storm.chance.choice(storm.running).wait_for(stores.at(position), timeout_s=20)
        accounts = (await stores.views.find(AccountView, limit=100)).items
        assert sum(account.balance for account in accounts) == turn + 1
    await storm.check(await storm.calm_down())
