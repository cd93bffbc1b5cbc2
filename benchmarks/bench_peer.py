"""Commands, single commands and replay against the library ``eventsourcing``, on both engines."""

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bank import Account
from benchmarks.engines import ACCOUNTS, Engine, append_long, bank, event_store, rate
from benchmarks.harness import Measured, benchmark
from benchmarks.peer import (
    PEER,
    Environment,
    account_class,
    application,
    best_of_threads,
    environment,
)
from headwater.modelling import Repository

CALLERS = 256
COMMANDS = 25_600
SINGLE_COMMANDS = 2000
PEER_COMMANDS = 1600
REPLAYED = 10_000
REPLAYS = 5


def _peer_rate(settings: Environment, threads: int) -> float:
    bank = application(settings, cached=ACCOUNTS)
    opened = [account_class()(holder="holder") for _ in range(ACCOUNTS)]
    bank.save(*opened)

    def caller(number: int) -> None:
        for step in range(PEER_COMMANDS // threads):
            # Each thread has accounts of its own: the peer does not retry conflicts.
            place = (number + threads * (step * 7)) % (ACCOUNTS // threads * threads)
            account = bank.repository.get(opened[place].id)
            account.withdraw(amount=1)
            bank.save(account)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(caller, range(threads)))
    elapsed = time.perf_counter() - began
    bank.close()
    return PEER_COMMANDS // threads * threads / elapsed


async def _commands(engine: Engine) -> Measured:
    peer = await best_of_threads(_peer_rate, engine)
    async with bank(engine) as one:
        return Measured(await rate(one.bus, callers=CALLERS, commands=COMMANDS), peer)


async def _single(engine: Engine) -> Measured:
    async with environment(engine) as settings:
        peer = await asyncio.to_thread(_peer_rate, settings, 1)
    async with bank(engine) as one:
        return Measured(await rate(one.bus, callers=1, commands=SINGLE_COMMANDS), peer)


def _peer_replay(settings: Environment) -> float:
    bank = application(settings, cached=0)
    account = account_class()(holder="holder")
    for step in range(REPLAYED - 1):
        account.withdraw(amount=1)
        if step % 500 == 0:  # the peer hangs in one save of 10,000 events
            bank.save(account)
    bank.save(account)
    times = []
    for _ in range(REPLAYS):
        began = time.perf_counter()
        found = bank.repository.get(account.id)
        times.append(time.perf_counter() - began)
        assert found.balance == 1 - REPLAYED
    bank.close()
    return REPLAYED / statistics.median(times)


async def _replay(engine: Engine) -> Measured:
    async with environment(engine) as settings:
        peer = await asyncio.to_thread(_peer_replay, settings)
    async with event_store(engine) as store:
        await append_long(store, REPLAYED)
        times = []
        for _ in range(REPLAYS):
            repository = Repository(Account, store, source="bench")  # with nothing cached
            began = time.perf_counter()
            found = await repository.state("long")
            times.append(time.perf_counter() - began)
            assert found.state.balance == -REPLAYED
            await repository.close()
        return Measured(REPLAYED / statistics.median(times), peer)


_BEST = f"{PEER}, best of threads"


@benchmark("commands.sqlite", unit="commands/s", peer=_BEST, runs=3)
async def commands_sqlite() -> Measured:
    """256 concurrent callers over 1,000 accounts; the peer with its best number of threads."""
    return await _commands("sqlite")


@benchmark("commands.postgres", unit="commands/s", peer=_BEST, runs=3)
async def commands_postgres() -> Measured:
    """256 concurrent callers over 1,000 accounts; the peer with its best number of threads."""
    return await _commands("postgres")


@benchmark("commands.single.sqlite", unit="commands/s", peer=PEER, runs=3)
async def commands_single_sqlite() -> Measured:
    """One caller, one command at a time."""
    return await _single("sqlite")


@benchmark("commands.single.postgres", unit="commands/s", peer=PEER, runs=3)
async def commands_single_postgres() -> Measured:
    """One caller, one command at a time."""
    return await _single("postgres")


@benchmark("replay.stream.sqlite", unit="events/s", peer=PEER, runs=3)
async def replay_stream_sqlite() -> Measured:
    """Rebuild an aggregate of 10,000 events from SQLite, without a snapshot."""
    return await _replay("sqlite")


@benchmark("replay.stream.postgres", unit="events/s", peer=PEER, runs=3)
async def replay_stream_postgres() -> Measured:
    """Rebuild an aggregate of 10,000 events from PostgreSQL, without a snapshot."""
    return await _replay("postgres")
