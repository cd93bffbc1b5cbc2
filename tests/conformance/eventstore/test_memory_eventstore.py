"""The event store in memory passes the suite; its log is its own and ends with it."""

from collections.abc import Callable
from pathlib import Path

from headwater.eventstore import EventStore
from headwater.eventstore.memory import ENGINE, MemoryEventStore
from headwater.testing.eventstore import EventStoreConformance


class TestMemoryEventStore(EventStoreConformance):
    engine = ENGINE

    def url(self, place: Path) -> str:
        return "memory:"

    async def open_store(self, place: Path, clock: Callable[[], int]) -> EventStore:
        return MemoryEventStore(clock=clock)
