"""Every fault of a server, in every room: a clear error or a bounded wait, and nothing lost."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from headwater.errors import HeadwaterError, SchemaTooNew, StoreUnavailable
from tests.integration.sql.rooms import ROOMS, Room, run
from tests.postgres_server import PostgresServer

WAIT_S_MAX = 30.0
BOUND_S = 20.0  # far above every limit of a room, far below for ever
pytestmark = pytest.mark.parametrize("kind", ROOMS, ids=[room.__name__.lower() for room in ROOMS])
Open = Callable[..., Awaitable[Room]]


@pytest.fixture
async def opened(own_postgres: PostgresServer, kind: Any) -> AsyncIterator[Open]:
    """Return a function that opens the room as some user; it is closed at the end."""
    rooms: list[Room] = []

    async def open_one(user: str = "postgres", **options: str) -> Room:
        url = own_postgres.url(schema="x", **options).replace("postgres@", f"{user}@")
        rooms.append(await kind.open(url))
        return rooms[-1]

    yield open_one
    for room in rooms:
        await room.close()


async def refused(work: Awaitable[object]) -> str:
    """Return the message of an error that is a store's, and comes in time."""
    with pytest.raises(StoreUnavailable) as caught:
        await asyncio.wait_for(work, BOUND_S)
    return str(caught.value)


