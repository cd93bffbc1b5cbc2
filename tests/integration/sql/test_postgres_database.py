"""The shared PostgreSQL database: migrations, bounded waits, clear errors, recovery, wake-ups."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from headwater._sql.postgres.database import Database
from headwater._sql.postgres.url import Place, schema_for
from headwater._sql.postgres.wake import Wake
from headwater._sql.waiting import SAFETY_S
from headwater.errors import (
    ConfigurationError,
    SchemaTooNew,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
)
from tests.postgres_server import PostgresServer

WAIT_S_MAX = 30.0
FIRST = "CREATE TABLE things (id bigint PRIMARY KEY, name text NOT NULL);"
SECOND = "ALTER TABLE things ADD COLUMN size bigint NOT NULL DEFAULT 7;"


async def opened(url: str, *scripts: str, **options: float) -> Database:
    return await Database.open(url, room="things", migrations=scripts or (FIRST,), **options)  # type: ignore[arg-type]  # by name


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = await opened(postgres_url)
    yield database
    await database.close()


async def put(database: Database, number: int) -> None:
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO things VALUES ($1, 'x')", number)


async def count(database: Database) -> int:
    counted: int = await database.read(lambda c: c.fetchval("SELECT count(*) FROM things"))
    return counted


# --- URLs ---


def test_urls_name_a_schema() -> None:
    """The schema comes from the URL, else from the caller; the name for messages has no secret."""
    place = Place.parse("postgres://me:secret@db.example:5433/sales?schema=a_1&sslmode=require")
    assert place.dsn == "postgres://me:secret@db.example:5433/sales?sslmode=require"
    assert place.schema == "a_1"
    assert place.name == "postgresql://db.example:5433/sales?schema=a_1"
    assert Place.parse("postgresql:///sales", schema="other").schema == "other"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x/y",
        "postgresql://h/d?schema=Ab",
        "postgresql://h/d?schema=pg_a",
        'postgresql://h/d?schema=a"; DROP',
        "postgresql://u:secret@h:port/d",
    ],
)
def test_wrong_urls(url: str) -> None:
    """A URL of something else, or with a schema that would need quotes, is refused."""
    with pytest.raises(ConfigurationError) as caught:
        Place.parse(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("service", "schema"), [("Accounts", "accounts"), ("my-shop", "my_shop"), ("7up", "s_7up")]
)
def test_schema_for_a_service(service: str, schema: str) -> None:
    """Any service name leads to a plain schema name."""
    assert schema_for(service) == schema


# --- migrations ---


async def test_scripts_run_once_and_forward(postgres_url: str, database: Database) -> None:
    """A later version runs only the scripts that are missing."""
    await put(database, 1)
    later = await opened(postgres_url, FIRST, SECOND)
    assert await later.read(lambda c: c.fetchval("SELECT size FROM things")) == 7
    await later.close()
    with pytest.raises(SchemaTooNew, match=r"schema 2.*knows 1"):
        await opened(postgres_url)
    assert await count(database) == 1


async def test_started_by_many_at_once(postgres_url: str) -> None:
    """Any number may bring an empty database up to date at the same time."""
    databases = await asyncio.gather(*(opened(postgres_url, FIRST, SECOND) for _ in range(8)))
    assert [await count(database) for database in databases] == [0] * 8
    await asyncio.gather(*(database.close() for database in databases))


async def test_a_script_that_fails_changes_nothing(postgres_url: str, database: Database) -> None:
    """When a script fails, none of the new ones took effect."""
    with pytest.raises(StoreCorrupt, match="absent"):
        await opened(postgres_url, FIRST, SECOND, "INSERT INTO absent VALUES (1)")
    again = await opened(postgres_url, FIRST, SECOND)
    await again.close()


async def test_a_schema_may_be_called_like_a_word_of_sql(postgres_server: str) -> None:
    """A schema ``right`` is a schema like others."""
    joint = "&" if "?" in postgres_server else "?"
    url = f"{postgres_server}{joint}schema=right"
    database = await Database.open(url, room="test", migrations=["CREATE TABLE one (n integer)"])
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT current_schema()") == "right"
        await connection.execute('DROP SCHEMA "right" CASCADE')
    await database.close()


async def test_schemas_are_separate(postgres_server: str, postgres_url: str) -> None:
    """Two schemas of one database share nothing."""
    one, two = await opened(postgres_url), await opened(f"{postgres_url}_2")
    await put(one, 1)
    assert (await count(one), await count(two)) == (1, 0)
    async with two.connection() as connection:
        await connection.execute(f"DROP SCHEMA {two.place.schema} CASCADE")
    await one.close()
    await two.close()


# --- what can be wrong ---


@pytest.fixture
async def admin(own_postgres: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(own_postgres.url())
    yield connection
    await connection.close()


async def test_wrong_password(own_postgres: PostgresServer, admin: asyncpg.Connection) -> None:
    """A wrong password is named as such, and is not shown."""
    await admin.execute("CREATE ROLE me LOGIN PASSWORD 'right'")
    rules = own_postgres.directory / "data" / "pg_hba.conf"
    rules.write_text("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    await admin.execute("SELECT pg_reload_conf()")
    url = f"postgresql://me:wr0ngpass@127.0.0.1:{own_postgres.port}/postgres"

    async def refused() -> str:
        with pytest.raises(StoreUnavailable) as caught:
            await opened(url)
        return str(caught.value)

    async with asyncio.timeout(WAIT_S_MAX):
        while "password" not in (message := await refused()):
            continue  # the server reads the rules again soon
    assert "correct them in the URL" in message
    assert "wr0ngpass" not in message


async def test_wrong_database(postgres_server: str) -> None:
    """A database that does not exist is named."""
    with pytest.raises(StoreUnavailable, match=r'"absent" does not exist.*correct the URL'):
        await opened(urlsplit(postgres_server)._replace(path="/absent").geturl())


async def test_missing_rights(own_postgres: PostgresServer, admin: asyncpg.Connection) -> None:
    """A user who may not make a schema is told so, and may use one made for it."""
    await admin.execute("CREATE ROLE me LOGIN")
    url = own_postgres.url(schema="given").replace("postgres@", "me@")
    with pytest.raises(StoreUnavailable, match=r"lacks a right.*GRANT"):
        await opened(url)
    await admin.execute("CREATE SCHEMA given AUTHORIZATION me")
    database = await opened(url)
    await put(database, 1)
    await database.close()


async def test_nobody_there() -> None:
    """A server that is away is an error at once, with what to check."""
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/x.*cannot be reached.*runs"):
        await opened("postgresql://me:secret@127.0.0.1:1/x")


async def test_a_server_that_does_not_answer() -> None:
    """One that accepts connections and says nothing is given up after the time allowed."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"postgresql://127.0.0.1:{server.getsockname()[1]}/x"
        with pytest.raises(StoreUnavailable, match="did not answer in the time allowed"):
            await opened(url, connect_timeout_s=0.05)


