"""What live events cost: processor time per event, over all threads, events coming one by one."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from benchmarks.bank import AccountOpened, MoneyWithdrawn
from benchmarks.bench_processing import Balance, Balances, event_of
from benchmarks.harness import Measured, benchmark
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.eventstore import StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.processing import BusSource, Processor, Relay, StoreSource
from headwater.views.sqlite import SQLiteViewStore

EVENTS = 600
RATE = 300  # events per second


class Engines:
    """A store, a bus and views in one directory."""

    def __init__(
        self, store: SQLiteEventStore, bus: SQLiteEventBus, views: SQLiteViewStore
    ) -> None:
        """Hold them."""
        self.store, self.bus, self.views = store, bus, views


@asynccontextmanager
async def _engines() -> AsyncIterator[Engines]:
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = await SQLiteEventStore.open(place / "events.db")
        stack.push_async_callback(store.close)
        bus = await SQLiteEventBus.open(place / "bus.db")
        stack.push_async_callback(bus.close)
        views = await SQLiteViewStore.open(place / "views.db")
        stack.push_async_callback(views.close)
        yield Engines(store, bus, views)


async def _append_all(store: SQLiteEventStore, account: str) -> None:
    """Append events evenly, each on its own."""
    await store.append([StreamWrite(f"Account/{account}", [event_of(AccountOpened(account, "x"))])])
    began = time.perf_counter()
    for n in range(EVENTS):
        await asyncio.sleep(began + n / RATE - time.perf_counter())
        event = event_of(MoneyWithdrawn(account, 1))
        await store.append([StreamWrite(f"Account/{account}", [event])])


async def _cpu_ms(engines: Engines, account: str, *, seen: bool) -> float:
    """Return the processor time per event, until the view shows all of them if ``seen``."""
    began = time.process_time()
    await _append_all(engines.store, account)
    async with aclosing(engines.views.changes()) as changes:  # type: ignore[type-var]  # is a generator
        while seen:
            balance = await engines.views.get(Balance, account)
            if balance is not None and balance.events == EVENTS:
                break
            await anext(changes)
    return (time.process_time() - began) * 1000 / EVENTS


@benchmark("live.cpu.store", unit="ms/event", peer="the appends alone", runs=3)
async def live_cpu_store() -> Measured:
    """Store to projection, 300 events per second."""
    async with _engines() as engines:
        await engines.views.ensure([Balance])
        alone = await _cpu_ms(engines, "alone", seen=False)
        source = StoreSource(engines.store, "bench")
        processor = Processor(Balances, source=source, views=engines.views, owner="bench")
        await processor.start()
        value = await _cpu_ms(engines, "seen", seen=True)
        await processor.stop()
        return Measured(value, alone)


@benchmark("live.cpu.bus", unit="ms/event", peer="the appends alone", runs=3)
async def live_cpu_bus() -> Measured:
    """Store to relay to bus to projection, 300 events per second."""
    async with _engines() as engines:
        await engines.views.ensure([Balance])
        alone = await _cpu_ms(engines, "alone", seen=False)
        source = BusSource(engines.bus)
        processor = Processor(Balances, source=source, views=engines.views, owner="bench")
        relay = Relay(
            engines.store,
            engines.bus,
            name="bench",
            epoch=engines.store.epoch,
            views=engines.views,
            owner="bench",
        )
        await processor.start()
        await relay.start()
        value = await _cpu_ms(engines, "seen", seen=True)
        await relay.stop()
        await processor.stop()
        return Measured(value, alone)
