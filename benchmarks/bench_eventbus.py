"""The event bus in SQLite: publishing and delivering."""

import tempfile
import time
from pathlib import Path

from benchmarks.harness import Measured, benchmark
from headwater._sql.sqlite.database import connect
from headwater.eventbus import BusEvent
from headwater.eventbus.sqlite import SQLiteEventBus

EVENTS = 20_000
EVENTS_PER_CALL = 500
START = dict.fromkeys(range(4), -1)


def sample_events() -> list[BusEvent]:
    """Return what is published: 20,000 events of 1,000 streams."""
    data = b'{"account_id":"0190c2f1-7c1e-7d3a","amount":1250,"reference":"purchase"}'
    metadata = b'{"id":"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","time":1700000000000000}'
    return [
        BusEvent(
            source="accounts",
            epoch="0190c2f1",
            position=n,
            stream=f"Account/{n % 1000}",
            version=n // 1000 + 1,
            type="MoneyWithdrawn",
            type_version=1,
            time=1_700_000_000_000_000 + n,
            tags=(),
            data=data,
            metadata=metadata,
        )
        for n in range(1, EVENTS + 1)
    ]


def _documents(path: Path) -> list[str]:
    connection = connect(path)
    documents = [str(row[0]) for row in connection.execute("SELECT document FROM bus_events")]
    connection.close()
    return documents


def _bare_insert(path: Path, documents: list[str]) -> float:
    connection = connect(path)
    connection.execute(
        "CREATE TABLE log (partition INTEGER, offset INTEGER, document TEXT, "
        "PRIMARY KEY (partition, offset)) WITHOUT ROWID"
    )
    started = time.perf_counter()
    for first in range(0, EVENTS, EVENTS_PER_CALL):
        batch = documents[first : first + EVENTS_PER_CALL]
        rows = [(n % 4, n, document) for n, document in enumerate(batch, first)]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO log VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
    elapsed = time.perf_counter() - started
    connection.close()
    return EVENTS / elapsed


@benchmark("eventbus.publish", unit="events/s", peer="bare apsw inserts of the documents")
async def publish() -> Measured:
    """Calls of 500 events, one after another: what a relay does when it catches up."""
    events = sample_events()
    with tempfile.TemporaryDirectory() as directory:
        bus = await SQLiteEventBus.open(Path(directory) / "bus.db")
        started = time.perf_counter()
        for first in range(0, EVENTS, EVENTS_PER_CALL):
            await bus.publish(events[first : first + EVENTS_PER_CALL])
        elapsed = time.perf_counter() - started
        await bus.close()
        peer = _bare_insert(Path(directory) / "bare.db", _documents(Path(directory) / "bus.db"))
    return Measured(EVENTS / elapsed, peer)


@benchmark("eventbus.deliver", unit="events/s")
async def deliver() -> Measured:
    """A subscription from the start, in pages of 1,000."""
    with tempfile.TemporaryDirectory() as directory:
        bus = await SQLiteEventBus.open(Path(directory) / "bus.db")
        await bus.publish(sample_events())
        started = time.perf_counter()
        count = 0
        async for page in bus.subscribe(after=START):
            count += len(page)
            if count == EVENTS:
                break
        elapsed = time.perf_counter() - started
        await bus.close()
    return Measured(EVENTS / elapsed)