async def test_a_lock_that_somebody_holds(postgres_url: str, database: Database) -> None:
    """The wait for a lock is bounded, the error says what to look for, and nothing is stored."""
    hasty = await opened(postgres_url, lock_timeout_s=0.05)
    async with database.transaction() as connection:
        await connection.execute("LOCK TABLE things")
        with pytest.raises(StoreUnavailable, match=r"lock is held.*pg_stat_activity"):
            await put(hasty, 1)
    await put(hasty, 2)
    assert await count(hasty) == 1
    await hasty.close()


async def test_a_statement_that_takes_too_long(postgres_url: str, database: Database) -> None:
    """Whether the server or we give up, the error says so, and the pool stays usable."""
    hasty = await opened(postgres_url, command_timeout_s=0.05, connections=1)
    with pytest.raises(StoreUnavailable, match="did not answer in the time allowed"):
        await hasty.read(lambda c: c.execute("SELECT pg_sleep(20)"))
    await put(hasty, 1)
    async with database.connection() as connection:
        await connection.execute("SET statement_timeout = 50")
        with pytest.raises(asyncpg.QueryCanceledError):
            await connection.execute("SELECT pg_sleep(20)")
        await connection.execute("RESET statement_timeout")
    await hasty.close()
    assert await count(database) == 1


async def test_more_callers_than_connections(postgres_url: str) -> None:
    """Callers wait for a connection, no longer than allowed."""
    database = await opened(postgres_url, connections=2, connect_timeout_s=2.0)
    await asyncio.gather(*(put(database, n) for n in range(40)))
    async with database.connection(), database.connection():
        with pytest.raises(StoreUnavailable, match="time allowed"):
            await count(database)
    assert await count(database) == 40
    await database.close()


