"""An event bus on RabbitMQ: the suite, and other programs on its streams."""

from pathlib import Path

import pytest

from headwater.eventbus import EventBus
from headwater.eventbus.rabbitmq import ENGINE, RabbitMQEventBus
from headwater.testing.eventbus import EventBusConformance


class TestRabbitMQEventBus(EventBusConformance):
    engine = ENGINE

    @pytest.fixture(autouse=True)
    def _url(self, rabbitmq_url: str) -> None:
        self.url = rabbitmq_url

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        return await RabbitMQEventBus.open(self.url, partitions=partitions)
