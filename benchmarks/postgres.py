"""The PostgreSQL server that the benchmarks share, and a new schema in it for each.

A server of its own, with ``fsync`` on, runs for as long as the benchmarks do; or the one that
``HEADWATER_POSTGRES_URL`` names is used, in schemas of its own.
"""

import atexit
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.postgres_server import PostgresServer

from headwater._sql.postgres.database import Database

_servers: list[PostgresServer] = []


def _server_url() -> str:
    given = os.environ.get("HEADWATER_POSTGRES_URL")
    if given:
        return given
    if not _servers:
        server = PostgresServer(durable=True)
        atexit.register(server.remove)
        server.start()
        _servers.append(server)
    return _servers[0].url()


@asynccontextmanager
async def schema() -> AsyncIterator[str]:
    """Give the URL of a schema that is dropped afterwards."""
    base = _server_url()
    name = f"bench_{uuid.uuid4().hex}"
    url = f"{base}{'&' if '?' in base else '?'}schema={name}"
    yield url
    database = await Database.open(url, room="bench", migrations=())
    async with database.connection() as connection:
        await connection.execute(f"DROP SCHEMA {name} CASCADE")
        await connection.execute("CHECKPOINT")
    await database.close()
