"""Whatever is wrong with the file or the request: the right error, nothing half-done, no harm."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from headwater.errors import (
    DiskFull,
    InvalidInput,
    Overloaded,
    PipelineBroken,
    SchemaTooNew,
    StoreCorrupt,
    StoreUnavailable,
)
from headwater.eventstore import Appended, EventStore, Idempotency, NewEvent, Pipeline, Snapshot
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.testing.eventstore_base import event, events_of, log_of, put, settled, write

BUSY_S = 0.05
BIG = b"x" * 300_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteEventStore]:
    store = await SQLiteEventStore.open(tmp_path / "events.db", busy_timeout_s=BUSY_S)
    yield store
    await store.close()


async def limit_pages(store: SQLiteEventStore, more: int | None) -> None:
    """Let the file grow by so many pages at most, as a full disk would."""

    def limit(connection: apsw.Connection) -> None:
        present = connection.execute("PRAGMA page_count").get
        pages = present + more if more is not None else 2**31
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    await store._database.run(limit)


async def check_usable(store: EventStore, stored: int) -> None:
    """Exactly so many events are stored, and appending goes on where they end."""
    assert [e.position for e in await log_of(store)] == list(range(1, stored + 1))
    outcome = await put(store, write("usable", event("Last", "tag"), expected=0))
    assert outcome.first == stored + 1
    assert await store.head() == stored + 1


async def test_locked_by_another_process(tmp_path: Path, store: SQLiteEventStore) -> None:
    """While the file stays locked appends fail, naming it; then everything goes on."""
    await put(store, write("a"))
    pipeline = Pipeline()
    other = apsw.Connection(str(tmp_path / "events.db"))
    other.execute("BEGIN IMMEDIATE")
    results = await settled(
        put(store, write("a")),
        store.append([write("b")], pipeline=pipeline, idempotency=Idempotency("k")),
        store.save_snapshot(Snapshot("a", 1, "", b"")),
    )
    assert [type(result) for result in results] == [StoreUnavailable] * 3
    assert "events.db" in str(results[0])
    assert "locked by another process" in str(results[0])
    assert await store.head() == 1  # reading is not disturbed
    other.execute("ROLLBACK")
    other.close()
    with pytest.raises(PipelineBroken):
        await store.append([write("b")], pipeline=pipeline)
    assert await store.outcome("k") is None
    assert await store.load_snapshot("a") is None
    await check_usable(store, 1)


async def test_disk_full(store: SQLiteEventStore) -> None:
    """What does not fit fails with `DiskFull` and stores nothing; what fits is stored."""
    await put(store, write("a", event("A", "t")))
    await limit_pages(store, 40)
    big = event("Big", "tag", data=BIG)
    results = await settled(
        put(store, write("a", expected=1)),
        store.append([write("b"), write("c", big)], idempotency=Idempotency("k")),
        put(store, write("a", expected=2)),
        put(store, write("b", event("B", "t"), expected=0)),
    )
    assert [type(result) for result in results] == [Appended, DiskFull, Appended, Appended]
    assert "events.db" in str(results[1])
    assert await store.outcome("k") is None
    assert await store.version("c") == 0
    await limit_pages(store, None)
    await put(store, write("c", big, expected=0))
    assert await store.version("b") == 1
    await check_usable(store, 5)


async def test_disk_full_breaks_the_pipeline(store: SQLiteEventStore) -> None:
    """What was decided on an append that did not fit is not stored, though it would fit."""
    await limit_pages(store, 40)
    pipeline = Pipeline()
    results = await settled(
        store.append([write("a", expected=0)], pipeline=pipeline),
        store.append([write("a", event(data=BIG), expected=1)], pipeline=pipeline),
        store.append([write("a", expected=1)], pipeline=pipeline),
    )
    assert [type(result) for result in results] == [Appended, DiskFull, PipelineBroken]
    await limit_pages(store, None)
    await check_usable(store, 1)


async def test_what_cannot_be_stored_fails_alone(store: SQLiteEventStore) -> None:
    """A request of the wrong types is refused with what is wrong; its neighbours are stored."""
    wrong: list[Any] = [
        NewEvent("A", 1, "text", b"{}"),  # type: ignore[arg-type]  # that is the point
        NewEvent("A", 2**70, b"{}", b"{}"),
        NewEvent("lone \ud800", 1, b"{}", b"{}"),
        NewEvent("A", 1, b"{}", b"{}", ("\ud800",)),
        NewEvent(None, 1, b"{}", b"{}"),  # type: ignore[arg-type]  # that is the point
        "not an event",
    ]
    work = [put(store, write("bad", one)) for one in wrong]
    good = [put(store, write("good", expected=n)) for n in range(6)]
    results = await settled(*(one for pair in zip(good, work, strict=True) for one in pair))
    assert [type(result) for result in results[::2]] == [Appended] * 6
    assert [type(result) for result in results[1::2]] == [InvalidInput] * 6
    assert await store.version("bad") == 0
    await check_usable(store, 6)


async def test_overloaded(tmp_path: Path) -> None:
    """More appends than may wait are refused at once; those accepted are carried out."""
    store = await SQLiteEventStore.open(tmp_path / "events.db", pending_max=10)
    pipeline = Pipeline()
    results = await settled(
        store.append([write("p", expected=0)], pipeline=pipeline),
        *(put(store, write("a")) for _ in range(30)),
        store.append([write("p", expected=1)], pipeline=pipeline),
    )
    assert [type(result) for result in results] == [Appended] * 10 + [Overloaded] * 22
    assert "10" in str(results[-1])
    with pytest.raises(PipelineBroken):
        await store.append([write("p", expected=1)], pipeline=pipeline)
    await check_usable(store, 10)
    await store.close()


async def test_not_a_database(tmp_path: Path) -> None:
    """A file that is something else is named, and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database, just text " * 1000)
    with pytest.raises(StoreCorrupt, match=r"notes\.txt.*not a database"):
        await SQLiteEventStore.open(path)
    assert path.read_bytes() == b"not a database, just text " * 1000


