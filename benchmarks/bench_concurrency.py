"""Commands by the number of callers that wait for theirs at the same time."""

import asyncio
import time

from benchmarks.bank import WithdrawMoney
from benchmarks.engines import ACCOUNTS, Bank, Engine, bank
from benchmarks.harness import Measured, benchmark
from benchmarks.percentiles import milliseconds

CALLERS = (1, 4, 16, 64, 256, 1024)
SECONDS = 1.5


async def _with_callers(one: Bank, callers: int) -> tuple[float, dict[str, float]]:
    """Return the rate, and the percentiles of how long a caller waited."""
    times: list[float] = []
    began = time.perf_counter()
    end = began + SECONDS

    async def caller(number: int) -> None:
        step = 0
        sent = time.perf_counter()
        while sent < end:
            await one.bus.send(WithdrawMoney(f"{(number * 37 + step * 7) % ACCOUNTS}", 1))
            answered = time.perf_counter()
            times.append(answered - sent)
            sent, step = answered, step + 1

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return len(times) / (time.perf_counter() - began), milliseconds("", times)


async def _measured(engine: Engine) -> Measured:
    rates: dict[float, float] = {}
    p50: dict[float, float] = {}
    p99: dict[float, float] = {}
    async with bank(engine) as one:
        for callers in CALLERS:
            rates[callers], found = await _with_callers(one, callers)
            p50[callers], p99[callers] = found["p50_ms"], found["p99_ms"]
    curve = {"commands/s": rates, "p50 ms": p50, "p99 ms": p99}
    return Measured(rates[CALLERS[-1]], rates[1], curve=curve)


_PEER = "one caller"


@benchmark("concurrency.sqlite", unit="commands/s", peer=_PEER, runs=3)
async def concurrency_sqlite() -> Measured:
    """1 to 1,024 callers over 1,000 accounts, each command durable when answered."""
    return await _measured("sqlite")


@benchmark("concurrency.postgres", unit="commands/s", peer=_PEER, runs=3)
async def concurrency_postgres() -> Measured:
    """1 to 1,024 callers over 1,000 accounts, each command durable when answered."""
    return await _measured("postgres")