async def test_closed(database: Database) -> None:
    """After closing, which may be done twice, everything says so."""
    await database.close()
    await database.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await count(database)


async def test_cancelled_transactions_roll_back(database: Database) -> None:
    """A task that is cancelled in a transaction leaves nothing behind."""
    inside = asyncio.Event()

    async def slow() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO things VALUES (1, 'x')")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(slow())
    await inside.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await count(database) == 0


async def test_cancelled_anywhere(postgres_url: str) -> None:
    """Wherever a transaction is cancelled, its connection goes back to the pool outside of one."""
    database = await opened(postgres_url, connections=1)
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    ended = 0
    for turns in range(60):
        task = asyncio.ensure_future(put(database, turns))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        ended += outcome is None
        async with database.connection() as connection:
            assert not connection.is_in_transaction()
    assert ended <= await count(database)
    assert complaints == []
    await database.close()


async def test_a_failed_statement_fails_the_block(database: Database) -> None:
    """When a statement failed nothing is stored, and the block fails even if it went on."""
    with pytest.raises(StoreError, match="nothing was stored"):  # noqa: PT012  # the block's end
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO things VALUES (1, 'x')")
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.execute("INSERT INTO things VALUES (1, 'x')")
    assert await count(database) == 0


async def test_recovers_when_the_server_returns(own_postgres: PostgresServer) -> None:
    """While the server is away calls fail; when it has returned they work, and followers hear."""
    database = await opened(own_postgres.url(schema="x"))
    await put(database, 1)
    ticket = database.wake.ticket()
    own_postgres.kill()
    with pytest.raises(StoreUnavailable):
        await put(database, 2)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await count(database)
    own_postgres.start()
    assert await count(database) == 1
    await put(database, 3)
    other = await opened(own_postgres.url(schema="x"))
    await heard(database, other, ticket)
    await database.close()
    await other.close()


# --- wake-ups ---


async def heard(database: Database, other: Database, ticket: int) -> None:
    """Wait until a notification of the other one arrives."""
    async with asyncio.timeout(WAIT_S_MAX):
        while database.wake.ticket() == ticket:
            other.notify()
            await database.wake.wait(ticket, timeout_s=0.05)


async def test_wakes_others_soon(postgres_url: str, database: Database) -> None:
    """A notification reaches those who wait elsewhere long before they look for themselves."""
    other = await opened(postgres_url)
    await heard(database, other, database.wake.ticket())
    delays = []
    for _ in range(20):
        ticket = database.wake.ticket()
        began = time.monotonic()
        other.notify()
        await database.wake.wait(ticket, timeout_s=WAIT_S_MAX)
        delays.append(time.monotonic() - began)
    assert sorted(delays)[10] < SAFETY_S / 2  # a lost wake-up takes all of it
    await other.close()


async def test_wakes_its_own_at_once(database: Database) -> None:
    """Tasks of the same process need no server to be woken."""
    ticket = database.wake.ticket()
    waiting = asyncio.ensure_future(database.wake.wait(ticket, timeout_s=WAIT_S_MAX))
    await asyncio.sleep(0)
    database.wake.fire()
    await asyncio.wait_for(waiting, WAIT_S_MAX)
    assert database.wake.ticket() != ticket


async def test_a_notification_that_comes_with_the_end(database: Database) -> None:
    """A notification that is read just before the connection is closed wakes without harm."""
    made: list[asyncpg.Connection] = []

    async def connect() -> asyncpg.Connection:
        made.append(await database.connect())
        return made[-1]

    wake = Wake("ending", connect)
    ticket = wake.ticket()
    await wake.wait(ticket, timeout_s=WAIT_S_MAX)  # it listens now
    harmed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: harmed.append(context))
    ticket = wake.ticket()
    made[0]._process_notification(1, wake.channel, "")
    made[0].terminate()
    await wake.wait(ticket, timeout_s=WAIT_S_MAX)
    assert wake.ticket() != ticket
    assert not harmed
    await wake.close()


async def test_rooms_and_schemas_do_not_wake_each_other(database: Database) -> None:
    """A wake-up concerns one room of one schema."""
    url = database.place.dsn
    other = await Database.open(
        url, room="others", migrations=(FIRST,), schema=f"{database.place.schema}_2"
    )
    assert other.wake.channel != database.wake.channel
    async with other.connection() as connection:
        await connection.execute(f"DROP SCHEMA {other.place.schema} CASCADE")
    await other.close()