async def test_damaged_file(tmp_path: Path) -> None:
    """A damaged page is reported as damage, with the file and what to do."""
    path = tmp_path / "events.db"
    store = await SQLiteEventStore.open(path)
    await put(store, write("a", *(event(data=b"y" * 500) for _ in range(500))))
    await store.close()
    content = bytearray(path.read_bytes())
    content[4096 * 20 :] = b"\xff" * (len(content) - 4096 * 20)
    path.write_bytes(content)
    again = await SQLiteEventStore.open(path)
    with pytest.raises(StoreCorrupt, match=r"events\.db.*backup"):
        await events_of(again.read())
    await again.close()


async def test_path_that_cannot_be_opened(tmp_path: Path) -> None:
    """A directory, or a path through a file, is refused with the path."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "events.db"):
        with pytest.raises(StoreUnavailable, match=str(tmp_path)):
            await SQLiteEventStore.open(path)


async def test_locked_while_opening(tmp_path: Path) -> None:
    """A new file that somebody else has locked cannot be opened, and can be afterwards."""
    path = tmp_path / "events.db"
    other = apsw.Connection(str(path))
    other.execute("BEGIN EXCLUSIVE; CREATE TABLE other (id)")
    with pytest.raises(StoreUnavailable, match="locked"):
        await SQLiteEventStore.open(path, busy_timeout_s=BUSY_S)
    other.close()
    again = await SQLiteEventStore.open(path)
    await check_usable(again, 0)
    await again.close()


async def test_newer_schema(tmp_path: Path, store: SQLiteEventStore) -> None:
    """A file of a newer version is refused and not touched."""
    await store.close()
    connection = apsw.Connection(str(tmp_path / "events.db"))
    connection.execute("UPDATE headwater_schema SET version = 99")
    with pytest.raises(SchemaTooNew, match="99"):
        await SQLiteEventStore.open(tmp_path / "events.db")
    assert connection.execute("SELECT version FROM headwater_schema").get == 99
    connection.close()


async def test_a_write_that_fails_on_disk(tmp_path: Path) -> None:
    """When the system refuses a write, the append fails, nothing is in part, and it goes on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.eventstore.failing_disk",
        tmp_path / "events.db",
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    errors, stored, pipeline = out.decode().splitlines()
    assert errors == "StoreUnavailable:unknown StoreUnavailable:unknown"
    assert stored == "2"
    assert pipeline == "True"
    store = await SQLiteEventStore.open(tmp_path / "events.db")
    await check_usable(store, 2)
    await store.close()


def count(what: str) -> int:
    """Return how many open files or threads this process has."""
    return sum(1 for _ in Path("/proc/self", what).iterdir())


async def test_threads_and_files_are_released(tmp_path: Path) -> None:
    """Closing leaves no thread, no open file and no socket behind."""
    before = count("fd"), count("task")
    for _ in range(3):
        store = await SQLiteEventStore.open(tmp_path / "events.db")
        pages = store.follow()
        await put(store, write("a"))
        await anext(pages)
        await pages.aclose()
        await store.close()
    assert count("fd") == before[0]
    assert count("task") - before[1] <= 3  # asyncio's own pool, which joined the threads
