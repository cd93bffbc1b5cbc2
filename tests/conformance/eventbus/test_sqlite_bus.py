"""The event bus in SQLite passes the suite; whoever opens the same file shares it."""

from pathlib import Path

from headwater.eventbus import EventBus
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.testing.eventbus import EventBusConformance


class TestSQLiteEventBus(EventBusConformance):
    shared = True
    ordered = True
    drops_repeated = True

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        return await SQLiteEventBus.open(place / "bus.db", partitions=partitions)
