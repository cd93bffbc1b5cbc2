"""Commands, single commands and replay in PostgreSQL against the library ``eventsourcing``.

It is installed for this only: ``pip install 'eventsourcing[postgres]==9.5.6'``. It works with
threads; the number that is fastest for it is used. Its aggregates are cached, as ours are.
"""

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from benchmarks.bank import Account
from benchmarks.bench_postgres import (
    ACCOUNTS,
    CALLERS,
    COMMANDS,
    REPLAYED,
    bank,
    fill,
    rate,
)
from benchmarks.harness import Measured, benchmark
from benchmarks.postgres import schema
from headwater.modelling import Repository

if TYPE_CHECKING:
    from eventsourcing.application import Application

PEER_COMMANDS = 640
REPLAYS = 5
THREADS = (1, 4, 16)


@cache
def _account() -> Any:
    """Return the peer's class of accounts."""
    from eventsourcing.domain import Aggregate, event

    class PeerAccount(Aggregate):
        @event("Opened")
        def __init__(self, holder: str) -> None:
            self.holder = holder
            self.balance = 0

        @event("Withdrawn")
        def withdraw(self, amount: int) -> None:
            self.balance -= amount

    return PeerAccount


def _application(url: str, *, cached: int) -> "tuple[Application[UUID], Any]":
    """Return an application of the peer in a schema of its own, and its class of accounts."""
    from eventsourcing.application import Application

    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.lstrip("/"),
        "POSTGRES_HOST": parts.hostname or options["host"],
        "POSTGRES_PORT": str(parts.port or options.get("port", "5432")),
        "POSTGRES_USER": parts.username or "postgres",
        "POSTGRES_PASSWORD": parts.password or "none",
        "POSTGRES_SCHEMA": options["schema"],
        "POSTGRES_POOL_SIZE": "16",
    }
    if cached:
        environment["AGGREGATE_CACHE_MAXSIZE"] = str(cached)
        environment["AGGREGATE_CACHE_FASTFORWARD"] = "no"
    return Application[UUID](env=environment), _account()


def _peer_rate(url: str, threads: int, accounts: int) -> float:
    application, kind = _application(url, cached=accounts)
    opened = [kind(holder="holder") for _ in range(accounts)]
    application.save(*opened)

    def caller(number: int) -> None:
        for step in range(PEER_COMMANDS // threads):
            # Each thread has accounts of its own: the peer does not retry conflicts.
            place = (number + threads * (step * 7)) % (accounts // threads * threads)
            account = application.repository.get(opened[place].id)
            account.withdraw(amount=1)
            application.save(account)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(caller, range(threads)))
    elapsed = time.perf_counter() - began
    application.close()
    return PEER_COMMANDS // threads * threads / elapsed


async def _peer(threads: int) -> float:
    async with schema() as url:
        await _made(url)
        return await asyncio.to_thread(_peer_rate, url, threads, ACCOUNTS)


async def _made(url: str) -> None:
    """Make the schema, which the peer expects to exist."""
    from headwater._sql.postgres import Database

    await (await Database.open(url, room="bench", migrations=())).close()


_PEER = "eventsourcing 9.5.6"


@benchmark("commands.postgres.peer", unit="commands/s", peer=f"{_PEER}, best of threads", runs=3)
async def commands_postgres_peer() -> Measured:
    """256 concurrent callers over 1,000 accounts; the peer with its best number of threads."""
    peer = max([await _peer(threads) for threads in THREADS])
    async with bank() as (bus, _, _):
        value = await rate(bus, callers=CALLERS, commands=COMMANDS, accounts=ACCOUNTS)
    return Measured(value, peer)


@benchmark("commands.single.postgres.peer", unit="commands/s", peer=_PEER, runs=3)
async def commands_single_postgres_peer() -> Measured:
    """One caller, one command at a time."""
    peer = await _peer(1)
    async with bank() as (bus, _, _):
        return Measured(await rate(bus, callers=1, commands=1000, accounts=ACCOUNTS), peer)


def _peer_replay(url: str) -> float:
    application, kind = _application(url, cached=0)
    account = kind(holder="holder")
    for step in range(REPLAYED - 1):
        account.withdraw(amount=1)
        if step % 500 == 0:  # the peer hangs in one save of 10,000 events
            application.save(account)
    application.save(account)
    times = []
    for _ in range(REPLAYS):
        began = time.perf_counter()
        found = application.repository.get(account.id)
        times.append(time.perf_counter() - began)
        assert found.balance == 1 - REPLAYED
    application.close()
    return REPLAYED / statistics.median(times)


@benchmark("replay.stream.postgres.peer", unit="events/s", peer=_PEER, runs=3)
async def replay_stream_postgres_peer() -> Measured:
    """Rebuild an aggregate of 10,000 events from PostgreSQL, without a snapshot."""
    async with schema() as url:
        await _made(url)
        peer = await asyncio.to_thread(_peer_replay, url)
    async with bank() as (_, _, store):
        await fill(store)
        times = []
        for _ in range(REPLAYS):
            repository = Repository(Account, store, source="bench")  # with nothing cached
            began = time.perf_counter()
            found = await repository.state("long")
            times.append(time.perf_counter() - began)
            assert found.state.balance == -REPLAYED
            await repository.close()
        return Measured(REPLAYED / statistics.median(times), peer)
