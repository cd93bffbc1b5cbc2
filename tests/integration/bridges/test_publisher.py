"""Events of a service are at the queues of an exchange before its progress says so."""

import json

import pytest
from aio_pika import DeliveryMode, ExchangeType

from headwater import EventHandlers, Service, event_handler
from headwater.bridges import AmqpPublisher, AmqpQueue
from headwater.errors import ConfigurationError, DeclarationError
from headwater.eventbus.cloudevents import decode
from tests.integration.bridges.peer import CLASSIC, QUORUM, ids, until
from tests.integration.bridges.warehouse import (
    Order,
    OrderChecked,
    OrderPlaced,
    PlaceOrder,
    orders,
)


async def place(runtime, *numbers, order=""):
    for number in numbers:
        await runtime.commands.send(PlaceOrder(order or f"o{number}", number))


def publisher(runtime):
    [bridge] = runtime.processors._bridges
    return bridge


async def published(runtime):
    """Whether all that is stored is confirmed, by what is kept of it."""
    status = await publisher(runtime).status()
    return status.position == status.head and status.head > 0


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM], ids=["classic", "quorum"])
async def test_events_leave(peer, run, kind):
    """Each event is a persistent CloudEvent under ``<service>.<event>`` with its id, in order."""
    await peer.bind(peer.queue, peer.exchange, "orders.#", kind, make=True)
    runtime = await run(orders(AmqpPublisher(peer.exchange)), peer)
    await place(runtime, 1, 2, 3, order="o1")
    messages = await peer.take(peer.queue, 6)
    epoch = runtime.store.epoch
    assert ids(messages) == [f"{epoch}/{n}" for n in range(1, 7)]
    first = messages[0]
    assert first.routing_key == "orders.OrderPlaced"
    assert messages[1].routing_key == "orders.OrderChecked"
    assert first.content_type == "application/cloudevents+json"
    assert first.delivery_mode == DeliveryMode.PERSISTENT
    assert first.type == "OrderPlaced"
    assert first.app_id == "orders"
    document = json.loads(first.body)
    assert document["id"] == first.message_id
    assert document["specversion"] == "1.0"
    assert document["source"] == "orders"
    assert document["data"] == {"order_id": "o1", "cents": 1}
    assert [decode(m.body).position for m in messages] == [1, 2, 3, 4, 5, 6]
    await until(lambda: published(runtime))


async def test_chosen_events_leave(peer, run):
    """Only events of the classes that are named go; the rest is passed."""
    await peer.bind(peer.queue, peer.exchange, make=True)
    runtime = await run(orders(AmqpPublisher(peer.exchange, events=[OrderChecked])), peer)
    await place(runtime, 1, 2)
    messages = await peer.take(peer.queue, 2)
    assert {m.routing_key for m in messages} == {"orders.OrderChecked"}
    await until(lambda: published(runtime))
    assert await peer.count(peer.queue) == 0


async def test_the_exchange_is_made(peer, run):
    """An exchange that is not there is made: a durable topic exchange."""
    runtime = await run(orders(AmqpPublisher(peer.exchange)), peer)
    await place(runtime, 1)
    await until(lambda: published(runtime))
    async with peer.channel() as channel:
        await channel.declare_exchange(peer.exchange, ExchangeType.TOPIC, durable=True)


async def test_an_exchange_of_another_type(peer, run):
    """An exchange that is there is used as it is."""
    await peer.bind(peer.queue, peer.exchange, kind=ExchangeType.FANOUT, make=True)
    runtime = await run(orders(AmqpPublisher(peer.exchange)), peer)
    await place(runtime, 1)
    assert len(await peer.take(peer.queue, 2)) == 2


async def test_from_now_on(peer, run):
    """A new publisher of a service with a history may leave that out; later it goes on."""
    await peer.bind(peer.queue, peer.exchange, make=True)
    before = await run(orders(), peer)
    await place(before, 1)
    await before.stop()
    service = orders(AmqpPublisher(peer.exchange, start="now"))
    first = await run(service, peer)
    await place(first, 2)
    assert [decode(m.body).stream for m in await peer.take(peer.queue, 2)] == ["Order/o2"] * 2
    await until(lambda: published(first))
    await first.stop()
    bare = await run(orders(), peer)
    await place(bare, 3)
    await bare.stop()
    await run(service, peer)
    assert [decode(m.body).stream for m in await peer.take(peer.queue, 2)] == ["Order/o3"] * 2


async def test_what_no_queue_wants_is_held(peer, run):
    """With ``mandatory`` an event waits until a queue is bound for it, and what helps is told.

    Nothing of its stream goes before it.
    """
    await peer.bind(peer.queue, peer.exchange, "orders.OrderChecked", make=True)
    runtime = await run(orders(AmqpPublisher(peer.exchange, mandatory=True)), peer)
    await place(runtime, 1)
    await until(lambda: "bind one" in publisher(runtime).failure)
    assert (await publisher(runtime).status()).position == 0
    await peer.bind(peer.queue, peer.exchange, "orders.OrderPlaced")
    taken = await peer.take(peer.queue, 2)
    assert [decode(message.body).position for message in taken] == [1, 2]
    await until(lambda: published(runtime))


async def test_a_full_queue_keeps_the_order(peer, run):
    """What the broker does not take is sent again, before any later event of its stream."""
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await peer.bind(peer.queue, peer.exchange, arguments=full, make=True)
    runtime = await run(orders(AmqpPublisher(peer.exchange)), peer)
    await place(runtime, *range(1, 6), order="o1")
    await until(lambda: "does not take" in publisher(runtime).failure)
    seen: list[int] = []
    while len(set(seen)) < 10:
        seen += [decode(m.body).position for m in await peer.take(peer.queue, 1)]
    assert list(dict.fromkeys(seen)) == list(range(1, 11))


async def test_there_and_back(peer, run):
    """An event that leaves one service comes to another one over a queue, with its codec."""

    class Rot:
        def encode(self, content, *, stream):
            return bytes(255 - byte for byte in content)

        def decode(self, content, *, stream):
            return bytes(255 - byte for byte in content)

    calls: list[str] = []
    queue = AmqpQueue(peer.queue, peer.dead, unhandled="skip")

    class Billing(EventHandlers):
        source = queue

        @event_handler
        async def placed(self, event: OrderPlaced) -> None:
            calls.append(f"{event.order_id} {event.cents}")

    await peer.make()
    await peer.bind(peer.queue, peer.exchange, make=True)
    sender = Service(
        "orders", aggregates=[Order], publishers=[AmqpPublisher(peer.exchange)], codec=Rot()
    )
    first = await run(sender, peer)
    await run(Service("billing", handlers=[Billing], codec=Rot()), peer)
    await place(first, 1, 2)
    await until(lambda: sorted(calls) == ["o1 1", "o2 2"])


async def test_wrong_declarations(peer, run):
    """What cannot be published, or where, is said when it is declared or started."""
    with pytest.raises(DeclarationError, match="exchange must be a name"):
        AmqpPublisher("")
    with pytest.raises(DeclarationError, match="names none"):
        AmqpPublisher("x", events=[])
    with pytest.raises(DeclarationError, match="\"now\", got 'later'"):
        AmqpPublisher("x", start="later")
    with pytest.raises(DeclarationError, match="amqp-x"):
        orders(AmqpPublisher("x"), AmqpPublisher("x"))
    with pytest.raises(ConfigurationError, match="has no aggregates"):
        await run(Service("bare", publishers=[AmqpPublisher("x")]), peer)
