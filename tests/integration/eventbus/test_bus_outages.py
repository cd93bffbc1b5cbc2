"""Services over brokers that are away, or take nothing: what they store waits, and is told."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from headwater.errors import ConfigurationError
from headwater.eventbus import WATERMARK
from headwater.eventbus.rabbitmq import link as links
from headwater.service import Service
from headwater.service.runtime import Runtime
from tests.integration.eventbus.bus_system import WAIT_S_MAX, everything, first_seen
from tests.integration.processing.conftest import until
from tests.integration.service.shop import AddItem, Item, Items
from tests.kafka_server import KafkaServer
from tests.rabbitmq_server import RabbitServer

pytestmark = pytest.mark.timeout(900)  # a server needs ten seconds to start, and more


def shop() -> Service:
    return Service("shop", aggregates=[Item], projections=[Items])


async def problems(running: Runtime) -> dict[str, str]:
    """Return what ``/health/ready`` says."""
    async with (
        aiohttp.ClientSession(running.url) as http,
        http.get("/health/ready") as answer,
    ):
        found: dict[str, str] = (await answer.json())["problems"]
        return found


async def is_well(running: Runtime) -> bool:
    return not await problems(running)


async def add(running: Runtime, numbers: range) -> None:
    for number in numbers:
        await running.commands.send(AddItem(f"i{number}", "Bach", 3))


async def check_published(running: Runtime, count: int) -> None:
    """Wait until a reader of the bus finds so many events, each once, and no others."""
    bus = running.bus
    assert bus is not None

    async def positions() -> list[int]:
        found = [one for one in await everything(bus) if one.event.type != WATERMARK]
        return sorted(event.position for event in first_seen(found))

    async def all_there() -> bool:
        return len(await positions()) >= count

    await until(all_there, timeout_s=WAIT_S_MAX)
    assert await positions() == list(range(1, count + 1))


async def check_late_start(url: str, data: Path, start: Callable[[], None]) -> None:
    """Start a service without its broker, then the broker: nothing stored meanwhile is missing."""
    async with Runtime(shop(), {"data": str(data), "bus": url}) as running:
        await add(running, range(20))

        async def told() -> bool:
            found = await problems(running)
            assert "guest" not in str(found)
            return "event bus" in found

        await until(told, timeout_s=WAIT_S_MAX)
        await asyncio.to_thread(start)
        await until(lambda: is_well(running), timeout_s=WAIT_S_MAX)
        await add(running, range(20, 30))
        await check_published(running, 30)
    async with Runtime(shop(), {"data": str(data), "bus": url, "partitions": 4}):
        pass
    with pytest.raises(ConfigurationError, match="4 partitions, 5 were asked for"):
        async with Runtime(shop(), {"data": str(data), "bus": url, "partitions": 5}):
            pass


async def test_a_service_starts_without_rabbitmq(
    own_rabbitmq: RabbitServer, tmp_path: Path
) -> None:
    """It takes commands, says what is away, and publishes all of it when the broker is there."""
    await asyncio.to_thread(own_rabbitmq.stop)
    await check_late_start(own_rabbitmq.url(name="bank"), tmp_path, own_rabbitmq.start)


async def test_a_service_starts_without_kafka(own_kafka: KafkaServer, tmp_path: Path) -> None:
    """It takes commands, says what is away, and publishes all of it when the broker is there."""
    await asyncio.to_thread(own_kafka.stop)
    await check_late_start(own_kafka.url(), tmp_path, own_kafka.start)


async def alarm(server: RabbitServer, *command: str, of: str) -> None:
    """Set a limit, and wait until the broker says that it is short of something."""
    await asyncio.to_thread(server.control, *command)

    async def raised() -> bool:
        return of in await asyncio.to_thread(server.control, "eval", "rabbit_alarm:get_alarms().")

    await until(raised, timeout_s=WAIT_S_MAX)


async def test_a_broker_that_takes_nothing_is_waited_for(
    own_rabbitmq: RabbitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short of disk it lets publishers wait: that is told, and then all goes on."""
    given = {"data": str(tmp_path), "bus": own_rabbitmq.url(name="bank")}
    async with Runtime(shop(), given) as running:
        await add(running, range(5))
        await check_published(running, 5)
        await alarm(own_rabbitmq, "set_disk_free_limit", "100000GB", of="disk")
        monkeypatch.setattr(links, "ANSWER_S_MAX", 1.0)
        await add(running, range(5, 15))

        async def told() -> bool:
            return "does not answer" in (await problems(running)).get("relay-shop", "")

        await until(told, timeout_s=WAIT_S_MAX)
        await add(running, range(15, 20))
        monkeypatch.undo()
        await asyncio.to_thread(own_rabbitmq.control, "set_disk_free_limit", "50MB")
        await until(lambda: is_well(running), timeout_s=WAIT_S_MAX)
        await check_published(running, 20)


async def test_a_broker_short_of_memory_takes_events(
    own_rabbitmq: RabbitServer, tmp_path: Path
) -> None:
    """Streams are on disk alone: what makes publishers of queues wait holds up no events."""
    given = {"data": str(tmp_path), "bus": own_rabbitmq.url(name="bank")}
    async with Runtime(shop(), given) as running:
        await alarm(own_rabbitmq, "set_vm_memory_high_watermark", "0.00001", of="memory")
        await add(running, range(20))
        await check_published(running, 20)
        await until(lambda: is_well(running), timeout_s=WAIT_S_MAX)
