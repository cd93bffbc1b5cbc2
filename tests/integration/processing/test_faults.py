"""Processors that come, go, die and meet faults at random; the views must agree with the log."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headwater.errors import StoreUnavailable
from headwater.processing import DeadLetter, Processor, ProcessorAdmin, rebuild
from headwater.views import ViewTransaction
from tests.integration.processing.conftest import QUICK, Stores
from tests.integration.processing.domain import AccountView, Deposited, Ledger, Opened, append

POISON = 666


class Faulty:
    """A view store whose transactions fail now and then, before or in their midst."""

    def __init__(self, views: Any, chance: random.Random) -> None:
        self._views = views
        self._chance = chance
        self.on = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._views, name)

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[ViewTransaction]:
        self._fail()
        async with self._views.transaction(**options) as transaction:
            yield transaction
            self._fail()

    def _fail(self) -> None:
        if self.on and self._chance.random() < 0.1:
            raise StoreUnavailable(store="views", reason="a fault at random")


async def die(processor: Processor) -> None:
    """End a processor as a crash would: nothing is given back."""
    for task in processor._tasks:
        task.cancel()
    await asyncio.gather(*processor._tasks, return_exceptions=True)
    await processor.progress.close()


@pytest.mark.parametrize("seed", range(3))
async def test_views_agree_with_the_log(stores: Stores, seed: int) -> None:
    """Whatever happened, each event had its effect once, or waits as a dead letter in order."""
    chance = random.Random(seed)  # not for secrets
    views = Faulty(stores.views, chance)
    accounts = [f"a{number}" for number in range(12)]
    expected: Counter[str] = Counter()
    for name in accounts:
        await append(stores.store, name, Opened(name, "x"))

    def start(owner: str) -> Processor:
        handlers = Ledger()
        handlers.poison = {POISON}
        return Processor(
            handlers,
            source=stores.source,
            views=views,  # type: ignore[arg-type]  # a store with faults
            owner=owner,
            settings=QUICK,
        )

    running: list[Processor] = []
    for turn in range(40):
        if len(running) < 3 and chance.random() < 0.4:
            views.on = False  # a start that meets a fault fails as a whole
            running.append(await stores.start(start(f"owner-{turn}")))
            views.on = True
        if running and chance.random() < 0.2:
            leaving = running.pop(chance.randrange(len(running)))
            await (die(leaving) if chance.random() < 0.5 else leaving.stop())
            stores.clock.skip(0.5)
        for _ in range(10):
            name = chance.choice(accounts)
            amount = POISON if chance.random() < 0.01 else chance.randrange(100)
            expected[name] += amount
            await append(stores.store, name, Deposited(name, amount))
            for _ in range(chance.randrange(60)):  # let the others work, more or less
                await asyncio.sleep(0)
        if turn == 25:
            task = asyncio.create_task(
                rebuild(
                    _tolerant(),
                    source=stores.source,
                    views=stores.views,
                    owner="rebuilder",
                    settings=QUICK,
                )
            )
    await task
    views.on = False
    stores.clock.skip(2)
    last = await stores.start(start("last"))
    await stores.caught_up(last)
    care = _tolerant()
    admin = ProcessorAdmin(care, source=stores.source, views=stores.views, settings=QUICK)
    for sequence in {letter.sequence async for letter in admin.letters()}:
        assert (await admin.retry(sequence)).failed is None
    found = (await stores.views.find(AccountView, limit=100)).items
    assert {view.id: view.balance for view in found} == {n: expected[n] for n in accounts}
    assert await stores.views.count(DeadLetter) == 0


def _tolerant() -> Ledger:
    return Ledger()
