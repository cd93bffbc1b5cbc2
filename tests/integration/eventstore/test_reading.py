"""A log is opened for reading by who may not write, and nothing is written."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from headwater.errors import SchemaTooNew, StoreError, StoreUnavailable
from headwater.eventstore import FilterItem, NewEvent, ReadableLog, StreamWrite
from headwater.eventstore.api import EventFilter
from headwater.eventstore.compare import compare_stores
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.postgres import open_log as open_postgres_log
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.eventstore.sqlite import open_log as open_sqlite_log
from headwater.testing.eventstore_base import events_of, soon
from tests.integration.cli.conftest import headwater
from tests.postgres_server import PostgresServer

FILTER = EventFilter((FilterItem(types=("B",), tags=("even", "x")),))


def writes(first: int, count: int) -> list[StreamWrite]:
    return [
        StreamWrite(
            f"s/{n % 3}",
            [NewEvent("AB"[n % 2], 1, b"{}", b"{}", ("x", "odd" if n % 4 else "even"))],
        )
        for n in range(first, first + count)
    ]


async def filled(store: SQLiteEventStore | PostgresEventStore, count: int = 40) -> None:
    for one in writes(0, count):
        await store.append([one])


def everything_in(folder: Path) -> dict[str, str]:
    """Return the names of all files, with digests, and when some came or went."""
    files = {path.name: hashlib.blake2b(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    return {".": str(folder.stat().st_mtime_ns)} | files


async def all_of(log: ReadableLog) -> tuple[int, ...]:
    found = [event.position for event in await events_of(log.read(page_size=7))]
    filtered = [event.position for event in await events_of(log.read(filter=FILTER))]
    stream = [event.position for event in await events_of(log.read_stream("s/1"))]
    keys = [page async for page in log.read_keys()]
    return (*found, -1, *filtered, -1, *stream, -1, await log.head(), len(keys))


async def first_of(pages: AsyncIterator[object]) -> object:
    async for page in pages:
        return page
    raise AssertionError


async def test_a_file_stays_as_it_is(tmp_path: Path) -> None:
    """Neither the file nor what is beside it changes by a byte, and no file is made."""
    store = await SQLiteEventStore.open(tmp_path / "events.db")
    await filled(store)
    expected = await all_of(store)
    await store.close()
    before = everything_in(tmp_path)
    assert list(before) == [".", "events.db"]
    log = await open_sqlite_log(tmp_path / "events.db")
    assert await all_of(log) == expected
    assert everything_in(tmp_path) == before
    await log.close()
    assert everything_in(tmp_path) == before


def test_commands_that_look_change_nothing(tmp_path: Path) -> None:
    """``headwater events`` reads a file that nobody may write, in a directory of the same kind."""

    async def fill() -> None:
        store = await SQLiteEventStore.open(tmp_path / "kept" / "events.db")
        await filled(store)
        await store.close()

    asyncio.run(fill())
    (tmp_path / "kept" / "events.db").chmod(0o444)
    before = everything_in(tmp_path / "kept")
    (tmp_path / "kept").chmod(0o555)
    done = headwater("events", "--store", str(tmp_path / "kept" / "events.db"), "--limit", "3")
    (tmp_path / "kept").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert everything_in(tmp_path / "kept") == before


async def test_a_file_that_is_opened_meanwhile(tmp_path: Path) -> None:
    """Who reads a closed file sees what is written once somebody opens it, and follows on."""
    path = tmp_path / "events.db"
    store = await SQLiteEventStore.open(path)
    await filled(store, 10)
    await store.close()
    log = await open_sqlite_log(path)
    assert await log.head() == 10
    for turn in range(3):  # opened, written and closed again, all between two reads
        store = await SQLiteEventStore.open(path)
        await filled(store, 10)
        assert await log.head() == 20 + 20 * turn
        await filled(store, 10)
        await store.close()
        assert await log.head() == 30 + 20 * turn
        assert (await all_of(log))[-2] == 30 + 20 * turn
    following = asyncio.ensure_future(first_of(log.follow(after=70)))
    store = await SQLiteEventStore.open(path)
    await filled(store, 1)
    await soon(following)
    await store.close()
    await log.close()


async def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """A log whose file was replaced is told, and not mixed with the other one."""
    path = tmp_path / "events.db"
    store = await SQLiteEventStore.open(path)
    await filled(store, 2)
    await store.close()
    log = await open_sqlite_log(path)
    assert await log.head() == 2
    path.replace(tmp_path / "old.db")
    await (await SQLiteEventStore.open(path)).close()
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await log.head()
    await log.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await log.head()


async def test_what_is_no_event_store(tmp_path: Path) -> None:
    """A file with nothing in it, or of a newer version, is told and left alone."""
    import apsw

    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreUnavailable, match="there is no eventstore in it"):
        await open_sqlite_log(tmp_path / "empty.db")
    (tmp_path / "text.db").write_text("this is no database, however one looks at it" * 100)
    with pytest.raises(StoreError, match="not a database"):
        await open_sqlite_log(tmp_path / "text.db")
    store = await SQLiteEventStore.open(tmp_path / "newer.db")
    await store.close()
    apsw.Connection(str(tmp_path / "newer.db")).execute("UPDATE headwater_schema SET version = 99")
    with pytest.raises(SchemaTooNew, match="99"):
        await open_sqlite_log(tmp_path / "newer.db")


@pytest.fixture
async def reader(own_postgres: PostgresServer) -> str:
    """Return the URL of a role that may read a filled store, and nothing else."""
    store = await PostgresEventStore.open(own_postgres.url(schema="shop"))
    await filled(store)
    await store.close()
    connection = await asyncpg.connect(own_postgres.url())
    await connection.execute(
        "CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA shop TO reader;"
        "GRANT SELECT ON ALL TABLES IN SCHEMA shop TO reader"
    )
    await connection.close()
    return own_postgres.url(schema="shop").replace("postgres@", "reader@")


@pytest.mark.postgres
async def test_a_role_that_may_only_read(own_postgres: PostgresServer, reader: str) -> None:
    """SELECT is all that it takes to read, filter and follow; to open the store is refused."""
    with pytest.raises(StoreUnavailable, match="permission denied"):
        await PostgresEventStore.open(reader)
    store = await PostgresEventStore.open(own_postgres.url(schema="shop"))
    log = await open_postgres_log(reader)
    assert await all_of(log) == await all_of(store)
    assert (await compare_stores(log, store)).difference == ""
    following = asyncio.ensure_future(first_of(log.follow(filter=FILTER, after=await log.head())))
    await filled(store, 4)
    await soon(following)
    await store.close()
    await log.close()


@pytest.mark.postgres
async def test_nothing_is_written_even_by_who_may(own_postgres: PostgresServer) -> None:
    """The owner of the tables, too, has a session that cannot write; an empty schema stays so."""
    url = own_postgres.url(schema="shop")
    with pytest.raises(StoreUnavailable, match="there is no eventstore in it"):
        await open_postgres_log(url)
    connection = await asyncpg.connect(own_postgres.url())
    assert await connection.fetchval("SELECT to_regnamespace('shop')") is None
    await connection.close()
    await (await PostgresEventStore.open(url)).close()
    log = await open_postgres_log(url)
    with pytest.raises(StoreUnavailable, match=r"only allows reading|read-only"):
        await log._database.read(lambda c: c.execute("DELETE FROM events"))
    await log.close()


@pytest.mark.postgres
async def test_a_standby(own_postgres: PostgresServer, reader: str) -> None:
    """A hot standby, on which nobody can write, shows what has reached it."""
    own_postgres.stop()
    standby = PostgresServer(like=own_postgres)
    try:
        (standby.directory / "data" / "standby.signal").touch()
        await asyncio.to_thread(standby.start)
        for role in ("reader", "postgres"):
            url = standby.url(schema="shop").replace("postgres@", f"{role}@")
            log = await open_postgres_log(url)
            assert (await all_of(log))[-2:] == (40, 0)
            pages = log.follow(after=30)
            assert await soon(first_of(pages))
            await log.close()
    finally:
        await asyncio.to_thread(standby.remove)
