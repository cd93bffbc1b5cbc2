"""Looking at the event bus, whatever it is on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.errors import EventsForgotten, InvalidInput
from headwater.eventbus import EventBus, watermark
from headwater.eventbus.kafka import KafkaEventBus
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventbus.postgres import PostgresEventBus
from headwater.eventbus.rabbitmq import RabbitMQEventBus
from headwater.eventbus.retention import Retention
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.operations import bus as operations
from headwater.operations.processors import Found, Opened
from headwater.processing import BusSource, Processor, ProcessorAdmin
from headwater.service.upkeep import not_forgetting
from headwater.testing.eventbus_base import bus_event
from headwater.views.memory import MemoryViewStore
from tests.integration.processing.conftest import QUICK, until
from tests.integration.processing.test_waiting import Inside
from tests.postgres_server import POSTGRES

PARTITIONS = 2


async def opened_bus(request: pytest.FixtureRequest, place: Path) -> EventBus:
    if request.param == "memory":
        return MemoryEventBus(partitions=PARTITIONS)
    if request.param == "sqlite":
        return await SQLiteEventBus.open(place / "bus.db", partitions=PARTITIONS)
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        return await PostgresEventBus.open(url, partitions=PARTITIONS)
    if request.param == "kafka":
        url = request.getfixturevalue("kafka_url")
        return await KafkaEventBus.open(url, partitions=PARTITIONS)
    url = request.getfixturevalue("rabbitmq_url")
    return await RabbitMQEventBus.open(url, partitions=PARTITIONS)


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        POSTGRES,
        pytest.param("kafka", marks=pytest.mark.kafka),
        pytest.param("rabbitmq", marks=pytest.mark.rabbitmq),
    ]
)
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventBus]:
    """All buses."""
    found = await opened_bus(request, tmp_path)
    yield found
    await found.close()


async def read(bus: EventBus, partition: int, first: int | None, limit: int) -> list[int]:
    found = operations.read(bus, partition=partition, first=first, limit=limit)
    return [delivery.event.position async for delivery in found]


async def test_events_are_read_from_an_offset_or_the_last_ones(bus: EventBus) -> None:
    """So many as asked for, in order, and no further than what is there: reading ends."""
    assert await read(bus, 0, None, 5) == []
    await bus.publish([bus_event(n, stream="Account/1") for n in range(1, 31)])
    [partition] = [p for p, end in (await bus.end()).items() if end >= 0]
    assert await read(bus, partition, 0, 3) == [1, 2, 3]
    assert await read(bus, partition, 0, 100) == list(range(1, 31))
    assert await read(bus, partition, 0, 0) == []
    assert (await read(bus, partition, None, 5))[-1] == 30
    assert await read(bus, partition, 10_000, 5) == []
    assert await read(bus, 1 - partition, 0, 5) == []


async def test_what_cannot_be_read_is_told(bus: EventBus) -> None:
    """A partition that there is not, and negative numbers, are refused with what there is."""
    with pytest.raises(InvalidInput, match="partition 2 does not exist: the bus has 0 to 1"):
        await read(bus, 2, 0, 1)
    with pytest.raises(InvalidInput, match="0 or more, got -1 and 1"):
        await read(bus, 0, -1, 1)


async def test_partitions_tell_their_ends_and_the_time_of_the_last(bus: EventBus) -> None:
    """The time is that of the last event that has one; a watermark has none."""
    last = bus_event(3, stream="accounts")
    await bus.publish([bus_event(2, stream="accounts"), last])
    if not bus.ordered:
        await bus.publish([watermark("accounts", "e1", 3)])
    told = {one.partition: one for one in await operations.partitions(bus)}
    ends = await bus.end()
    assert {p: one.end for p, one in told.items()} == ends
    assert {one.begin for one in told.values()} == {0}
    assert sorted(one.last_us for one in told.values()) == [0, last.time]


async def test_consumers_tell_their_lag_and_what_was_forgotten(tmp_path: Path) -> None:
    """A reader that is behind what is kept is told so; what it has read before is no matter."""
    bus = await SQLiteEventBus.open(tmp_path / "bus.db", partitions=PARTITIONS)
    views = MemoryViewStore()
    processor = Processor(Inside(), source=BusSource(bus), views=views, owner="one", settings=QUICK)
    admin = ProcessorAdmin(Inside(), source=BusSource(bus), views=views, settings=QUICK)
    opened = Opened([Found("billing", admin.name, admin, views)], [], [])
    await bus.publish([bus_event(n, stream="Account/1") for n in range(1, 11)])
    await processor.start()

    async def lags() -> int:
        return sum(one.lag for one in await operations.consumers(opened, bus))

    async def caught_up() -> bool:
        return await lags() == 0

    await until(caught_up)
    await processor.stop()
    await bus.publish([bus_event(n, stream="Account/1") for n in range(11, 21)])
    assert await lags() == 10
    assert not any(one.forgotten for one in await operations.consumers(opened, bus))
    assert await bus.forget(Retention(age_s=0.0)) > 10
    [behind] = [one for one in await operations.consumers(opened, bus) if one.forgotten]
    assert (behind.service, behind.processor, behind.lag) == ("billing", "inside", 10)
    with pytest.raises(EventsForgotten):
        await read(bus, behind.partition, 0, 1)
    await bus.close()


def test_a_bus_that_does_not_forget_is_told() -> None:
    """Who sets how long it keeps events is told that it has no effect; who sets nothing is not."""
    assert "bus_kept_s = 3600 has no effect" in not_forgetting(3600.0)
    assert not_forgetting(0.0) == ""
