"""What a query over HTTP is told about a write that its view cannot show."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import pytest

from headwater.client import HttpCaller
from headwater.discovery import Instance, StaticDiscovery
from headwater.dispatch.remote import RemoteQueryBus
from headwater.errors import EventParked
from headwater.messages import Command, ConsistencyToken, Event, Query, route
from headwater.messages.headers import CONSISTENCY_TOKEN
from headwater.modelling import Aggregate, Projection, command_handler, event_handler, query_handler
from headwater.processing import ProcessorAdmin, StoreSource
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View
from tests.postgres_server import POSTGRES


@route("POST /meters/{meter_id}")
class Read(Command):
    """Note what a meter shows."""

    meter_id: str
    value: int


class WasRead(Event):
    """It was noted."""

    meter_id: str
    value: int


class Archived(Event):
    """Something that no view is about."""

    meter_id: str


class Meter(Aggregate):
    """A meter."""

    @command_handler(creates="if_missing")
    def read(self, command: Read) -> tuple[WasRead, Archived]:
        """Note it."""
        return WasRead(self.id, command.value), Archived(self.id)


class MeterView(View):
    """What a meter showed last."""

    id: Annotated[str, Key]
    value: int = 0


@route("GET /meters/{meter_id}")
class GetMeter(Query[MeterView]):
    """One meter."""

    meter_id: str


class Meters(Projection):
    """All meters; a negative value is more than its author thought of."""

    broken = True

    @event_handler(MeterView, key="meter_id")
    def was_read(self, view: MeterView, event: WasRead) -> None:
        """Show it."""
        if event.value < 0 and self.broken:
            msg = "a meter cannot go backwards"
            raise ValueError(msg)
        view.value = event.value

    @query_handler
    async def one(self, query: GetMeter) -> MeterView | None:
        """Answer."""
        return await self.views.get(MeterView, query.meter_id)


class System:
    """Instances of one service: the first takes commands, all answer queries."""

    def __init__(self, instances: list[Runtime], sessions: list[aiohttp.ClientSession]) -> None:
        self.instances = instances
        self.sessions = sessions

    async def read(self, meter: str, value: int) -> str:
        """Send a command; return its token."""
        async with self.sessions[0].post(f"/meters/{meter}", json={"value": value}) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["token"])

    async def ask(self, meter: str, token: str, **headers: str) -> list[tuple[int, Any]]:
        """Return status and content of the answers of all instances."""
        answers = []
        for http in self.sessions:
            sent = {CONSISTENCY_TOKEN: token, **headers}
            async with http.get(f"/meters/{meter}", headers=sent) as answer:
                answers.append((answer.status, await answer.json()))
        return answers

    def admin(self) -> ProcessorAdmin:
        """Return what an operator has."""
        first = self.instances[0]
        assert first.store is not None
        assert first.views is not None
        return ProcessorAdmin(Meters, source=StoreSource(first.store, "meters"), views=first.views)


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
async def system(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[System]:
    """A service of two instances; what is in memory has one only."""
    given = {"data": str(tmp_path), "consistency_timeout_s": 30.0, "request_timeout_s": 60.0}
    given |= {"retry_attempts": 3, "retry_pause_s": 0.01}
    if request.param == "memory":
        given |= {"store": "memory:", "views": "memory:"}
    elif request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        given |= {"store": url, "views": url}
    Meters.broken = True
    async with AsyncExitStack() as stack:
        instances = [
            await stack.enter_async_context(
                Runtime(Service("meters", aggregates=[Meter], projections=[Meters]), given)
            )
            for _ in range(1 if request.param == "memory" else 2)
        ]
        sessions = [
            await stack.enter_async_context(aiohttp.ClientSession(one.url)) for one in instances
        ]
        yield System(instances, sessions)


async def test_a_parked_write(system: System) -> None:
    """Each instance says that its view cannot show the write, until it was retried with success."""
    good = await system.read("a", 5)
    bad = await system.read("a", -1)
    other = await system.read("b", 7)
    for status, problem in await system.ask("a", bad):
        assert (status, problem["code"]) == (409, "event-parked"), problem
        assert problem["fields"] == {
            "processor": "meters",
            "sequence": "Meter/a",
            "position": 3,
            "expected": 4,
        }
    for meter, token, value in (("a", good, 5), ("b", other, 7)):
        for status, view in await system.ask(meter, token):
            assert (status, view["value"]) == (200, value)
    later = await system.read("a", 9)
    assert [status for status, _ in await system.ask("a", later)] == [409] * len(system.sessions)
    async with system.sessions[-1].get("/meters/a") as answer:  # without a token: what there is
        assert (await answer.json())["value"] == 5
    Meters.broken = False
    assert (await system.admin().retry("Meter/a")).failed is None
    for token in (bad, later):
        for status, view in await system.ask("a", token):
            assert (status, view["value"]) == (200, 9)


async def test_health_and_metrics_tell_of_what_is_parked(system: System) -> None:
    """An instance with a parked sequence takes traffic, and says what a person should look at."""
    first = system.sessions[0]

    async def health() -> list[tuple[int, Any]]:
        answers = []
        for http in system.sessions:
            async with http.get("/health/ready") as answer:
                answers.append((answer.status, await answer.json()))
        return answers

    async def metrics() -> str:
        texts = []
        for http in system.sessions:
            async with http.get("/metrics") as answer:
                texts.append(await answer.text())
        return "".join(texts)

    assert {(status, told["status"]) for status, told in await health()} == {(200, "ready")}
    bad = await system.read("a", -1)
    assert {status for status, _ in await system.ask("a", bad)} == {409}
    told = await health()
    assert {status for status, _ in told} == {200}
    (degraded,) = [one for _, one in told if one["status"] == "degraded"]
    assert "'Meter/a' is parked: ValueError" in degraded["concerns"]["meters"]
    figures = await metrics()
    assert re.search(r'headwater_processor_failures_total\{.*processor="meters".*\} 3.0', figures)
    assert re.search(r'headwater_processor_retries_total\{.*processor="meters".*\} 2.0', figures)
    assert re.search(r'headwater_processor_parked_sequences\{.*="meters".*\} 1.0', figures)
    assert re.search(r'headwater_processor_letters\{.*="meters".*\} 1.0', figures)
    Meters.broken = False
    assert (await system.admin().retry("Meter/a")).failed is None
    assert {(status, one["status"]) for status, one in await health()} == {(200, "ready")}
    async with first.get("/meters/a") as answer:
        assert answer.status == 200


async def test_a_parked_write_that_is_dropped(system: System) -> None:
    """What an operator has dropped counts as seen: the view goes without it from then on."""
    await system.read("a", 5)
    bad = await system.read("a", -1)
    assert {status for status, _ in await system.ask("a", bad)} == {409}
    assert await system.admin().drop("Meter/a") == 1
    for status, view in await system.ask("a", bad):
        assert (status, view["value"]) == (200, 5)


async def test_a_parked_write_between_services(system: System) -> None:
    """Another service that asks, and a caller in the process, get the same typed error."""
    bad = await system.read("a", -1)
    first = system.instances[0]
    port = int(first.url.rpartition(":")[2])
    instance = Instance("meters", "m1", "127.0.0.1", port, routes=tuple(first.edge.routes()))
    discovery = StaticDiscovery({"meters": [instance]})
    caller = HttpCaller(discovery)
    try:
        for bus in (RemoteQueryBus(caller, discovery), first.queries):
            began = time.monotonic()
            with pytest.raises(EventParked) as raised:
                await bus.ask(GetMeter("a"), token=bad)
            assert raised.value.sequence == "Meter/a"
            assert time.monotonic() - began < 25.0  # it does not wait for what never comes
    finally:
        await caller.close()


async def test_tokens_of_other_sources(system: System) -> None:
    """Of a token only what the view follows counts."""
    mine = ConsistencyToken.decode(await system.read("a", 5))
    elsewhere = ConsistencyToken.at("elsewhere", "e", 1)
    for token in (mine.merge(elsewhere), elsewhere):  # the first is waited for, at both
        for status, view in await system.ask("a", token.encode()):
            assert (status, view["value"]) == (200, 5)
    for status, problem in await system.ask(
        "a", ConsistencyToken.at("meters", mine.sources["meters"].epoch, 1, shard=5).encode()
    ):
        assert (status, problem["code"]) == (400, "malformed-message")
        assert "shard 5" in problem["detail"]
