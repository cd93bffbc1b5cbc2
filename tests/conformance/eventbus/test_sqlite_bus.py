"""The event bus in SQLite passes the suite; whoever opens the same file shares it."""

from pathlib import Path

from headwater.eventbus import EventBus
from headwater.eventbus.sqlite import ENGINE, SQLiteEventBus
from headwater.testing.eventbus import EventBusConformance


class TestSQLiteEventBus(EventBusConformance):
    engine = ENGINE

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        return await SQLiteEventBus.open(place / "bus.db", partitions=partitions)
