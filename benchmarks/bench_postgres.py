"""The event store in PostgreSQL, and commands through it, against the bare driver.

A server of its own, with ``fsync`` on, runs for as long as the benchmarks do; or the one that
``HEADWATER_POSTGRES_URL`` names is used, in schemas of its own.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from benchmarks.bank import MoneyWithdrawn
from benchmarks.engines import ACCOUNTS, append_long, bank, bank_over, postgres_store, rate
from benchmarks.harness import Measured, benchmark
from benchmarks.postgres import schema
from headwater._sql.postgres.database import Database, script
from headwater.eventstore import NewEvent, StreamWrite

CALLERS = 256
COMMANDS = 25_600
WRITERS = 16
WRITES = 50
EVENTS_PER_WRITE = 100
EVENTS = WRITERS * WRITES * EVENTS_PER_WRITE
REPLAYED = 10_000
_PAGE = 1000

_DATA = b'{"account_id":"0190c2f1-7c1e-7d3a","amount":1250,"reference":"purchase"}'
_METADATA = (
    b'{"id":"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","correlation_id":'
    b'"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","time":1700000000000000}'
)
_EVENT = NewEvent("MoneyWithdrawn", 1, _DATA, _METADATA)
_INSERT = (
    "INSERT INTO events (position, stream, version, type, type_version, time, tags, data, metadata)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)


@asynccontextmanager
async def _bare() -> AsyncIterator[Any]:
    """Give a connection of the bare driver to the same tables."""
    async with schema() as url:
        script_1 = script("headwater.eventstore.postgres", "schema_1.sql")
        database = await Database.open(url, room="eventstore", migrations=[script_1])
        async with database.connection() as connection:
            yield connection
        await database.close()


def _row(position: int, stream: str, version: int) -> tuple[Any, ...]:
    return (*(position, stream, version, "MoneyWithdrawn", 1, 1_700_000_000, "", _DATA, _METADATA),)


async def _bare_insert(connection: Any, rows: list[tuple[Any, ...]]) -> None:
    async with connection.transaction():
        await connection.executemany(_INSERT, rows)


async def _bare_append() -> float:
    """Insert the rows in the batches that group commit would make at best: all callers at once."""
    async with _bare() as connection:
        began = time.perf_counter()
        position = 0
        for number in range(WRITES):
            rows = []
            for writer in range(WRITERS):
                for event in range(EVENTS_PER_WRITE):
                    position += 1
                    version = number * EVENTS_PER_WRITE + event + 1
                    rows.append(_row(position, f"Account/{writer}", version))
            await _bare_insert(connection, rows)
        return EVENTS / (time.perf_counter() - began)


@benchmark("append.postgres", unit="events/s", peer="asyncpg batched inserts")
async def append_postgres() -> Measured:
    """16 concurrent callers, each appending writes of 100 events with an expected version."""
    peer = await _bare_append()
    async with postgres_store() as store:

        async def caller(number: int) -> None:
            for write in range(WRITES):
                events = [_EVENT] * EVENTS_PER_WRITE
                expected = write * EVENTS_PER_WRITE
                await store.append([StreamWrite(f"Account/{number}", events, expected)])

        began = time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(WRITERS)))
        return Measured(EVENTS / (time.perf_counter() - began), peer)


async def _bare_rate(*, callers: int, commands: int, accounts: int) -> float:
    """The same with nothing but asyncio, msgspec and asyncpg's inserts with group commit."""
    async with _bare() as connection:
        loop = asyncio.get_running_loop()
        balances: dict[str, list[int]] = {}
        waiting: deque[tuple[tuple[Any, ...], asyncio.Future[None]]] = deque()
        position, busy = 0, False
        encode = msgspec.json.encode

        async def drain() -> None:
            nonlocal busy
            while waiting:
                batch = [waiting.popleft() for _ in range(len(waiting))]
                await _bare_insert(connection, [row for row, _ in batch])
                for _, future in batch:
                    future.set_result(None)
            busy = False

        async def caller(number: int) -> None:
            nonlocal position, busy
            for step in range(commands // callers):
                account = f"{(number * 37 + step * 7) % accounts}"
                state = balances.setdefault(account, [0, 0])
                event = MoneyWithdrawn(account, 1)
                state[0] -= event.amount
                state[1] += 1
                position += 1
                row = (position, account, state[1], "W", 1, 0, "", encode(event), b"{}")
                future: asyncio.Future[None] = loop.create_future()
                waiting.append((row, future))
                if not busy:
                    busy = True
                    tasks.append(asyncio.create_task(drain()))
                await future

        tasks: list[asyncio.Task[None]] = []
        began = time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(callers)))
        return commands / (time.perf_counter() - began)


