"""The event store in PostgreSQL passes the suite; whoever opens the same schema shares the log."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.eventstore import EventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.testing.eventstore import EventStoreConformance


class TestPostgresEventStore(EventStoreConformance):
    shared = True

    @pytest.fixture(autouse=True)
    def at(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def open_store(self, place: Path, clock: Callable[[], int]) -> EventStore:
        return await PostgresEventStore.open(self.url, clock=clock)
