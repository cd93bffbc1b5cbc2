"""The event bus in PostgreSQL passes the suite; whoever opens the same schema shares it."""

from pathlib import Path

import pytest

from headwater.eventbus import EventBus
from headwater.eventbus.postgres import ENGINE, PostgresEventBus
from headwater.testing.eventbus import EventBusConformance


class TestPostgresEventBus(EventBusConformance):
    engine = ENGINE

    @pytest.fixture(autouse=True)
    def place(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        return await PostgresEventBus.open(self.url, partitions=partitions)
