"""Versioned, forward-only schema changes that several processes may start at once."""

from collections.abc import Sequence
from typing import Any

from headwater._sql.postgres.url import Place
from headwater._sql.resources import not_there, statements
from headwater.errors import SchemaTooNew, StoreUnavailable

_SQL = statements("headwater._sql.postgres", "migrations.sql")


async def migrate(connection: Any, *, place: Place, room: str, scripts: Sequence[str]) -> None:
    """Bring a room's tables to version ``len(scripts)``; each script leads to the next version.

    Atomic: all missing scripts in one transaction, by one process at a time. Rooms that share a
    schema have their own versions. The connection's search path is the schema alone.

    Raises:
        SchemaTooNew: a newer version of Headwater was here; nothing was changed.
        asyncpg.PostgresError: nothing was changed.
    """
    if await connection.fetchval(_SQL["has_versions"]):
        present = await _version(connection, place, room, len(scripts))
        if present == len(scripts):
            return
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(_SQL["lock"], place.schema)
        if not await connection.fetchval(_SQL["has_schema"], place.schema):
            await connection.execute(f'CREATE SCHEMA "{place.schema}"')  # a plain name, checked
        await connection.execute(_SQL["create_versions"])
        present = await _version(connection, place, room, len(scripts))
        for text in scripts[present:]:
            await connection.execute(text)
        await connection.execute(_SQL["set_version"], room, len(scripts))


async def check_version(connection: Any, *, place: Place, room: str, expected: int) -> None:
    """Check that a schema, which is only read, has a room's tables in the present version.

    Raises:
        SchemaTooNew: a newer version of Headwater was here.
        StoreUnavailable: it has no such tables, or older ones.
        asyncpg.PostgresError: as the driver says it.
    """
    has_versions = await connection.fetchval(_SQL["has_versions"])
    actual = await _version(connection, place, room, expected) if has_versions else 0
    if actual != expected:
        reason = not_there(room, actual, expected)
        raise StoreUnavailable(store=place.name, reason=reason, outcome="not stored")


async def _version(connection: Any, place: Place, room: str, expected: int) -> int:
    version: int = await connection.fetchval(_SQL["version"], room) or 0
    if version > expected:
        raise SchemaTooNew(store=place.name, actual=version, expected=expected)
    return version
