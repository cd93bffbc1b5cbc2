"""Engines of a package outside of Headwater pass the suites, and are held to what they declare."""

from collections.abc import Callable
from pathlib import Path

import made_up

from headwater.eventbus import EventBus
from headwater.eventstore import EventStore
from headwater.testing.eventbus import EventBusConformance
from headwater.testing.eventstore import EventStoreConformance
from headwater.testing.views import ViewStoreConformance
from headwater.views import ViewStore


class TestMadeUpEventStore(EventStoreConformance):
    engine = made_up.EVENT_STORE

    def url(self, place: Path) -> str:
        return f"made-up:{place}"

    async def open_store(self, place: Path, clock: Callable[[], int]) -> EventStore:
        return await made_up.open_store(self.url(place), clock=clock)


class TestMadeUpEventBus(EventBusConformance):
    engine = made_up.EVENT_BUS

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        return await made_up.open_bus(f"made-up:{place}", partitions)


class TestMadeUpViewStore(ViewStoreConformance):
    engine = made_up.VIEW_STORE

    async def open_store(self, place: Path, clock: Callable[[], float]) -> ViewStore:
        return await made_up.open_views(f"made-up:{place}", clock)
