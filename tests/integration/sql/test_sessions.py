"""What is between us and the server, and what that was told, changes nothing or is refused."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from headwater._sql import clock_watch
from headwater.errors import StoreUnavailable
from tests.integration.sql.rooms import ROOMS, Room, run
from tests.pgbouncer import Pooler
from tests.postgres_server import PostgresServer

WAIT_S_MAX = 30.0
EVERY = (
    "search_path,lock_timeout,idle_in_transaction_session_timeout,default_transaction_isolation,"
    "default_transaction_deferrable,synchronous_commit,jit,enable_seqscan,enable_bitmapscan,"
    "enable_hashjoin,enable_mergejoin"
)
kinds = pytest.mark.parametrize("kind", ROOMS, ids=[room.__name__.lower() for room in ROOMS])


@contextlib.asynccontextmanager
async def opened(kind: Any, url: str) -> AsyncIterator[Room]:
    room = await kind.open(url)
    try:
        yield room
    finally:
        await room.close()


async def refused(kind: Any, url: str) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await asyncio.wait_for(kind.open(url), WAIT_S_MAX)
    return str(caught.value)


async def schemas(server: PostgresServer) -> set[str]:
    """Return the schemas that have tables of ours."""
    found = await run(
        server.url(),
        "SELECT string_agg(DISTINCT schemaname, ' ') FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    return set((found[0] or "").split())


@kinds
@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_mixes_sessions_is_refused(
    own_postgres: PostgresServer, kind: Any, mode: str
) -> None:
    """Where statements of one connection meet different sessions nothing is opened or made."""
    with Pooler(own_postgres, mode=mode, ignored=EVERY) as pooler:
        assert "pool_mode=session" in await refused(kind, pooler.url(schema="one"))
        assert await schemas(own_postgres) == set()


@kinds
async def test_a_pooler_that_passes_nothing_over_is_refused(
    own_postgres: PostgresServer, kind: Any
) -> None:
    """Its own error comes with the remedy."""
    with Pooler(own_postgres, mode="session", ignored="") as pooler:
        assert "ignore_startup_parameters" in await refused(kind, pooler.url(schema="one"))


@kinds
async def test_a_pooler_that_keeps_sessions(own_postgres: PostgresServer, kind: Any) -> None:
    """Two services behind it have their own schemas, though it keeps our settings to itself."""
    await run(own_postgres.url(), "ALTER ROLE postgres SET search_path = one")
    with Pooler(own_postgres, mode="session", ignored=EVERY) as pooler:
        async with (
            opened(kind, pooler.url(schema="one")) as one,
            opened(kind, pooler.url(schema="two")) as two,
        ):
            await asyncio.gather(*(one.put(number) for number in range(5)))
            await two.put(7)
            assert await one.numbers() == [0, 1, 2, 3, 4]
            assert await two.numbers() == [7]
        async with opened(kind, own_postgres.url(schema="one")) as directly:
            assert await directly.numbers() == [0, 1, 2, 3, 4]
    assert await schemas(own_postgres) == {"one", "two"}


_SETTINGS = {
    "search_path": "pg_catalog",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'1ms'",
    "TimeZone": "'Pacific/Kiritimati'",
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "'sql_standard'",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "client_encoding": "'LATIN1'",
    "enable_indexscan": "off",
    "row_security": "off",
}


@kinds
@pytest.mark.parametrize("whose", ["ROLE", "DATABASE"])
async def test_settings_of_the_administrator(
    own_postgres: PostgresServer, kind: Any, whose: str
) -> None:
    """What was set for a role or a database, and would change what we rely on, does not count."""
    for name, value in _SETTINGS.items():
        await run(own_postgres.url(), f"ALTER {whose} postgres SET {name} = {value}")
    async with opened(kind, own_postgres.url(schema="one")) as room:
        for number in range(3):
            await room.put(number)
        assert await room.numbers() == [0, 1, 2]
        async with room.opened._database.connection() as connection:
            names = ["search_path", "transaction_isolation", "synchronous_commit", "TimeZone"]
            shown = [await connection.fetchval(f"SHOW {name}") for name in names]
        assert shown == ['"one"', "read committed", "on", "UTC"]


@kinds
async def test_a_database_that_cannot_hold_every_text(
    own_postgres: PostgresServer, kind: Any
) -> None:
    """Another encoding than UTF8 is refused at the start, not at the first text it cannot hold."""
    made = "CREATE DATABASE old ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    await run(own_postgres.url(), made)
    assert "LATIN1, expected UTF8" in await refused(kind, own_postgres.url(database="old"))


@kinds
async def test_the_primary_among_several_hosts(
    own_postgres: PostgresServer, fresh_postgres: PostgresServer, kind: Any
) -> None:
    """A URL with several hosts finds the one that can be written; without saying so, it is told."""
    standby = PostgresServer(like=fresh_postgres)
    try:
        (standby.directory / "data" / "standby.signal").touch()
        await asyncio.to_thread(standby.start)
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:{own_postgres.port}"
        url = f"postgresql://postgres@{hosts}/postgres?schema=one"
        assert "target_session_attrs=read-write" in await refused(kind, url)
        async with opened(kind, f"{url}&target_session_attrs=read-write") as room:
            await room.put(1)
            assert await room.numbers() == [1]
    finally:
        await asyncio.to_thread(standby.remove)


@kinds
async def test_a_clock_that_is_off_is_told(
    own_postgres: PostgresServer,
    kind: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The difference between the machine's clock and the server's is logged once, and kept."""
    right, url = time.time_ns, own_postgres.url(schema="one")
    monkeypatch.setattr(time, "time_ns", lambda: right() - 10_000_000_000)
    with capture_logs() as logs:
        async with opened(kind, url) as room:
            await room.put(1)
            name = room.opened._database.name
            assert name in clock_watch.troubles()
            assert -10.5 < clock_watch.ahead_s()[name] < -9.5
        assert sum("behind the store's" in log.get("reason", "") for log in logs) == 1
        monkeypatch.setattr(time, "time_ns", right)
        async with opened(kind, url) as room:
            await room.put(2)
        assert name not in clock_watch.troubles()
        assert sum(log["event"] == "this machine's clock is right" for log in logs) == 1
