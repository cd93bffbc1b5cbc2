"""How soon after its acknowledgement a command is visible in the view of a running service.

Commands come by the clock, 1,000 a second and then 2,000, whether or not those before them are
answered; what they wait for counts from the time at which they should have been sent. ``behind``
says how late they were sent: more than some milliseconds, and the machine could not keep the rate.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from benchmarks.bank import OpenAccount, WithdrawMoney
from benchmarks.engines import ACCOUNTS, Engine
from benchmarks.harness import Measured, benchmark
from benchmarks.http_service import GetAccount, bank_service
from benchmarks.percentiles import milliseconds
from benchmarks.postgres import schema
from headwater.service.runtime import Runtime

RATES = (1000, 2000)
SECONDS = 5


@asynccontextmanager
async def _service(engine: Engine) -> AsyncIterator[Runtime]:
    """Run a service with all accounts opened and visible."""
    settings = {"log_level": "error"}
    with tempfile.TemporaryDirectory() as data:
        if engine == "sqlite":
            async with Runtime(bank_service(), {**settings, "data": data}) as runtime:
                yield runtime
        else:
            async with (
                schema() as url,
                Runtime(bank_service(), {**settings, "store": url, "views": url}) as runtime,
            ):
                yield runtime


class Times:
    """For each command, in seconds."""

    def __init__(self) -> None:
        self.behind: list[float] = []
        self.answered: list[float] = []
        self.visible: list[float] = []
        self.in_all: list[float] = []


async def _one(runtime: Runtime, number: int, before: int, intended: float, times: Times) -> None:
    times.behind.append(time.perf_counter() - intended)
    account = f"{number % ACCOUNTS}"
    result = await runtime.commands.send(WithdrawMoney(account, 1))
    answered = time.perf_counter()
    view = await runtime.queries.ask(GetAccount(account), token=result.token)
    seen = time.perf_counter()
    assert view is not None
    assert view.balance <= -(before + number // ACCOUNTS + 1), "the view is older than the token"
    times.answered.append(answered - intended)
    times.visible.append(seen - answered)
    times.in_all.append(seen - intended)


async def _by_the_clock(runtime: Runtime, rate: int, before: int) -> Times:
    """Send so many commands a second, each account having got so many ``before``."""
    times = Times()
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(rate * SECONDS):
            intended = began + number / rate
            if (early := intended - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            group.create_task(_one(runtime, number, before, intended, times))
    return times


async def _measured(engine: Engine) -> Measured:
    async with _service(engine) as runtime:
        sent = (runtime.commands.send(OpenAccount(f"{n}", "holder")) for n in range(ACCOUNTS))
        results = await asyncio.gather(*sent)
        await runtime.queries.ask(GetAccount("0"), token=results[-1].token)
        slow = await _by_the_clock(runtime, RATES[0], 0)
        times = await _by_the_clock(runtime, RATES[1], RATES[0] * SECONDS // ACCOUNTS)
    visible = milliseconds("", times.visible)
    more = {
        "p50_ms": visible["p50_ms"],
        **milliseconds("answered ", times.answered),
        **milliseconds("sent to visible ", times.in_all),
        **milliseconds("behind ", times.behind),
        **milliseconds("at 1,000/s ", slow.visible),
    }
    return Measured(visible["p99_ms"], more=more)


@benchmark("visible.sqlite", unit="ms (p99)", runs=3)
def visible_sqlite() -> Measured:
    """At 2,000 commands a second over 1,000 accounts, store and views in SQLite."""
    return uvloop.run(_measured("sqlite"))


@benchmark("visible.postgres", unit="ms (p99)", runs=3)
def visible_postgres() -> Measured:
    """At 2,000 commands a second over 1,000 accounts, store and views in PostgreSQL."""
    return uvloop.run(_measured("postgres"))
