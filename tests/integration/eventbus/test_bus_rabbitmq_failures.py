"""An event bus on a RabbitMQ that fails: nothing is lost, and whoever waits is told."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.errors import ConfigurationError, StoreUnavailable
from headwater.eventbus.rabbitmq import RabbitMQEventBus
from headwater.eventbus.rabbitmq import link as links
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.testing.eventbus import START, bus_event, collect, subscription
from headwater.views.memory import MemoryViewStore
from tests.integration.eventbus.bus_system import WAIT_S_MAX, OpenBus, Publisher, when_there
from tests.integration.processing.conftest import until
from tests.integration.service.shop import AddItem, Item, Items
from tests.line import Line
from tests.ports import HeldPort
from tests.rabbitmq_server import RabbitServer

pytestmark = pytest.mark.timeout(900)  # a server needs ten seconds to start, and more


shop = Service("shop", aggregates=[Item], projections=[Items])


def port_of(url: str) -> int:
    return int(url.rpartition("@")[2].split("/")[0].rpartition(":")[2])


def through(url: str, line: Line) -> str:
    return url.replace(f":{port_of(url)}/", f":{line.port}/")


def at(url: str) -> OpenBus:
    return lambda: RabbitMQEventBus.open(url)


async def test_a_broker_that_is_killed_loses_nothing(own_rabbitmq: RabbitServer) -> None:
    """Killed under load and started again: the relay goes on, and all is there in order."""
    async with Publisher(at(own_rabbitmq.url(name="bank"))) as publisher:
        await (await when_there(publisher.open_bus)).close()
        await asyncio.to_thread(own_rabbitmq.stop)  # else it may not find its new streams again
        await asyncio.to_thread(own_rabbitmq.start)
        relay = await publisher.start()
        appending = asyncio.create_task(publisher.keep_appending())
        reading = await when_there(publisher.open_bus)
        async with subscription(reading) as pages:
            for _ in range(2):
                await anext(pages)
            await asyncio.to_thread(own_rabbitmq.kill)
            with pytest.raises(StoreUnavailable):  # noqa: PT012  # pages that came before may come
                while True:
                    await asyncio.wait_for(anext(pages), WAIT_S_MAX)
        with pytest.raises(StoreUnavailable) as caught:
            await reading.end()
        assert "guest" not in str(caught.value)
        await until(lambda: relay.failure, timeout_s=WAIT_S_MAX)
        await asyncio.to_thread(own_rabbitmq.start)
        await when_there(reading.end)
        await publisher.append(100)
        appending.cancel()
        await publisher.relayed()
        await publisher.check(most=await publisher.store.head())
        assert len(await collect(reading, 100)) >= 100  # it has connected again
        await reading.close()


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_the_broker_has_lost_is_published_again(
    own_rabbitmq: RabbitServer, tmp_path: Path, *, restarted: bool
) -> None:
    """Set back to an older copy of its data: the relay fills the gap, also as a new process."""
    async with Publisher(at(own_rabbitmq.url(name="bank"))) as publisher:
        await publisher.start()
        await publisher.append(200)
        await publisher.relayed()
        await publisher.stop()
        await asyncio.to_thread(own_rabbitmq.stop)
        await asyncio.to_thread(own_rabbitmq.copy_data, tmp_path / "copy")
        await asyncio.to_thread(own_rabbitmq.start)
        relay = await publisher.start()
        await publisher.append(300)
        await publisher.relayed()
        if restarted:
            await publisher.stop()
        await asyncio.to_thread(own_rabbitmq.kill)
        await asyncio.to_thread(own_rabbitmq.put_back, tmp_path / "copy")
        if not restarted:
            await publisher.append(1)
            await until(lambda: relay.failure, timeout_s=WAIT_S_MAX)
        await asyncio.to_thread(own_rabbitmq.start)
        if restarted:
            await publisher.start()
        await publisher.append(50)
        await publisher.relayed()
        await publisher.check(most=551)


async def test_a_bus_that_has_lost_something_takes_nothing_more_until_it_was_asked(
    own_rabbitmq: RabbitServer, tmp_path: Path
) -> None:
    """What comes after a gap would be dropped for good below it; the error says where to go on."""
    bus = await when_there(lambda: RabbitMQEventBus.open(own_rabbitmq.url(name="bank")))
    await bus.publish([bus_event(n, stream="s") for n in range(1, 11)])
    await asyncio.to_thread(own_rabbitmq.stop)
    await asyncio.to_thread(own_rabbitmq.copy_data, tmp_path / "copy")
    await asyncio.to_thread(own_rabbitmq.start)
    found = await when_there(lambda: collect(bus, 10))
    [partition] = {one.partition for one in found}
    await bus.publish([bus_event(n, stream="s") for n in range(11, 21)])
    await asyncio.to_thread(own_rabbitmq.kill)
    await asyncio.to_thread(own_rabbitmq.put_back, tmp_path / "copy")
    await asyncio.to_thread(own_rabbitmq.start)
    await when_there(bus.end)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="up to position 20, and to 10 now") as caught:
            await bus.publish([bus_event(21, stream="s")])
        assert caught.value.outcome == "not stored"
    with pytest.raises(StoreUnavailable, match="the broker has lost what it had stored"):
        await collect(bus, 1, after={partition: 19})
    assert (await bus.stored("accounts", "e1"))[partition] == 10
    await bus.publish([bus_event(11, stream="s")])
    await bus.publish([bus_event(12, stream="s")])
    assert [d.event.position for d in await collect(bus, 12)] == list(range(1, 13))
    await bus.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_connections_that_are_cut_lose_nothing(rabbitmq_url: str, seed: int) -> None:
    """Cut at many moments, while much is published: all is there, in order, and not much twice."""
    async with Line(port_of(rabbitmq_url)) as line, Publisher(at(rabbitmq_url)) as publisher:
        await publisher.start(open_bus=at(through(rabbitmq_url, line)))
        for number in range(12):
            goal = line.passed + 2000 + 3700 * ((number * 7 + seed) % 5)
            await publisher.append(60)
            await until(lambda: line.passed > goal or _done(publisher), timeout_s=WAIT_S_MAX)  # noqa: B023  # at once
            line.cut()
        await publisher.relayed()
        await publisher.check(most=12 * 60)


async def _done(publisher: Publisher) -> bool:
    [(relay, _)] = publisher._running
    return (await relay.status()).position == await publisher.store.head()


async def test_two_relays_at_once_lose_nothing(rabbitmq_url: str) -> None:
    """Two that both believe to be the one publish the same: each event is there once, in order."""
    async with Publisher(at(rabbitmq_url)) as publisher:
        await publisher.append(100)
        await publisher.start()
        await publisher.start(views=MemoryViewStore())
        for _ in range(10):
            await publisher.append(50)
            await asyncio.sleep(0)
        await publisher.relayed()
        await publisher.check(most=600)


async def test_a_relay_that_dies_before_its_checkpoint_publishes_nothing_twice(
    rabbitmq_url: str,
) -> None:
    """Begun again from the first event, it publishes all of them; the broker drops what it has."""
    async with Publisher(at(rabbitmq_url)) as publisher:
        await publisher.append(500)
        await publisher.start()
        await publisher.relayed()
        await publisher.stop()
        await publisher.append(10)
        await publisher.start(views=MemoryViewStore())
        await publisher.relayed()
        await publisher.check(most=510)


async def test_a_broker_that_is_not_there_yet_is_waited_for() -> None:
    """Nobody listens: it is unavailable, in a bounded time, and the message has no password."""
    with HeldPort() as port:
        url = f"rabbitmq-stream://ledger:s3cret@127.0.0.1:{port}/?name=bank"
        with pytest.raises(StoreUnavailable, match=r"rabbitmq-stream://127.0.0.1:\d+") as caught:
            await RabbitMQEventBus.open(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.outcome == "not stored"


async def test_a_service_publishes_there(rabbitmq_url: str, tmp_path: Path) -> None:
    """Its settings name the bus by nothing but the URL."""
    given = {"data": str(tmp_path), "bus": rabbitmq_url}
    async with Runtime(shop, given) as running:
        await running.commands.send(AddItem("i1", "Bach", 3))
        assert running.bus is not None
        found = await collect(running.bus, 1)
    assert (found[0].event.source, found[0].event.type) == ("shop", "ItemAdded")


async def test_who_is_not_let_in_is_told(rabbitmq_url: str) -> None:
    """A wrong password, or an unknown virtual host, is a fault of the configuration."""
    for wrong in (
        rabbitmq_url.replace("guest:guest@", "guest:s3cret@"),
        rabbitmq_url.replace("/?", "/nowhere?"),
    ):
        with pytest.raises(ConfigurationError, match="does not let user 'guest' in") as caught:
            await RabbitMQEventBus.open(wrong)
        assert "s3cret" not in str(caught.value)


async def test_a_silent_line_is_told(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch, eventually: Callable[[], float]
) -> None:
    """A broker that does not answer any more is given up, whoever waits for it."""
    async with Line(port_of(rabbitmq_url)) as line:
        bus = await RabbitMQEventBus.open(through(rabbitmq_url, line))
        await bus.publish([bus_event(1)])
        async with subscription(bus, START) as pages:
            await anext(pages)
            monkeypatch.setattr(links, "ANSWER_S_MAX", 0.5)
            line.hold()
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable, match="does not answer") as caught:
                await bus.publish([bus_event(2)])
            assert time.monotonic() - begun < eventually()
            assert caught.value.outcome == "unknown"
            with pytest.raises(StoreUnavailable):
                await bus.end()
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(anext(pages), WAIT_S_MAX)
        monkeypatch.undo()
        line.let_go()
        line.cut()
        await bus.publish([bus_event(2), bus_event(3)])
        assert {d.event.position for d in await collect(bus, 3)} == {1, 2, 3}
        await bus.close()


async def test_whoever_only_waits_is_told_of_a_silent_line(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader has nothing to ask, and notices that not even a sign of life comes any more."""
    monkeypatch.setattr(links, "_HEARTBEAT_S", 1)
    monkeypatch.setattr(links, "_SILENT_S_MAX", 5)
    async with Line(port_of(rabbitmq_url)) as line:
        bus = await RabbitMQEventBus.open(through(rabbitmq_url, line))
        async with subscription(bus, START) as pages:
            waiting = asyncio.ensure_future(anext(pages))
            assert not (await asyncio.wait([waiting], timeout=8.0))[0]  # signs of life are enough
            line.hold()
            with pytest.raises(StoreUnavailable, match="the broker was silent for 5 s"):
                await asyncio.wait_for(waiting, 30.0)
        line.let_go()
        await bus.close()


@pytest.fixture
def eventually() -> Callable[[], float]:
    """Return how long something bounded may take on a slow machine."""
    return lambda: 60.0