async def accepted(room: Room, number: int) -> None:
    """Put a thing as soon as the room works again, which it does by itself."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            try:
                await room.put(number)
            except StoreUnavailable:
                await asyncio.sleep(0)
            else:
                return


async def end_connections(server: PostgresServer, user: str) -> None:
    sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'"
    await run(server.url(), sql.format(user))


# --- who may what ---


async def test_password(own_postgres: PostgresServer, opened: Open, kind: Any) -> None:
    """A password that is wrong, or has become so, is named, never shown, and can be put right."""
    rules = own_postgres.directory / "data" / "pg_hba.conf"
    rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    own_postgres.stop()
    own_postgres.start()
    create = "CREATE ROLE me LOGIN SUPERUSER PASSWORD 'r1ghtpass'"
    await run(own_postgres.url(), "SET password_encryption = 'scram-sha-256'", create)
    for user in ("me:wr0ngpass", "me", "nobody:wr0ngpass"):
        message = await refused(opened(user))
        assert "password" in message
        assert "correct" in message
        assert "wr0ngpass" not in message
    room = await opened("me:r1ghtpass")
    await room.put(1)
    await run(own_postgres.url(), "ALTER ROLE me PASSWORD 'other'")
    await end_connections(own_postgres, "me")
    async with asyncio.timeout(WAIT_S_MAX):
        while "password" not in (message := await refused(room.put(2))):
            continue  # the first finds its connection broken
    assert "r1ghtpass" not in message
    await run(own_postgres.url(), "ALTER ROLE me PASSWORD 'r1ghtpass'")
    await accepted(room, 3)
    assert await room.numbers() == [1, 3]


async def test_no_such_database(own_postgres: PostgresServer, opened: Open, kind: Any) -> None:
    """A database that is not there, or no longer, is named."""
    url = own_postgres.url(database="absent", schema="x")
    assert 'database "absent" does not exist' in await refused(kind.open(url))


async def test_missing_rights(own_postgres: PostgresServer, opened: Open, kind: Any) -> None:
    """Who may not make a schema, or only read in it, is told so; with the right all works."""
    admin = own_postgres.url()
    await run(admin, "CREATE ROLE me LOGIN")
    message = await refused(opened("me"))
    assert "lacks a right (permission denied for database" in message
    assert "GRANT" in message
    first = await opened()
    await first.put(1)
    reading = "GRANT SELECT ON ALL TABLES IN SCHEMA x TO me"
    await run(admin, "GRANT USAGE ON SCHEMA x TO me", reading)

    async def use() -> None:
        room = await opened("me")
        await room.put(2)

    message = await refused(use())
    assert "lacks a right (permission denied for table" in message
    writing = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA x TO me"
    await run(admin, writing, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA x TO me")
    await use()
    assert await first.numbers() == [1, 2]


async def test_a_right_that_is_taken_away(
    own_postgres: PostgresServer, opened: Open, kind: Any
) -> None:
    """Without the right to insert nothing is stored; when it is back all goes on."""
    admin = own_postgres.url()
    await run(admin, "CREATE ROLE me LOGIN", "CREATE SCHEMA x AUTHORIZATION me")
    room = await opened("me")
    await room.put(1)
    await run(admin, f"REVOKE INSERT ON x.{kind.table} FROM me")
    assert "lacks a right" in await refused(room.put(2))
    assert await room.numbers() == [1]
    await run(admin, f"GRANT INSERT ON x.{kind.table} TO me")
    await room.put(3)
    assert await room.numbers() == [1, 3]


async def test_a_schema_of_a_newer_version(
    own_postgres: PostgresServer, opened: Open, kind: Any
) -> None:
    """Tables that a newer version has made are refused, and not touched."""
    room = await opened()
    await room.put(1)
    await run(own_postgres.url(), "UPDATE x.headwater_schema SET version = 99")
    with pytest.raises(SchemaTooNew, match="99"):
        await opened()
    assert await room.numbers() == [1]


# --- who is in the way ---


async def test_an_idle_transaction(own_postgres: PostgresServer, opened: Open, kind: Any) -> None:
    """While somebody has left a transaction open, writing fails in time and says what to do."""
    room = await opened()
    await room.put(1)
    somebody = await asyncpg.connect(own_postgres.url())
    await somebody.execute(f"BEGIN; LOCK TABLE x.{kind.table} IN SHARE ROW EXCLUSIVE MODE")
    for _ in range(2):
        message = await refused(room.put(2))
        assert "lock is held" in message
        assert "pg_stat_activity" in message
        assert await room.numbers() == [1]
    await somebody.close()
    await accepted(room, 3)
    assert await room.numbers() == [1, 3]


async def test_statement_timeout(own_postgres: PostgresServer, opened: Open, kind: Any) -> None:
    """A limit of the administrator's ends the write with an error that names it."""
    admin = own_postgres.url()
    await run(admin, "ALTER ROLE postgres SET statement_timeout = '300ms'")
    room = await opened()
    await accepted(room, 1)
    await run(
        admin,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'",
        f"CREATE TRIGGER slow BEFORE INSERT ON x.{kind.table} FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    assert "statement_timeout" in await refused(room.put(2))
    assert await room.numbers() == [1]
    await run(admin, f"DROP TRIGGER slow ON x.{kind.table}")
    await accepted(room, 3)
    assert await room.numbers() == [1, 3]


@pytest.mark.parametrize(
    "own_postgres",
    [{"max_connections": "20", "superuser_reserved_connections": "0"}],
    indirect=True,
    ids=["20"],
)
async def test_no_connection_left(own_postgres: PostgresServer, opened: Open, kind: Any) -> None:
    """When others have taken all connections that is said; with one free all goes on."""
    room = await opened()
    await room.put(1)
    await asyncio.to_thread(own_postgres.kill)
    await asyncio.to_thread(own_postgres.start)
    others: list[asyncpg.Connection] = []
    with contextlib.suppress(asyncpg.TooManyConnectionsError):
        while True:
            others.append(await asyncpg.connect(own_postgres.url()))
    for attempt in (opened(), room.put(2)):
        message = await refused(attempt)
        assert "no connection left" in message
        assert "max_connections" in message
    for one in others:
        await one.close()
    await accepted(room, 3)
    assert await room.numbers() == [1, 3]


# --- what the server is ---


async def test_hot_standby(own_postgres: PostgresServer, opened: Open, kind: Any) -> None:
    """A server that only allows reading is refused, naming the primary, until it is one again."""
    room = await opened()
    await room.put(1)
    signal_file = own_postgres.directory / "data" / "standby.signal"
    await asyncio.to_thread(own_postgres.stop)
    signal_file.touch()
    await asyncio.to_thread(own_postgres.start)
    with pytest.raises(HeadwaterError):  # its connection is broken: it finds out
        await room.put(2)
    message = await refused(room.put(2))
    assert "only allows reading" in message
    assert "connect to the primary" in message
    assert "connect to the primary" in await refused(room.numbers())
    await asyncio.to_thread(own_postgres.stop)
    signal_file.unlink()
    await asyncio.to_thread(own_postgres.start)
    await accepted(room, 3)
    assert await room.numbers() == [1, 3]


async def test_read_only_by_default(own_postgres: PostgresServer, opened: Open, kind: Any) -> None:
    """Where the administrator allows only reading, opening or writing says so."""
    await run(own_postgres.url(), "ALTER ROLE postgres SET default_transaction_read_only = on")
    assert "connect to the primary" in await refused(opened())


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL], ids=["immediate", "kill"])
async def test_server_dies_under_load(
    own_postgres: PostgresServer, opened: Open, kind: Any, how: signal.Signals
) -> None:
    """Acknowledged is stored, rejected is not, unknown is one of both; then all goes on."""
    room = await opened()
    acknowledged, rejected, unknown = set[int](), set[int](), set[int]()
    stopped, progress = asyncio.Event(), asyncio.Event()

    async def caller(first: int) -> None:
        number = first
        while not stopped.is_set():
            try:
                await room.put(number)
                acknowledged.add(number)
                progress.set()
            except StoreUnavailable as error:
                certain = error.outcome != "unknown" and not _may_be_stored(kind)
                (rejected if certain else unknown).add(number)
                await asyncio.sleep(0)
            number += 1000

    async def until(more: int) -> None:
        wanted = len(acknowledged) + more
        async with asyncio.timeout(WAIT_S_MAX):
            while len(acknowledged) < wanted:
                progress.clear()
                await progress.wait()

    callers = [asyncio.create_task(caller(n)) for n in range(1, 9)]
    for _ in range(2):
        await until(60)
        if how == signal.SIGKILL:
            await asyncio.to_thread(own_postgres.kill)
        else:
            await asyncio.to_thread(own_postgres.stop, how)
        await asyncio.to_thread(own_postgres.start)
    await until(60)
    stopped.set()
    await asyncio.wait_for(asyncio.gather(*callers), WAIT_S_MAX)
    stored = set(await room.numbers())
    assert acknowledged <= stored
    assert not rejected & stored
    assert stored <= acknowledged | unknown


def _may_be_stored(kind: type[Room]) -> bool:
    """Whether any failed `put` may have been stored: a bus says so in its contract."""
    return kind.__name__ == "Bus"
