"""A whole service: rebuilding all that it derives, and a request through the gateway."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import aiohttp

from benchmarks.bank import Account, AccountOpened, MoneyWithdrawn
from benchmarks.bench_http import service_process
from benchmarks.bench_processing import event_of
from benchmarks.engines import ACCOUNTS, Engine
from benchmarks.harness import Measured, benchmark
from benchmarks.percentiles import milliseconds
from benchmarks.postgres import schema
from headwater.discovery import Instance, RouteInfo
from headwater.discovery.local import StaticDiscovery
from headwater.eventstore import EventStore, StreamWrite
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.gateway import Gateway, GatewaySettings
from headwater.messages import ConsistencyToken
from headwater.messages.headers import CONSISTENCY_TOKEN
from headwater.modelling import EventHandlers, Projection, event_handler
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View

EVENTS = 1_000_000
SHARE = 500  # one of so many withdrawals is of interest to the handler with an effect
_WAIT_S_MAX = 600.0
ROUND_TRIPS = 1000
ROUTES = (
    RouteInfo("POST", "/accounts/{account_id}/withdrawals", "command", "WithdrawMoney"),
    RouteInfo("GET", "/accounts/{account_id}", "query", "GetAccount"),
)


class Balance(View):
    """What is on an account."""

    id: Annotated[str, Key]
    holder: str = ""
    balance: int = 0


class Activity(View):
    """How much has happened on an account."""

    id: Annotated[str, Key]
    withdrawals: int = 0


class Accounts(Projection):
    """Two views, three handlers."""

    @event_handler(Balance, key="account_id")
    def opened(self, event: AccountOpened) -> Balance:
        """Begin."""
        return Balance(event.account_id, event.holder)

    @event_handler(Balance, key="account_id")
    def withdrawn(self, view: Balance, event: MoneyWithdrawn) -> None:
        """Subtract."""
        view.balance -= event.amount

    @event_handler(Activity, key="account_id")
    def counted(self, view: Activity, event: MoneyWithdrawn) -> None:  # noqa: ARG002  # only counted
        """Count."""
        view.withdrawals += 1


class Letters(EventHandlers):
    """Has an effect outside for each new account."""

    start = "beginning"
    sent = 0

    @event_handler
    async def opened(self, event: AccountOpened) -> None:  # noqa: ARG002  # only counted
        """Send a letter."""
        Letters.sent += 1
        await asyncio.sleep(0)


async def _fill(store: EventStore) -> None:
    numbers = [f"{n}" for n in range(ACCOUNTS)]
    await store.append(
        [StreamWrite(f"Account/{n}", [event_of(AccountOpened(n, "x"))]) for n in numbers]
    )
    for _ in range(EVENTS // ACCOUNTS // 9):
        await store.append(
            [
                StreamWrite(f"Account/{n}", [event_of(MoneyWithdrawn(n, 1)) for _ in range(9)])
                for n in numbers
            ]
        )


async def _rebuilt(settings: dict[str, Any], store: EventStore) -> Measured:
    await _fill(store)
    head, epoch = await store.head(), store.epoch
    await store.close()
    service = Service("bench", aggregates=[Account], projections=[Accounts], handlers=[Letters])
    Letters.sent = 0
    began = time.perf_counter()
    async with Runtime(service, {**settings, "log_level": "error"}) as runtime:
        token = ConsistencyToken.at("bench", epoch, head)
        readers = runtime.processors.readers
        await asyncio.gather(*(one.wait_for(token, timeout_s=_WAIT_S_MAX) for one in readers))
        seconds = time.perf_counter() - began
        assert runtime.views is not None
        found = await runtime.views.get(Balance, "7")
        assert found is not None
        assert found.balance == -(head // ACCOUNTS - 1)
        assert Letters.sent == ACCOUNTS
    return Measured(seconds, more={"events/s": head / seconds})


async def _rebuild(engine: Engine) -> Measured:
    with tempfile.TemporaryDirectory() as data:
        if engine == "sqlite":
            path = Path(data) / "events.db"
            settings = {"data": data, "store": f"sqlite:{path}"}
            return await _rebuilt(settings, await SQLiteEventStore.open(path))
        async with schema() as url:
            return await _rebuilt({"store": url, "views": url}, await PostgresEventStore.open(url))


@benchmark("rebuild.system.sqlite", unit="s")
async def rebuild_sqlite() -> Measured:
    """A service with a million events on SQLite is started without its views."""
    return await _rebuild("sqlite")


@benchmark("rebuild.system.postgres", unit="s")
async def rebuild_postgres() -> Measured:
    """A service with a million events on PostgreSQL is started without its views."""
    return await _rebuild("postgres")


@benchmark("http.roundtrip", unit="ms (p50)", runs=3)
async def http_roundtrip() -> Measured:
    """One client: a command, then the query that must show it, through the gateway."""
    with service_process("all") as (url, _), tempfile.TemporaryDirectory() as folder:
        port = int(url.rpartition(":")[2])
        one = Instance(service="bench", id="a", host="127.0.0.1", port=port, routes=ROUTES)
        settings = GatewaySettings(port=0, data=Path(folder), concurrency=1)
        async with (
            Gateway(settings, StaticDiscovery({"bench": [one]})) as gateway,
            aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as http,
        ):
            times = [await _round_trip(http, number) for number in range(ROUND_TRIPS)]
    sent, asked = zip(*times, strict=True)
    both = [a + b for a, b in times]
    more = {
        "p99_ms": milliseconds("", both)["p99_ms"],
        **milliseconds("command ", sent),
        **milliseconds("query ", asked),
    }
    return Measured(statistics.median(both) * 1000, more=more)


async def _round_trip(http: aiohttp.ClientSession, number: int) -> tuple[float, float]:
    """Return how long the command took, and the query, in seconds."""
    path = f"/accounts/{number % ACCOUNTS}"
    began = time.perf_counter()
    async with http.post(f"{path}/withdrawals", json={"amount": 1}) as answer:
        assert answer.status == 200, await answer.text()
        token = (await answer.json())["token"]
    between = time.perf_counter()
    async with http.get(path, headers={CONSISTENCY_TOKEN: token}) as answer:
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["balance"] == -(number // ACCOUNTS + 1)
    return between - began, time.perf_counter() - between