async def _compare(*, callers: int, commands: int, accounts: int) -> Measured:
    sizes = {"callers": callers, "commands": commands, "accounts": accounts}
    bare = await _bare_rate(**sizes)
    async with bank("postgres") as one:
        return Measured(await rate(one.bus, **sizes), bare)


_LOOP = "bare asyncpg loop with group commit"


@benchmark("commands.postgres.bare", unit="commands/s", peer=_LOOP)
async def commands_postgres() -> Measured:
    """256 concurrent callers over 1,000 accounts, each command durable when answered."""
    return await _compare(callers=CALLERS, commands=COMMANDS, accounts=ACCOUNTS)


@benchmark("commands.single.postgres.bare", unit="commands/s", peer=_LOOP)
async def commands_single_postgres() -> Measured:
    """One caller, one command at a time."""
    return await _compare(callers=1, commands=1000, accounts=ACCOUNTS)


@benchmark("commands.hot.postgres", unit="commands/s", peer=_LOOP)
async def commands_hot_postgres() -> Measured:
    """256 callers on one aggregate."""
    return await _compare(callers=CALLERS, commands=COMMANDS, accounts=1)


@benchmark("replay.stream.postgres.bare", unit="events/s", peer="bare asyncpg decode loop")
async def replay_stream_postgres() -> Measured:
    """Rebuild an aggregate of 10,000 events from PostgreSQL, without a snapshot."""
    async with postgres_store() as store, bank_over(store) as one:
        await append_long(store, REPLAYED)
        bare = await store._database.read(_bare_replay)  # noqa: SLF001  # the same connection
        began = time.perf_counter()
        found = await one.repository.state("long")
        rate = REPLAYED / (time.perf_counter() - began)
        assert found.state.balance == -REPLAYED
        return Measured(rate, bare)


async def _bare_replay(connection: Any) -> float:
    """Read the rows with the driver, decode, add up."""
    decode = msgspec.json.Decoder(MoneyWithdrawn).decode
    began = time.perf_counter()
    balance = 0
    sql = "SELECT data FROM events WHERE stream = $1 ORDER BY version"
    rows = await connection.fetch(sql, "Account/long")
    for (data,) in rows:
        balance -= decode(data).amount
    return len(rows) / (time.perf_counter() - began)


@benchmark("log.read.postgres", unit="events/s", peer="bare asyncpg loop, pages of 1,000 rows")
async def log_read_postgres() -> Measured:
    """Read a log of 80,000 events in pages of 1,000."""
    async with postgres_store() as store:
        for writer in range(WRITERS):
            await store.append([StreamWrite(f"Account/{writer}", [_EVENT] * (EVENTS // WRITERS))])
        peer = await store._database.read(_bare_read)  # noqa: SLF001  # the same connection
        count = 0
        began = time.perf_counter()
        async for page in store.read(page_size=_PAGE):
            count += len(page.events)
        elapsed = time.perf_counter() - began
        assert count == EVENTS
        return Measured(count / elapsed, peer)


async def _bare_read(connection: Any) -> float:
    query = "SELECT * FROM events WHERE position > $1 ORDER BY position LIMIT $2"
    began = time.perf_counter()
    position = count = 0
    while rows := await connection.fetch(query, position, _PAGE):
        position = rows[-1][0]
        count += len(rows)
    return count / (time.perf_counter() - began)
