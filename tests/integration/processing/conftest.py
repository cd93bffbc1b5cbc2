"""Stores to process from and into: in memory, in SQLite files, and in PostgreSQL."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from headwater.errors import EventParked
from headwater.eventbus import EventBus
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventbus.postgres import PostgresEventBus
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.eventstore import EventStore
from headwater.eventstore.memory import MemoryEventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import ConsistencyToken
from headwater.modelling import Retry
from headwater.processing import Processor, ProcessorSettings, Relay, StoreSource
from headwater.processing.handling.dead_letters import letters
from headwater.views import ViewStore
from headwater.views.memory import MemoryViewStore
from headwater.views.postgres import PostgresViewStore
from headwater.views.sqlite import SQLiteViewStore
from tests.postgres_server import POSTGRES

# Quick turns, so that tests need not wait for real leases.
QUICK = ProcessorSettings(
    lease_s=1.0,
    renew_s=0.05,
    retry=Retry(attempts=3, pause_s=0.005, pause_max_s=0.05),
    back_off_s=0.005,
    back_off_max_s=0.05,
)


class Clock:
    """The time, which a test can move on."""

    def __init__(self) -> None:
        self._skipped_s = 0.0

    def __call__(self) -> float:
        return time.time() + self._skipped_s

    def skip(self, seconds: float) -> None:
        self._skipped_s += seconds


class Stores:
    """An event store, a view store and a bus, and processors that are stopped at the end."""

    def __init__(
        self,
        clock: Clock,
        store: EventStore,
        views: ViewStore,
        bus: EventBus,
        open_views: Callable[[], Awaitable[ViewStore]] | None = None,
    ) -> None:
        self.clock = clock
        self.store = store
        self.views = views
        self.bus = bus
        self.started: list[Processor] = []
        self.opened = [views]
        self._open_views = open_views

    async def another(self) -> ViewStore:
        """Open the view store once more, as another process does (in memory: the same one)."""
        if self._open_views is None:
            return self.views
        self.opened.append(await self._open_views())
        return self.opened[-1]

    @property
    def source(self) -> StoreSource:
        return StoreSource(self.store, "ledger")

    def at(self, position: int) -> ConsistencyToken:
        return ConsistencyToken.at("ledger", self.store.epoch, position)

    async def start(self, processor: Processor) -> Processor:
        await processor.start()
        self.started.append(processor)
        return processor

    async def caught_up(self, processor: Processor) -> None:
        """Wait until everything was handled or parked."""
        with contextlib.suppress(EventParked):
            await processor.wait_for(self.at(await self.store.head()), timeout_s=10.0)

        async def nothing_waits() -> bool:
            return not any([letter.due async for letter in letters(self.views)])

        await until(nothing_waits)


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """All backends."""
    clock = Clock()
    if request.param == "memory":
        views = MemoryViewStore(clock=clock)
        made = Stores(clock, MemoryEventStore(), views, MemoryEventBus(partitions=8))
    elif request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")

        def open_views() -> Awaitable[ViewStore]:
            return PostgresViewStore.open(url, clock=clock)

        made = Stores(
            clock,
            await PostgresEventStore.open(url),
            await open_views(),
            await PostgresEventBus.open(url, partitions=8),
            open_views,
        )
    else:

        def open_file() -> Awaitable[ViewStore]:
            return SQLiteViewStore.open(tmp_path / "views.db", clock=clock)

        made = Stores(
            clock,
            await SQLiteEventStore.open(tmp_path / "events.db"),
            await open_file(),
            await SQLiteEventBus.open(tmp_path / "bus.db", partitions=8),
            open_file,
        )
    yield made
    for processor in made.started:
        await processor.stop()
    await made.bus.close()
    for opened in made.opened:
        await opened.close()
    await made.store.close()


async def publish_again(store: EventStore, bus: EventBus, name: str) -> None:
    """Publish all events of a store, as a relay does that knows nothing of what was published."""
    views = MemoryViewStore()
    relay = Relay(store, bus, name=name, epoch=store.epoch, views=views, owner="again")
    await relay.start()
    head = await store.head()

    async def published() -> bool:
        return (await relay.status()).position >= head

    await until(published)
    await relay.stop()


async def until(condition: Callable[[], object], *, timeout_s: float = 10.0) -> None:
    """Poll a condition, plain or async, until it holds; fail when it does not in time."""
    end = time.monotonic() + timeout_s
    while True:
        held = condition()
        if await held if inspect.isawaitable(held) else held:
            return
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)
