"""A process that sends commands to the bank in a store shared with others.

``python -m benchmarks.command_process URL CALLERS SECONDS SHARE OF`` prints a line when it is
ready, begins when it reads one, and prints what became of its commands as JSON. It keeps to one
share of the accounts of so many; ``0 1`` are all.
"""

import asyncio
import sys
import time

import msgspec
import uvloop

from benchmarks.bank import WithdrawMoney
from benchmarks.engines import ACCOUNTS, Bank, bank_over
from headwater.errors import Conflict
from headwater.eventstore.postgres import PostgresEventStore


class Outcome(msgspec.Struct):
    """How many commands were acknowledged, and how many refused after the last retry."""

    acknowledged: int
    refused: int
    began: float
    ended: float


async def _send(one: Bank, callers: int, seconds: float, accounts: range) -> Outcome:
    acknowledged = refused = 0
    began = time.monotonic()  # the same clock in all processes
    end = began + seconds

    async def caller(number: int) -> None:
        nonlocal acknowledged, refused
        step = 0
        while time.monotonic() < end:
            try:
                account = accounts[(number * 37 + step * 7) % len(accounts)]
                await one.bus.send(WithdrawMoney(f"{account}", 1))
                acknowledged += 1
            except Conflict:
                refused += 1
            step += 1

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return Outcome(acknowledged, refused, began, time.monotonic())


async def main(url: str, callers: int, seconds: float, accounts: range) -> None:
    """Wait for the signal, send, report."""
    store = await PostgresEventStore.open(url)
    async with bank_over(store) as one:
        for number in accounts:  # with all of them loaded, as in a process that has run
            await one.repository.state(f"{number}")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        outcome = await _send(one, callers, seconds, accounts)
    await store.close()
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")


if __name__ == "__main__":
    url, *numbers = sys.argv[1:]
    callers, seconds, share, shares = (int(number) for number in numbers)
    uvloop.run(main(url, callers, seconds, range(share, ACCOUNTS, shares)))
