"""An instance forgets what nobody needs any more, and tells when its machine's clock is off."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import aiohttp
import apsw
import pytest

from headwater._sql import clock_watch
from headwater.messages import Command, Event
from headwater.modelling import (
    Aggregate,
    Projection,
    command_handler,
    event_handler,
    event_sourcing_handler,
)
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View

WAIT_S_MAX = 30.0
_COUNT = 40
_YEAR_NS = 365 * 86_400 * 10**9


class Place(Command):
    id: str


class Placed(Event):
    id: str


class Order(Aggregate):
    @command_handler(creates=True)
    def place(self, command: Place) -> Placed:
        return Placed(command.id)

    @event_sourcing_handler
    def placed(self, event: Placed) -> None: ...


class Seen(View):
    id: Annotated[str, Key]


class Watching(Projection):
    source = "bus"

    @event_handler(Seen, key="id")
    def placed(self, event: Placed) -> Seen:
        return Seen(event.id)


def stored(path: Path, table: str) -> int:
    connection = apsw.Connection(str(path))
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").get)
    finally:
        connection.close()


async def test_an_instance_forgets(tmp_path: Path) -> None:
    """Keys go with their time; events of the bus when its own processors have read them."""
    service = Service("orders", aggregates=[Order], projections=[Watching])
    settings = {
        "data": str(tmp_path),
        "bus": "sqlite:{data}/bus.db",
        "keys_kept_s": 1e-6,
        "bus_kept_s": 1e-6,
    }
    bus, log = tmp_path / "bus.db", tmp_path / "orders" / "events.db"
    async with Runtime(service, settings) as runtime:
        for n in range(_COUNT):
            await runtime.commands.send(Place(f"o{n}"), idempotency_key=f"k{n}")
        assert runtime.views is not None
        async with asyncio.timeout(WAIT_S_MAX):
            async for _ in runtime.views.changes():
                if await runtime.views.count(Seen) == _COUNT:
                    break
            while stored(bus, "bus_events") > runtime.settings.partitions:
                await runtime.upkeep.turn()
        assert stored(bus, "bus_readers") == runtime.settings.partitions
        assert stored(log, "event_keys") == 0
        again = await runtime.commands.send(Place("later"), idempotency_key="k0")
        assert not again.duplicate
        await runtime.upkeep.turn()


async def test_an_instance_forgets_nothing_when_told(tmp_path: Path) -> None:
    """With settings of 0 all is kept."""
    service = Service("orders", aggregates=[Order], projections=[Watching])
    settings = {"data": str(tmp_path), "bus": "sqlite:{data}/bus.db"}
    async with Runtime(service, {**settings, "keys_kept_s": 0, "bus_kept_s": 0}) as runtime:
        await runtime.commands.send(Place("o"), idempotency_key="k")
        await runtime.upkeep.turn()
        assert stored(tmp_path / "orders" / "events.db", "event_keys") == 1
        assert (await runtime.commands.send(Place("o"), idempotency_key="k")).duplicate


@pytest.mark.postgres
async def test_a_clock_that_is_off(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named in the health and the metrics, the instance is ready all the same."""
    right = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: right() + _YEAR_NS)
    service = Service("orders", aggregates=[Order])
    async with Runtime(service, {"store": postgres_url, "views": postgres_url}) as runtime:
        result = await runtime.commands.send(Place("o"))
        assert result.version == 1
        async with aiohttp.ClientSession(runtime.url) as http:
            async with http.get("/health/ready") as answer:
                assert answer.status == 200
                concerns = (await answer.json())["concerns"]
            async with http.get("/metrics") as answer:
                metrics = await answer.text()
        assert any("ahead of the store's" in text for text in concerns.values())
        assert "headwater_clock_ahead_seconds{" in metrics
        assert runtime.store is not None
        pages = [page async for page in runtime.store.shards[0].read()]
        stamped = pages[0].events[0].time
        assert abs(stamped - right() // 1000) < 600_000_000
    monkeypatch.setattr(time, "time_ns", right)
    async with Runtime(service, {"store": postgres_url, "views": postgres_url}) as runtime:
        assert not any(name in clock_watch.troubles() for name in concerns)
