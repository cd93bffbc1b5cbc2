"""The shared SQLite database: threads, transactions, migrations, errors."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from headwater._sql.resources import statements
from headwater._sql.sqlite.database import Database, connect, migrate, transact
from headwater.errors import SchemaTooNew, StoreError, StoreUnavailable
from headwater.testing.eventstore_base import settled, soon

SCRIPTS = ("CREATE TABLE t (a INTEGER PRIMARY KEY)", "ALTER TABLE t ADD COLUMN b TEXT")
INSERT = "INSERT INTO t (a) VALUES (?)"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "deep" / "x.db", room="test", migrations=SCRIPTS)
    yield database
    await database.close()


def rows(connection: apsw.Connection) -> list[int]:
    return [a for (a,) in connection.execute("SELECT a FROM t ORDER BY a")]


async def test_durable_settings(database: Database) -> None:
    """Committed means on disk: write-ahead log, fully synchronous; readers do not block."""
    for ask in (database.read, database.run):
        assert await ask(lambda c: c.execute("PRAGMA journal_mode").get) == "wal"
        assert await ask(lambda c: c.execute("PRAGMA synchronous").get) == 2
        assert await ask(lambda c: c.execute("PRAGMA foreign_keys").get) == 1


async def test_nothing_runs_on_the_event_loop(database: Database) -> None:
    """Work runs on other threads than the loop's."""
    here = threading.get_ident()
    for ask in (database.read, database.read_transaction, database.write, database.run):
        assert await ask(lambda _: threading.get_ident()) != here


async def test_write_is_atomic(database: Database) -> None:
    """A write is stored wholly, in the order of the calls, or rolled back when it raises."""
    await asyncio.gather(
        *(database.write(lambda c, n=n: c.execute(INSERT, (n,)) and None) for n in range(20))
    )

    def fail(connection: apsw.Connection) -> None:
        connection.execute(INSERT, (99,))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await database.write(fail)
    with pytest.raises(StoreError, match=r"x\.db.*Constraint"):
        await database.write(lambda c: c.execute(INSERT, (3,)) and None)
    assert await database.read(rows) == list(range(20))


async def test_read_transaction_sees_one_state(tmp_path: Path, database: Database) -> None:
    """All statements of a reading transaction see the same commit."""
    other = connect(tmp_path / "deep" / "x.db")

    def twice(connection: apsw.Connection) -> tuple[list[int], list[int]]:
        first = rows(connection)
        transact(other, lambda inside: inside.execute(INSERT, (1,)) and None)
        return first, rows(connection)

    assert await database.read_transaction(twice) == ([], [])
    assert await database.read(rows) == [1]
    other.close()


async def test_cancelled_work(database: Database) -> None:
    """Work whose caller is gone is carried out, and the next in turn is not disturbed."""
    release = threading.Event()
    first = asyncio.ensure_future(database.run(lambda _: release.wait(10)))
    second = asyncio.ensure_future(database.write(lambda c: c.execute(INSERT, (7,)) and None))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    release.set()
    assert await soon(database.run(rows)) == [7]


async def test_close(tmp_path: Path, database: Database) -> None:
    """Closing finishes what is queued, twice is fine, and later work is refused."""
    writes = [database.submit(lambda c, n=n: c.execute(INSERT, (n,)) and None) for n in range(9)]
    await asyncio.gather(database.close(), database.close())
    assert all(write.done() for write in writes)
    for ask in (database.read, database.write, database.run):
        with pytest.raises(StoreUnavailable, match=r"x\.db.*closed"):
            await ask(rows)
    connection = connect(tmp_path / "deep" / "x.db")
    assert rows(connection) == list(range(9))
    connection.close()


async def test_errors_of_a_connection_that_cannot_be_opened(tmp_path: Path) -> None:
    """When the file goes away readers get an error that names it, and the next try is anew."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "x.db"
    with pytest.raises(StoreUnavailable, match="file"):
        await Database.open(path, room="test", migrations=SCRIPTS)
    (tmp_path / "file").unlink()
    database = await Database.open(path, room="test", migrations=SCRIPTS)
    assert await database.read(rows) == []
    await database.close()


# --- migrations ---


def test_migrations_go_forward(tmp_path: Path) -> None:
    """Scripts that are missing are run once, in order; rooms of one file are independent."""
    connection = connect(tmp_path / "x.db")
    migrate(connection, room="one", scripts=SCRIPTS[:1])
    connection.execute(INSERT, (1,))
    for _ in range(2):
        migrate(connection, room="one", scripts=SCRIPTS)
    migrate(connection, room="two", scripts=["CREATE TABLE u (a)"])
    assert connection.execute("SELECT * FROM t").fetchall() == [(1, None)]
    stored = connection.execute("SELECT * FROM headwater_schema ORDER BY room").fetchall()
    assert stored == [("one", 2), ("two", 1)]
    with pytest.raises(SchemaTooNew) as caught:
        migrate(connection, room="one", scripts=SCRIPTS[:1])
    assert (caught.value.actual, caught.value.expected) == (2, 1)
    assert str(tmp_path / "x.db") in str(caught.value)
    connection.close()


def test_failed_migration_changes_nothing(tmp_path: Path) -> None:
    """When one script fails, none of them has happened."""
    connection = connect(tmp_path / "x.db")
    with pytest.raises(StoreError):
        migrate(connection, room="one", scripts=[*SCRIPTS, "CREATE TABLE t (again)"])
    assert connection.execute("SELECT count(*) FROM sqlite_master").get == 0
    migrate(connection, room="one", scripts=SCRIPTS)
    connection.close()


async def test_migrations_by_many_at_once(tmp_path: Path) -> None:
    """Several that open a new file at once all find it complete."""
    path = tmp_path / "x.db"
    opened = await settled(
        *(Database.open(path, room="test", migrations=SCRIPTS, readers=1) for _ in range(8))
    )
    assert not [one for one in opened if isinstance(one, BaseException)]
    for one in opened:
        assert isinstance(one, Database)
        assert await one.read(rows) == []
        await one.close()


def test_named_statements() -> None:
    """SQL files are split by name, without comments and final semicolons."""
    found = statements("headwater.eventstore.sqlite", "statements.sql")
    assert found["head"] == "SELECT coalesce(max(position), 0) FROM events"
    assert not [text for text in found.values() if "--" in text or text.endswith(";")]
