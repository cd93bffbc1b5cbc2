"""The event store in PostgreSQL passes the suite; whoever opens the same schema shares the log."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.eventstore import EventStore
from headwater.eventstore.postgres import ENGINE, PostgresEventStore
from headwater.eventstore.postgres.batch import Batch
from headwater.testing.eventstore import EventStoreConformance


class TestPostgresEventStore(EventStoreConformance):
    engine = ENGINE

    @pytest.fixture(autouse=True)
    def at(self, postgres_url: str) -> None:
        self.at_url = postgres_url

    def url(self, place: Path) -> str:
        return self.at_url

    async def open_store(self, place: Path, clock: Callable[[], int]) -> EventStore:
        return await PostgresEventStore.open(self.at_url, clock=clock)


class TestPostgresEventStoreInBatches(TestPostgresEventStore):
    """A single event is stored as a batch of many is."""

    @pytest.fixture(autouse=True)
    def in_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Batch, "single", lambda _self, _now: None)
