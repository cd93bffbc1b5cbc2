"""The event bus on Apache Kafka passes the suite; whoever opens the same prefix shares it."""

from pathlib import Path

import pytest

from headwater.eventbus import EventBus
from headwater.eventbus.kafka import ENGINE, KafkaEventBus
from headwater.testing.eventbus import EventBusConformance


class TestKafkaEventBus(EventBusConformance):
    engine = ENGINE

    @pytest.fixture(autouse=True)
    def _url(self, kafka_url: str) -> None:
        self.url = kafka_url

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        return await KafkaEventBus.open(self.url, partitions=partitions)
