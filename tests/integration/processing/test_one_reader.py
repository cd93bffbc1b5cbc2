"""However many segments a process has: each event is read once for a processor."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headwater.errors import StoreUnavailable
from headwater.eventstore import Page
from headwater.modelling import (
    Effects,
    EventHandlers,
    Projection,
    Saga,
    event_handler,
    saga_handler,
)
from headwater.processing import Processor, SagaProcessor
from headwater.processing.admin import ProcessorAdmin
from headwater.views import ViewTransaction
from tests.integration.processing.bank import command_bus
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import AccountView, Noted, Opened, append

EVENTS = 60


class Reads:
    """Counts how often events are read; ``away``: they cannot be read now."""

    def __init__(self, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: Counter[int] = Counter()
        self.away = False
        follow = stores.store.follow

        async def counting(**options: Any) -> AsyncIterator[Page]:
            async for page in follow(**options):
                if self.away:
                    raise StoreUnavailable(store="events", reason="it is away")
                self.events.update(event.position for event in page.events)
                yield page

        monkeypatch.setattr(stores.store, "follow", counting)

    @property
    def most(self) -> int:
        return max(self.events.values(), default=0)


@pytest.fixture
def reads(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(stores, monkeypatch)


class Outside(EventHandlers):
    """Its handlers run outside of the transaction, one segment beside the other."""

    segments = 16
    start = "beginning"

    def __init__(self) -> None:
        self.seen: list[str] = []

    @event_handler
    async def opened(self, event: Opened) -> None:
        self.seen.append(event.account_id)


class Inside(EventHandlers):
    segments = 16

    @event_handler
    async def opened(self, event: Opened, transaction: ViewTransaction) -> None: ...


class Accounts(Projection):
    segments = 16

    @event_handler(AccountView, key="account_id")
    def opened(self, event: Opened) -> AccountView:
        return AccountView(event.account_id, event.holder)


class Care(Saga):
    saga_segments = 16

    @saga_handler(key="account_id", starts=True)
    def opened(self, event: Opened) -> Effects:
        return None


def made(stores: Stores, kind: Any) -> Processor:
    if kind is Care:
        bus, _ = command_bus(stores.store)
        return SagaProcessor(
            Care, source=stores.source, views=stores.views, owner="me", commands=bus, settings=QUICK
        )
    return Processor(kind, source=stores.source, views=stores.views, owner="me", settings=QUICK)


@pytest.mark.parametrize("kind", [Outside, Inside, Accounts, Care])
async def test_events_are_read_once(stores: Stores, reads: Reads, kind: Any) -> None:
    """Each event is read once, though it comes by itself and there are many segments."""
    processor = await stores.start(made(stores, kind))
    await until(lambda: len(processor.claims.held) == 16)
    for n in range(EVENTS):
        position = await append(stores.store, f"s{n}", Opened(f"s{n}", "x"))
        if n % 5 == 0:
            await processor.wait_for(stores.at(position), timeout_s=20.0)
    await stores.caught_up(processor)
    assert reads.most == 1
    assert (await processor.status()).handled == EVENTS


async def test_a_history_is_read_once(stores: Stores, reads: Reads) -> None:
    """So it is when it is read from the beginning, and after a replay."""
    names = [f"s{n}" for n in range(EVENTS)]
    for name in names:
        await append(stores.store, name, Opened(name, "x"))
    handlers = Outside()
    processor = await stores.start(made(stores, handlers))
    await stores.caught_up(processor)
    assert sorted(handlers.seen) == sorted(names)
    assert reads.most <= 2  # who claims its segments in two goes reads the begin of it twice
    handlers.seen.clear()
    reads.events.clear()
    admin = ProcessorAdmin(handlers, source=stores.source, views=stores.views, settings=QUICK)
    await admin.reset()
    await until(lambda: set(handlers.seen) == set(names))
    assert reads.most <= 4


async def test_who_is_slower_loses_nothing(stores: Stores, reads: Reads) -> None:
    """When the log was away, and one segment took long, all is handled, once each, in order."""
    import asyncio

    gate = asyncio.Event()

    class Slow(Outside):
        @event_handler
        async def opened(self, event: Opened) -> None:
            if event.account_id == "slow":
                await gate.wait()
            self.seen.append(event.account_id)

    handlers = Slow()
    processor = await stores.start(made(stores, handlers))
    await append(stores.store, "slow", Opened("slow", "x"), Noted("not handled"))
    for n in range(EVENTS * 3):
        await append(stores.store, f"s{n}", Opened(f"s{n}", "x"))
        if n == EVENTS:
            reads.away = True
            await append(stores.store, "x", Opened("x", "x"))

            async def noticed() -> bool:
                return "it is away" in (await processor.status()).failure

            await until(noticed)
            reads.away = False
    await until(lambda: len(handlers.seen) > EVENTS * 2)
    gate.set()
    await stores.caught_up(processor)
    expected = sorted(["slow", "x", *[f"s{n}" for n in range(EVENTS * 3)]])
    assert sorted(handlers.seen) == expected
