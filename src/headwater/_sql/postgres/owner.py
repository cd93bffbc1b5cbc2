"""Which service the tables of a room belong to, kept in the schema itself."""

from typing import Any

from headwater._sql.resources import statements

_SQL = statements("headwater._sql.postgres", "owner.sql")


async def owner(connection: Any, room: str) -> str:
    """Return the service that a room belongs to; empty when that was never settled."""
    if not await connection.fetchval(_SQL["has_owners"]):
        return ""
    return await connection.fetchval(_SQL["owner"], room) or ""


async def settle_owner(connection: Any, room: str, schema: str, service: str) -> str:
    """Let a room belong to a service, if it has none, within a transaction; return its owner."""
    await connection.execute(_SQL["lock"], schema)
    await connection.execute(_SQL["create_owners"])
    await connection.execute(_SQL["set_owner"], room, service)
    return await owner(connection, room)
