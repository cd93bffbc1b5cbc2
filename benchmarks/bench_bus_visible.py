"""How soon a command of one service is visible in the view of another one, over the event bus.

Two processes; with ``e2e.*`` the bus is a broker, and all else SQLite. Commands come by the clock;
every tenth is followed by a query to the other service with its token, over HTTP, which waits until
its view has seen it. So the time counts from the acknowledgement to the answer of that query, the
request and its answer included.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvloop

from benchmarks.bank import OpenAccount, WithdrawMoney
from benchmarks.bench_http import running_module
from benchmarks.brokers import Broker, bus_url
from benchmarks.engines import ACCOUNTS, Engine
from benchmarks.harness import Measured, benchmark
from benchmarks.http_service import bank_service
from benchmarks.percentiles import milliseconds
from benchmarks.postgres import schema
from headwater.messages import ConsistencyToken
from headwater.messages.headers import CONSISTENCY_TOKEN
from headwater.service.runtime import Runtime

RATE = 1000
SECONDS = 5
ASKED = 10


@asynccontextmanager
async def _places(engine: Engine | Broker) -> AsyncIterator[tuple[str, str, str]]:
    """Give the URLs of a store with its views, of a bus, and of the other service's views."""
    if engine == "postgres":
        async with schema() as own, schema() as bus, schema() as other:
            yield own, bus, other
        return
    with tempfile.TemporaryDirectory() as data:
        bus = f"sqlite:{data}/bus.db" if engine == "sqlite" else bus_url(engine)
        yield f"sqlite:{data}/own.db", bus, f"sqlite:{data}/other.db"


async def _measured(engine: Engine | Broker) -> Measured:
    async with _places(engine) as (own, bus, other):
        given = {"store": own, "views": own, "bus": bus, "log_level": "error"}
        with running_module("bus_service", other, bus) as (url, _):
            async with (
                Runtime(bank_service(), given) as runtime,
                aiohttp.ClientSession(url) as http,
            ):
                sent = (runtime.commands.send(OpenAccount(f"{n}", "x")) for n in range(ACCOUNTS))
                results = await asyncio.gather(*sent)
                await _ask(http, "0", results[-1].token)
                times = await _by_the_clock(runtime, http)
    found = milliseconds("", times)
    return Measured(found["p99_ms"], more={"p50_ms": found["p50_ms"]})


async def _ask(http: aiohttp.ClientSession, account: str, token: ConsistencyToken) -> int:
    headers = {CONSISTENCY_TOKEN: str(token)}
    async with http.get(f"/spent/{account}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return int((await answer.json())["cents"])


async def _by_the_clock(runtime: Runtime, http: aiohttp.ClientSession) -> list[float]:
    times: list[float] = []

    async def one(number: int) -> None:
        account = f"{number % ACCOUNTS}"
        result = await runtime.commands.send(WithdrawMoney(account, 1))
        if number % ASKED == 0:
            answered = time.perf_counter()
            cents = await _ask(http, account, result.token)
            times.append(time.perf_counter() - answered)
            assert cents > number // ACCOUNTS, "the view is older than the token"

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(RATE * SECONDS):
            if (early := began + number / RATE - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            group.create_task(one(number))
    return times


@benchmark("visible.bus.sqlite", unit="ms (p99)", runs=3)
def visible_sqlite() -> Measured:
    """At 1,000 commands a second over 1,000 accounts, everything in SQLite."""
    return uvloop.run(_measured("sqlite"))


@benchmark("visible.bus.postgres", unit="ms (p99)", runs=3)
def visible_postgres() -> Measured:
    """At 1,000 commands a second over 1,000 accounts, everything in PostgreSQL."""
    return uvloop.run(_measured("postgres"))


@benchmark("e2e.rabbitmq", unit="ms (p99)", runs=3)
def e2e_rabbitmq() -> Measured:
    """At 1,000 commands a second over 1,000 accounts, the bus in RabbitMQ."""
    return uvloop.run(_measured("rabbitmq"))


@benchmark("e2e.kafka", unit="ms (p99)", runs=3)
def e2e_kafka() -> Measured:
    """At 1,000 commands a second over 1,000 accounts, the bus in Kafka."""
    return uvloop.run(_measured("kafka"))
