"""What the tests of stores in PostgreSQL share."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from headwater.eventstore import EventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.testing.eventstore_base import event, log_of, put, write
from tests.integration.eventstore.test_postgres_processes import check_dense

Opened = Callable[..., Awaitable[PostgresEventStore]]


@pytest.fixture
async def opened(postgres_url: str) -> AsyncIterator[Opened]:
    """Return a function that opens a store, which is closed at the end."""
    stores: list[PostgresEventStore] = []

    async def open_one(url: str = postgres_url, **options: Any) -> PostgresEventStore:
        stores.append(await PostgresEventStore.open(url, **options))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def store(opened: Opened) -> PostgresEventStore:
    return await opened()


async def check_usable(store: EventStore, stored: int) -> None:
    """Exactly so many events are stored, and appending goes on where they end."""
    log = await log_of(store)
    assert len(log) == stored
    check_dense(log)
    outcome = await put(store, write("usable", event("Last", "tag"), expected=0))
    assert outcome.first == stored + 1


async def run(store: PostgresEventStore, statement: str) -> None:
    async with store._database.connection() as connection:
        await connection.execute(statement)
