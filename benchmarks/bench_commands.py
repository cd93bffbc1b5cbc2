"""Commands through the in-process bus, durable in SQLite, and replay, against bare loops."""

import asyncio
import tempfile
import time
from collections import deque
from pathlib import Path

import apsw
import msgspec

from benchmarks.bank import MoneyWithdrawn
from benchmarks.engines import ACCOUNTS, bank, rate
from benchmarks.harness import Measured, benchmark
from headwater._sql.sqlite.database import connect, script
from headwater.eventstore import NewEvent, StreamWrite

CALLERS = 256
COMMANDS = 25_600
REPLAYED = 10_000


async def _bare_rate(*, callers: int, commands: int, accounts: int) -> float:
    """The same with nothing but asyncio, msgspec and one writing thread with group commit."""
    with tempfile.TemporaryDirectory() as directory:
        loop = asyncio.get_running_loop()
        connection = connect(Path(directory) / "bare.db")
        connection.execute(script("headwater.eventstore.sqlite", "schema_1.sql"))
        balances: dict[str, list[int]] = {}
        waiting: deque[tuple[tuple[object, ...], asyncio.Future[None]]] = deque()
        position, busy = 0, False
        encode = msgspec.json.encode

        def write(batch: list[tuple[tuple[object, ...], asyncio.Future[None]]]) -> None:
            _insert(connection, [row for row, _ in batch])

        async def drain() -> None:
            nonlocal busy
            while waiting:
                batch = [waiting.popleft() for _ in range(len(waiting))]
                await loop.run_in_executor(None, write, batch)
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
        rate = commands / (time.perf_counter() - began)
        connection.close()
        return rate


def _insert(connection: apsw.Connection, rows: list[tuple[object, ...]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")


_LOOP = "bare asyncio loop with group commit"


@benchmark("commands.sqlite.bare", unit="commands/s", peer=_LOOP)
async def commands_sqlite() -> Measured:
    """256 concurrent callers over 1,000 accounts, each command durable when answered."""
    sizes = {"callers": CALLERS, "commands": COMMANDS, "accounts": ACCOUNTS}
    bare = await _bare_rate(**sizes)
    async with bank("sqlite") as one:
        return Measured(await rate(one.bus, **sizes), bare)


@benchmark(
    "commands.single.sqlite.bare", unit="commands/s", peer="bare asyncio loop with group commit"
)
async def commands_single() -> Measured:
    """One caller, one command at a time."""
    sizes = {"callers": 1, "commands": 2000, "accounts": ACCOUNTS}
    bare = await _bare_rate(**sizes)
    async with bank("sqlite") as one:
        return Measured(await rate(one.bus, **sizes), bare)


@benchmark("commands.hot.sqlite", unit="commands/s", peer=_LOOP)
async def commands_hot() -> Measured:
    """256 callers on one aggregate."""
    sizes = {"callers": CALLERS, "commands": COMMANDS, "accounts": 1}
    bare = await _bare_rate(**sizes)
    async with bank("sqlite") as one:
        return Measured(await rate(one.bus, **sizes), bare)


@benchmark("replay.stream.sqlite.bare", unit="events/s", peer="bare decode loop over the rows")
async def replay_stream() -> Measured:
    """Rebuild an aggregate of 10,000 events from SQLite, without a snapshot."""
    async with bank("sqlite") as one:
        encode = msgspec.json.encode
        events = [
            NewEvent("MoneyWithdrawn", 1, encode(MoneyWithdrawn("0", 1)), b'{"id":"x"}')
            for _ in range(REPLAYED)
        ]
        await one.store.append([StreamWrite("Account/long", events)])
        began = time.perf_counter()
        found = await one.repository.state("long")
        replayed = REPLAYED / (time.perf_counter() - began)
        assert found.state.balance == -REPLAYED
        return Measured(replayed, await asyncio.to_thread(_bare_replay, events))


def _bare_replay(events: list[NewEvent]) -> float:
    """Read the rows with the driver, decode, add up."""
    with tempfile.TemporaryDirectory() as directory:
        connection = connect(Path(directory) / "bare.db")
        connection.execute(script("headwater.eventstore.sqlite", "schema_1.sql"))
        rows: list[tuple[object, ...]] = [
            (n, "Account/long", n, "MoneyWithdrawn", 1, 0, "", event.data, event.metadata)
            for n, event in enumerate(events, start=1)
        ]
        _insert(connection, rows)
        decode = msgspec.json.Decoder(MoneyWithdrawn).decode
        began = time.perf_counter()
        balance = 0
        sql = "SELECT data FROM events WHERE stream = ? ORDER BY version"
        for (data,) in connection.execute(sql, ("Account/long",)):
            balance -= decode(data).amount
        rate = len(rows) / (time.perf_counter() - began)
        connection.close()
        return rate
