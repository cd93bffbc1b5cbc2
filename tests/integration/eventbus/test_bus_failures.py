"""An event bus on a file that is bad, locked or on a full disk."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import msgspec
import pytest

from headwater.errors import DiskFull, MalformedMessage, StoreCorrupt, StoreUnavailable
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.testing.eventbus import START, bus_event, collect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bus.db"


@pytest.fixture
async def bus(path: Path) -> AsyncIterator[SQLiteEventBus]:
    bus = await SQLiteEventBus.open(path, busy_timeout_s=0.05)
    yield bus
    await bus.close()


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """The error names the file and what to do, and the file is left as it is."""
    path.write_text("not a database, but long enough to look at" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match=r"bus\.db.*not a database"):
        asyncio.run(SQLiteEventBus.open(path))
    assert path.read_bytes() == before


async def test_a_locked_file_is_unavailable_for_publishing_only(
    bus: SQLiteEventBus, path: Path
) -> None:
    """While another process writes, reads go on; publishing fails in time, then works again."""
    await bus.publish([bus_event(1)])
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    calls = [bus.publish([bus_event(n)]) for n in range(2, 6)]
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, StoreUnavailable)
        assert "locked by another process" in str(result)
    assert len(await collect(bus, 1)) == 1
    other.execute("ROLLBACK")
    other.close()
    await bus.publish([bus_event(2)])
    assert len(await collect(bus, 2)) == 2


async def test_a_full_disk_stores_nothing(bus: SQLiteEventBus) -> None:
    """A publication that does not fit is not there, and the bus works on."""

    def limit(writer: apsw.Connection, pages: int) -> None:
        present = writer.execute("PRAGMA page_count").get
        writer.execute(f"PRAGMA max_page_count = {present + pages}").fetchall()

    await bus._database.run(lambda writer: limit(writer, 10))
    many = [bus_event(n) for n in range(1, 2000)]
    with pytest.raises(DiskFull, match=r"bus\.db.*nothing was stored"):
        await bus.publish(many)
    assert await bus.end() == START
    await bus._database.run(lambda writer: limit(writer, 100_000))
    await bus.publish(many)
    assert len(await collect(bus, len(many))) == len(many)


async def test_malformed_events_are_refused_whole(bus: SQLiteEventBus) -> None:
    """One event that cannot be encoded keeps its whole call out, and no other."""
    broken = msgspec.structs.replace(bus_event(2), metadata=b'{"traceparent"')
    with pytest.raises(MalformedMessage, match="metadata of 'MoneyWithdrawn'"):
        await bus.publish([bus_event(1), broken])
    assert await bus.end() == START
    await bus.publish([bus_event(3)])
    assert [d.event.position for d in await collect(bus, 1)] == [3]
