"""The event store against bare loops over the same rows in the same schema."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from benchmarks.harness import Measured, benchmark
from headwater._sql.sqlite.database import connect, script
from headwater.eventstore import NewEvent, StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore

CALLERS = 16
WRITES_PER_CALLER = 50
EVENTS_PER_WRITE = 100
EVENTS = CALLERS * WRITES_PER_CALLER * EVENTS_PER_WRITE
_PAGE = 1000

_DATA = b'{"account_id":"0190c2f1-7c1e-7d3a","amount":1250,"reference":"purchase"}'
_METADATA = (
    b'{"id":"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","correlation_id":'
    b'"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","time":1700000000000000}'
)
_EVENT = NewEvent("MoneyWithdrawn", 1, _DATA, _METADATA)
_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


@contextmanager
def _file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "events.db"


def _row(position: int, stream: str, version: int) -> tuple[object, ...]:
    return position, stream, version, "MoneyWithdrawn", 1, 1_700_000_000, "", _DATA, _METADATA


def _bare_file(path: Path) -> apsw.Connection:
    connection = connect(path)
    connection.execute(script("headwater.eventstore.sqlite", "schema_1.sql"))
    return connection


def _bare_insert(connection: apsw.Connection, rows: list[tuple[object, ...]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(_INSERT, rows)
    connection.execute("COMMIT")


def _bare_append() -> float:
    """Insert the rows in the batches that group commit would make at best: all callers at once."""
    with _file() as path:
        connection = _bare_file(path)
        started = time.perf_counter()
        position = 0
        for number in range(WRITES_PER_CALLER):
            rows = []
            for caller in range(CALLERS):
                for event in range(EVENTS_PER_WRITE):
                    position += 1
                    version = number * EVENTS_PER_WRITE + event + 1
                    rows.append(_row(position, f"Account/{caller}", version))
            _bare_insert(connection, rows)
        elapsed = time.perf_counter() - started
        connection.close()
    return EVENTS / elapsed


@benchmark("append.sqlite", unit="events/s", peer="bare apsw batched inserts")
async def append_sqlite() -> Measured:
    """16 concurrent callers, each appending writes of 100 events with an expected version."""
    peer = await asyncio.to_thread(_bare_append)
    with _file() as path:
        store = await SQLiteEventStore.open(path)

        async def caller(number: int) -> None:
            for write in range(WRITES_PER_CALLER):
                events = [_EVENT] * EVENTS_PER_WRITE
                expected = write * EVENTS_PER_WRITE
                await store.append([StreamWrite(f"Account/{number}", events, expected)])

        started = time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(CALLERS)))
        elapsed = time.perf_counter() - started
        await store.close()
    return Measured(EVENTS / elapsed, peer)


async def _appends_per_s(callers: int, appends: int) -> float:
    with _file() as path:
        store = await SQLiteEventStore.open(path)

        async def caller(number: int) -> None:
            for expected in range(appends):
                await store.append([StreamWrite(f"Account/{number}", [_EVENT], expected)])

        started = time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(callers)))
        elapsed = time.perf_counter() - started
        await store.close()
    return callers * appends / elapsed


def _bare_single_inserts(batch: int, batches: int) -> float:
    with _file() as path:
        connection = _bare_file(path)
        started = time.perf_counter()
        for number in range(batches):
            first = number * batch
            _bare_insert(
                connection, [_row(first + n + 1, f"Account/{n}", number + 1) for n in range(batch)]
            )
        elapsed = time.perf_counter() - started
        connection.close()
    return batch * batches / elapsed


@benchmark("append.sqlite.concurrent", unit="appends/s", peer="bare apsw inserts, 256 a commit")
async def append_sqlite_concurrent() -> Measured:
    """256 concurrent callers, one event each time, with an expected version."""
    peer = await asyncio.to_thread(_bare_single_inserts, 256, 100)
    return Measured(await _appends_per_s(256, 100), peer)


@benchmark("append.sqlite.single", unit="appends/s", peer="bare apsw inserts, 1 a commit")
async def append_sqlite_single() -> Measured:
    """One caller, one event at a time: the reciprocal is the latency of an append."""
    peer = await asyncio.to_thread(_bare_single_inserts, 1, 1000)
    return Measured(await _appends_per_s(1, 1000), peer)


def _bare_read(path: Path) -> float:
    connection = connect(path)
    query = "SELECT * FROM events WHERE position > ? ORDER BY position LIMIT ?"
    started = time.perf_counter()
    position = count = 0
    while rows := connection.execute(query, (position, _PAGE)).fetchall():
        position = rows[-1][0]
        count += len(rows)
    elapsed = time.perf_counter() - started
    connection.close()
    return count / elapsed


@benchmark("log.read.sqlite", unit="events/s", peer="bare apsw loop, pages of 1,000 rows")
async def log_read() -> Measured:
    """Read a log of 80,000 events in pages of 1,000."""
    with _file() as path:
        store = await SQLiteEventStore.open(path)
        for caller in range(CALLERS):
            await store.append(
                [StreamWrite(f"Account/{caller}", [_EVENT] * (EVENTS // CALLERS), 0)]
            )
        count = 0
        started = time.perf_counter()
        async for page in store.read(page_size=_PAGE):
            count += len(page.events)
        elapsed = time.perf_counter() - started
        await store.close()
        peer = await asyncio.to_thread(_bare_read, path)
    return Measured(count / elapsed, peer)
