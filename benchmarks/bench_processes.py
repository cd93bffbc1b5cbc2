"""Commands from several processes on the same aggregates in one PostgreSQL; none gets lost."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from benchmarks.command_process import Outcome
from benchmarks.engines import ACCOUNTS, bank_over, open_accounts
from benchmarks.harness import Measured, benchmark
from benchmarks.postgres import schema
from headwater.eventstore.postgres import PostgresEventStore

PROCESSES = 4
CALLERS = 256  # over all processes
SECONDS = 3
_WAIT_S_MAX = 120.0


def _start(url: str, callers: int, share: int, shares: int) -> subprocess.Popen[str]:
    numbers = [f"{number}" for number in (callers, SECONDS, share, shares)]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.command_process", url, *numbers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _run(url: str, processes: int, *, divided: bool) -> list[Outcome]:
    """Run so many processes at the same time."""
    callers = CALLERS // processes
    with ExitStack() as stack:
        running = [
            _start(url, callers, number, processes) if divided else _start(url, callers, 0, 1)
            for number in range(processes)
        ]
        for process in running:
            stack.callback(process.wait, _WAIT_S_MAX)
            stack.enter_context(process)
            stack.callback(process.kill)
        for process in running:
            assert process.stdout
            assert process.stdout.readline() == "ready\n", "see its error above"
        for process in running:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=_WAIT_S_MAX)[0] for process in running]
    return [msgspec.json.decode(output, type=Outcome) for output in outputs]


async def _verified(url: str, outcomes: Sequence[Outcome]) -> None:
    """Check that the accounts show each acknowledged command once."""
    acknowledged = sum(outcome.acknowledged for outcome in outcomes)
    store = await PostgresEventStore.open(url)
    async with bank_over(store) as one:
        found = [await one.repository.state(f"{number}") for number in range(ACCOUNTS)]
        head = await store.head()
    await store.close()
    assert -sum(account.state.balance for account in found) == acknowledged, "an update was lost"
    assert sum(account.version for account in found) == head == acknowledged + ACCOUNTS


async def _rate(processes: int, *, divided: bool = False) -> tuple[float, float]:
    """Return acknowledged commands a second, and the share that was refused."""
    async with schema() as url:
        store = await PostgresEventStore.open(url)
        async with bank_over(store) as one:
            await open_accounts(one.bus)
        await store.close()
        outcomes = await asyncio.to_thread(_run, url, processes, divided=divided)
        await _verified(url, outcomes)
    acknowledged = sum(outcome.acknowledged for outcome in outcomes)
    refused = sum(outcome.refused for outcome in outcomes)
    first = min(outcome.began for outcome in outcomes)
    last = max(outcome.ended for outcome in outcomes)
    return acknowledged / (last - first), refused / (acknowledged + refused)


@benchmark("commands.processes", unit="commands/s", peer="one process, as many callers", runs=3)
async def commands_processes() -> Measured:
    """4 processes, 256 callers in all, over the same 1,000 accounts; no update is lost."""
    one, _ = await _rate(1)
    several, refused = await _rate(PROCESSES)
    return Measured(several, one, {"refused share": refused})


@benchmark("commands.divided", unit="commands/s", peer="one process, as many callers", runs=3)
async def commands_divided() -> Measured:
    """4 processes, 256 callers in all, each with a quarter of 1,000 accounts to itself."""
    one, _ = await _rate(1)
    several, refused = await _rate(PROCESSES, divided=True)
    return Measured(several, one, {"refused share": refused})
