"""Checks that a connection is a session of the server as we need it, whatever is in between."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg

from headwater._sql import clock_watch
from headwater._sql.postgres.url import Place
from headwater._sql.resources import statements
from headwater.errors import StoreUnavailable
from headwater.messages import now_us

_SQL = statements("headwater._sql.postgres", "session.sql")
_TURNS = 3
_NO_SESSION: tuple[type[Exception], ...] = (
    asyncpg.ConnectionDoesNotExistError,  # ended where it began a transaction
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.ProtocolViolationError,
)
_MIXED = (
    "a pooler in between gives statements of one connection to different sessions of the server, "
    "so that settings, locks and wake-ups are lost: connect to the server itself, or set "
    "pool_mode=session"
)

Connect = Callable[[], Awaitable[Any]]


async def check_session(
    connection: Any,
    place: Place,
    settings: Mapping[str, str],
    another: Connect,
    *,
    reading: bool = False,
) -> None:
    """Refuse a connection on which our statements would not do what they say.

    The server's clock is compared with the machine's at the same time.

    Args:
        connection: a new one.
        place: which schema it shall be in.
        settings: of the session, as they were asked for.
        another: makes one more connection, not checked.
        reading: whether a server that only allows reading will do.

    Raises:
        StoreUnavailable: a pooler does not keep sessions apart, the server only allows reading, or
            its database cannot hold every text.
        asyncpg.PostgresError, OSError: as the driver says it.
    """
    began_us = now_us()
    try:
        row = await connection.fetchrow(_SQL["look"])
    except _NO_SESSION as error:
        raise _refused(place, _MIXED) from error
    clock_watch.compare(place.name, row["clock"], began_us=began_us)
    if row["read_only"] and not reading:
        # What it shows may be older than what was acknowledged, so it is not read either.
        reason = (
            "the server only allows reading (a standby, or default_transaction_read_only): "
            "connect to the primary; a URL with several hosts finds it with "
            "target_session_attrs=read-write"
        )
        raise _refused(place, reason)
    if row["encoding"] != "UTF8":
        reason = f"the database's encoding is {row['encoding']}, expected UTF8: make one in UTF8"
        raise _refused(place, reason)
    if row["pid"] != connection.get_server_pid() or row["path"] != settings["search_path"]:
        # Somebody in between answers for the server, and may have kept our settings to himself.
        try:
            kept = await _is_kept(connection, another)
        except _NO_SESSION as error:
            raise _refused(place, _MIXED) from error
        if not kept:
            raise _refused(place, _MIXED)
        await connection.execute(_SQL["reset"])
        await connection.fetch(_SQL["set"], list(settings), list(settings.values()))


async def _is_kept(connection: Any, another: Connect) -> bool:
    """Whether a connection keeps its session of the server while another one is in need of one."""
    other = await another()
    try:
        for _ in range(_TURNS):
            own = await connection.fetchval(_SQL["pid"])
            await other.execute("BEGIN")
            mixed = own == await other.fetchval(_SQL["pid"])
            mixed = mixed or own != await connection.fetchval(_SQL["pid"])
            await other.execute("ROLLBACK")
            if mixed:
                return False
    finally:
        other.terminate()
    return True


def _refused(place: Place, reason: str) -> StoreUnavailable:
    return StoreUnavailable(store=place.name, reason=reason, outcome="not stored")
