"""Brokers for benchmarks: each started once, or the one that the environment names."""

import atexit
import os
import uuid
from typing import Literal

from tests.kafka_server import KafkaServer
from tests.rabbitmq_server import RabbitServer, fresh_name

Broker = Literal["rabbitmq", "kafka"]

_rabbits: list[RabbitServer] = []
_kafkas: list[KafkaServer] = []


def bus_url(broker: Broker) -> str:
    """Return the URL of a bus that there was never before."""
    return _rabbitmq_bus() if broker == "rabbitmq" else _kafka_bus()


def _rabbitmq_bus() -> str:
    given = os.environ.get("HEADWATER_RABBITMQ_URL")
    if given:
        return f"{given}{'&' if '?' in given else '?'}name={fresh_name()}"
    return rabbit().url(name=fresh_name())


def _kafka_bus() -> str:
    given = os.environ.get("HEADWATER_KAFKA_URL")
    place = given or f"kafka://127.0.0.1:{kafka().port}"
    return f"{place.rstrip('/')}/bench-{uuid.uuid4().hex}"


def rabbit() -> RabbitServer:
    """Return a RabbitMQ of our own; it runs for as long as the benchmarks do."""
    if not _rabbits:
        server = RabbitServer()
        atexit.register(server.remove)
        server.start()
        _rabbits.append(server)
    return _rabbits[0]


def kafka() -> KafkaServer:
    """Return a Kafka of our own; it runs for as long as the benchmarks do."""
    if not _kafkas:
        server = KafkaServer()
        atexit.register(server.remove)
        server.start()
        _kafkas.append(server)
    return _kafkas[0]
