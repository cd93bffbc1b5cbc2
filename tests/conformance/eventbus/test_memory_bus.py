"""The event bus in memory passes the suite; it shares nothing between processes."""

from pathlib import Path

from headwater.eventbus import EventBus
from headwater.eventbus.memory import ENGINE, MemoryEventBus
from headwater.testing.eventbus import EventBusConformance


class TestMemoryEventBus(EventBusConformance):
    engine = ENGINE

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        return MemoryEventBus(partitions)
