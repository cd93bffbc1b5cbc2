"""The event store in SQLite passes the suite; whoever opens the same file shares the log."""

from collections.abc import Callable
from pathlib import Path

from headwater.eventstore import EventStore
from headwater.eventstore.sqlite import ENGINE, SQLiteEventStore
from headwater.testing.eventstore import EventStoreConformance


class TestSQLiteEventStore(EventStoreConformance):
    engine = ENGINE

    def url(self, place: Path) -> str:
        return f"sqlite:{place}/events.db"

    async def open_store(self, place: Path, clock: Callable[[], int]) -> EventStore:
        return await SQLiteEventStore.open(place / "events.db", clock=clock)
