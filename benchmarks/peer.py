"""The library ``eventsourcing``, with which ours is compared, set up as its documentation says.

It is installed for this only: ``pip install 'eventsourcing[postgres]==9.5.6'``. It works with
threads. Its aggregates are cached, as ours are, and not read again before each use.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from benchmarks.engines import Engine
from benchmarks.postgres import schema
from headwater._sql.postgres.database import Database

if TYPE_CHECKING:
    from eventsourcing.application import Application

PEER = "eventsourcing 9.5.6"
THREADS = (1, 4, 16)
"""With how many it is tried; the best counts."""

Environment = dict[str, str]


@cache
def account_class() -> Any:
    """Return the peer's class of accounts."""
    from eventsourcing.domain import Aggregate, event

    class PeerAccount(Aggregate):
        @event("Opened")
        def __init__(self, holder: str) -> None:
            self.holder = holder
            self.balance = 0

        @event("Withdrawn")
        def withdraw(self, amount: int) -> None:
            self.balance -= amount

    return PeerAccount


@asynccontextmanager
async def environment(engine: Engine) -> AsyncIterator[Environment]:
    """Give the settings for a new database."""
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            yield {
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": str(Path(directory) / "peer.db"),
                "SQLITE_LOCK_TIMEOUT": "30",
            }
    else:
        async with schema() as url:
            # The peer expects the schema to exist.
            await (await Database.open(url, room="bench", migrations=())).close()
            settings = _postgres(url)
            # Some of its statements look for tables on the search path only.
            os.environ["PGOPTIONS"] = f"-c search_path={settings['POSTGRES_SCHEMA']}"
            try:
                yield settings
            finally:
                del os.environ["PGOPTIONS"]


def _postgres(url: str) -> Environment:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.lstrip("/"),
        "POSTGRES_HOST": parts.hostname or options["host"],
        "POSTGRES_PORT": str(parts.port or options.get("port", "5432")),
        "POSTGRES_USER": parts.username or "postgres",
        "POSTGRES_PASSWORD": parts.password or "none",
        "POSTGRES_SCHEMA": options["schema"],
        "POSTGRES_POOL_SIZE": str(max(THREADS)),
    }


def application(settings: Environment, *, cached: int) -> "Application[UUID]":
    """Return an application of the peer that keeps so many aggregates in memory."""
    from eventsourcing.application import Application

    cache_settings = {}
    if cached:
        cache_settings = {
            "AGGREGATE_CACHE_MAXSIZE": str(cached),
            "AGGREGATE_CACHE_FASTFORWARD": "no",
        }
    return Application[UUID](env={**settings, **cache_settings})


async def best_of_threads(measure: Any, engine: Engine) -> float:
    """Call ``measure(environment, threads)``, each time on a new database; return the best."""
    found = []
    for threads in THREADS:
        async with environment(engine) as settings:
            found.append(await asyncio.to_thread(measure, settings, threads))
    return max(found)
