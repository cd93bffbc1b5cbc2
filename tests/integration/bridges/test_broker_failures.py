"""Brokers that are away, killed and restarted: nothing is lost, and no effect is there twice."""

import asyncio
import contextlib
from collections import defaultdict

import pytest
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from headwater.bridges import AmqpPublisher, AmqpQueue
from headwater.eventbus.cloudevents import decode
from tests.integration.bridges.peer import CLASSIC, QUORUM, Peer, event, until
from tests.integration.bridges.test_listener import shipped
from tests.integration.bridges.test_publisher import place, published, publisher
from tests.integration.bridges.warehouse import orders, warehouse

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def peer(own_rabbitmq) -> Peer:
    """Another program on a broker that is this test's own."""
    return Peer(own_rabbitmq)


async def test_a_broker_that_comes_later(peer, run):
    """Services start without their broker, take commands, and catch up when it is there."""
    await peer.make()
    await peer.bind(peer.queue, peer.exchange, make=True)
    await asyncio.to_thread(peer.broker.stop)
    sender = await run(orders(AmqpPublisher(peer.exchange)), peer)
    receiver = await run(warehouse(AmqpQueue(peer.queue, peer.dead, unhandled="skip")), peer)
    await place(sender, 1)
    for runtime in (sender, receiver):
        await until(lambda runtime=runtime: publisher(runtime).failure)
        told = publisher(runtime).failure
        assert "127.0.0.1" in told
        assert "guest" not in told
        assert await runtime.processors.problems() == {}
        assert await runtime.processors.concerns()
    await asyncio.to_thread(peer.broker.start)
    await until(lambda: published(sender))
    await peer.send(event(1))
    await until(lambda: shipped(receiver, "o1"))
    assert publisher(receiver).failure == ""


async def made(peer):
    """Let the broker write down the queues that were just made.

    A quorum queue of a single RabbitMQ 3.10 that is killed within minutes after it was made has no
    leader any more, as its name is lost; so it is without Headwater.
    """
    await asyncio.to_thread(peer.broker.stop)
    await asyncio.to_thread(peer.broker.start)


async def killed(peer, done):
    """Kill the broker and start it again, twice, a little after things have begun to happen."""
    for number in (20, 60):
        await until(lambda number=number: done() > number)
        await asyncio.to_thread(peer.broker.kill)
        await asyncio.to_thread(peer.broker.start)


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM], ids=["classic", "quorum"])
async def test_killed_while_it_publishes(peer, run, kind):
    """Each event is at the queue at last, those of a stream in order but for repetitions."""
    await peer.bind(peer.queue, peer.exchange, arguments=kind, make=True)
    await made(peer)
    sender = await run(orders(AmqpPublisher(peer.exchange)), peer)
    placed = 0

    async def load():
        nonlocal placed
        for number in range(150):
            await place(sender, number, order=f"o{number % 3}")
            placed += 1
            await asyncio.sleep(0.01)

    await asyncio.gather(load(), killed(peer, lambda: placed))
    await until(lambda: published(sender))
    waiting = 0

    async def still():
        nonlocal waiting
        waiting = await peer.count(peer.queue)
        return waiting >= 300

    await until(still)
    streams = defaultdict(list)
    for message in await peer.take(peer.queue, waiting):
        found = decode(message.body)
        streams[found.stream].append(found.version)
    assert {s: list(dict.fromkeys(v)) for s, v in streams.items()} == {
        f"Order/o{n}": list(range(1, 101)) for n in range(3)
    }


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM], ids=["classic", "quorum"])
async def test_killed_while_it_listens(peer, run, kind):
    """Each message that the broker has confirmed has its effect once."""
    await peer.make(kind)
    await made(peer)
    receiver = await run(warehouse(AmqpQueue(peer.queue, peer.dead, prefetch=20)), peer)
    sent = 0

    async def load():
        nonlocal sent
        while sent < 200:
            with contextlib.suppress(*CONNECTION_EXCEPTIONS):  # then once more
                await peer.send(event(sent, subject=f"o{sent % 4}"))
                sent += 1

    await asyncio.gather(load(), killed(peer, lambda: sent))

    async def all_there():
        return [await shipped(receiver, f"o{n}") for n in range(4)] == [(50, 50)] * 4

    await until(all_there)

    async def empty():
        return await peer.count() == 0

    await until(empty)
    await receiver.stop()
    assert await peer.count() == 0
    assert await peer.count(f"{peer.dead}-q") == 0
