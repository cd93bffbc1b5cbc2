"""Messages of a queue are handled once, and acknowledged when that is committed."""

import json

import pytest
from aio_pika import Message

from headwater import Service
from headwater.bridges import AmqpQueue
from headwater.bridges.amqp.session import Session
from headwater.bridges.inbox import HandledMessage
from headwater.errors import ConfigurationError, DeclarationError, StoreUnavailable
from tests.integration.bridges.peer import CLASSIC, QUORUM, event, until
from tests.integration.bridges.warehouse import (
    GetShipment,
    Shipment,
    Shipped,
    carrier,
    shipments,
    warehouse,
)
from tests.postgres_server import POSTGRES


async def shipped(runtime, order_id):
    """Return what the view shows of an order; nothing: None."""
    found = await runtime.views.get(Shipment, order_id)
    return None if found is None else (found.parcels, found.events)


def status(runtime):
    [bridge] = runtime.processors._bridges
    return bridge


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM], ids=["classic", "quorum"])
async def test_what_comes_is_handled_once(peer, run, kind):
    """A message has its effect, is acknowledged, and has no second effect when it is sent again."""
    await peer.make(kind)
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer)
    await peer.send(event(1), event(2), event(1), event(3, subject="o1"))
    await until(lambda: shipped(runtime, "o1"))
    await peer.send(event(1), event(2), event(4))
    await until(lambda: shipped(runtime, "o4"))
    assert await shipped(runtime, "o1") == (2, 2)
    assert await shipped(runtime, "o2") == (1, 1)
    assert await runtime.queries.ask(GetShipment("o4")) == Shipment("o4", 1, 1)
    await runtime.stop()
    assert await peer.count() == 0
    assert await peer.count(f"{peer.dead}-q") == 0


async def test_the_same_id_of_another_source_is_another_event(peer, run):
    """An event is known by its source and id together."""
    await peer.make()
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer)
    await peer.send(event(1), event(1, source="other"), event(2))
    await until(lambda: shipped(runtime, "o2"))
    assert await shipped(runtime, "o1") == (2, 2)


def binary(prefix):
    headers = {
        f"{prefix}specversion": "1.0",
        f"{prefix}id": "b1",
        f"{prefix}source": "wms",
        f"{prefix}type": "Shipped",
        f"{prefix}subject": "o7",
    }
    body = json.dumps({"order_id": "o7", "parcels": 7}).encode()
    return Message(body, headers=headers, content_type="application/json")


@pytest.mark.parametrize("prefix", ["cloudEvents:", "cloudEvents_"])
async def test_binary_mode(peer, run, prefix):
    """The attributes of a CloudEvent may be in the headers."""
    await peer.make()
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer)
    await peer.send(binary(prefix), binary(prefix), event(2))
    await until(lambda: shipped(runtime, "o2"))
    assert await shipped(runtime, "o7") == (7, 1)


async def test_plain_json(peer, run):
    """A message that is no CloudEvent is the event that its type is declared to be."""
    await peer.make()
    queue = AmqpQueue(peer.queue, peer.dead, plain={"shipment.done": Shipped})
    runtime = await run(warehouse(queue), peer)
    body = json.dumps({"order_id": "o8", "parcels": 8}).encode()
    message = Message(body, type="shipment.done", message_id="m1")
    unknown = Message(body, type="shipment.begun", message_id="m2")
    await peer.send(message, unknown, message, event(2))
    await until(lambda: shipped(runtime, "o2"))
    assert await shipped(runtime, "o8") == (8, 1)
    [letter] = await peer.letters(1)
    assert "'shipment.begun' is not declared" in letter.headers["x-headwater-error"]


async def test_poison_goes_to_the_dead_letters(peer, run):
    """What cannot be read, is refused, fails again and again, or has no handler, is out of the way.

    It has its reason with it, and what was behind it goes on.
    """
    await peer.make()
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer)
    bad = Message(b"{", content_type="application/cloudevents+json", message_id="bad")
    await peer.send(
        bad,
        event(1, data={"order_id": "o1", "parcels": "many"}),
        event(2, data={"order_id": "o2", "parcels": -1}),
        event(3, data={"order_id": "o3", "parcels": 0}),
        event(4, kind="Vanished"),
        event(5),
    )
    await until(lambda: shipped(runtime, "o5"))
    letters = {letter.message_id: letter for letter in await peer.letters(5)}
    told = {
        id_: (letter.headers["x-headwater-code"], letter.headers["x-headwater-attempts"])
        for id_, letter in letters.items()
    }
    assert told == {
        "bad": ("malformed-message", 1),
        "e1": ("event-unreadable", 1),
        "e2": ("no-such-order", 1),
        "e3": ("ValueError", 3),
        "e4": ("unknown-message", 1),
    }
    assert letters["bad"].body == b"{"
    assert "nothing was shipped" in letters["e3"].headers["x-headwater-error"]
    assert letters["e3"].headers["x-headwater-queue"] == peer.queue
    assert letters["e3"].headers["x-headwater-service"] == "warehouse"
    assert letters["e3"].routing_key == peer.queue
    await runtime.stop()
    assert await peer.count() == 0


async def test_dead_letters_that_nobody_takes_stay(peer, run):
    """Without a queue for dead letters nothing is lost: the message waits, and the rest goes on."""
    await peer.make(letters=False)
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer)
    await peer.send(event(1, data={"order_id": "o1", "parcels": -1}), event(2))
    await until(lambda: shipped(runtime, "o2"))
    waiting = []

    async def told():
        waiting[:] = (await status(runtime).status()).waiting
        return waiting and "bind one" in waiting[0].error

    await until(told)
    await peer.bind(f"{peer.dead}-q", peer.dead)
    [letter] = await peer.letters(1)
    assert letter.headers["x-headwater-code"] == "no-such-order"


async def test_what_nobody_handles_can_be_skipped(peer, run):
    """A queue that has more than is wanted says so."""
    await peer.make()
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead, unhandled="skip")), peer)
    await peer.send(event(1, kind="Vanished"), event(2))
    await until(lambda: shipped(runtime, "o2"))
    await runtime.stop()
    assert await peer.count() == 0
    assert await peer.count(f"{peer.dead}-q") == 0


async def test_what_is_merely_away_is_waited_for(peer, run):
    """It is tried more often than what fails; its stream waits in order, and others go on."""
    await peer.make()
    calls: list[str] = []
    ills = {"o1": [ConnectionError("the carrier is away")] * 8}
    service = Service(
        "warehouse", handlers=[carrier(AmqpQueue(peer.queue, peer.dead), calls, ills)]
    )
    await peer.send(
        event(1),
        event(2, subject="o1", data={"order_id": "o1", "parcels": 2}),
        event(3, subject="o3"),
    )
    await run(service, peer)
    await until(lambda: len(calls) == 3)
    assert calls[0] == "wms o3 1"
    assert calls[1:] == ["wms o1 1", "wms o1 2"]
    assert await peer.count(f"{peer.dead}-q") == 0


async def test_not_acknowledged_before_it_is_committed(peer, run, monkeypatch):
    """Who is cut off between effect and acknowledgement gets the message again, with no effect."""
    await peer.make()
    cut: list[str] = []
    acknowledge = Session.acknowledge

    async def cutting(session, message):
        if len(cut) < 3:
            cut.append(message.message_id)
            await session._connection.close()
        await acknowledge(session, message)

    monkeypatch.setattr(Session, "acknowledge", cutting)
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer)
    await peer.send(*(event(n, subject="o1") for n in range(5)))
    await until(lambda: len(cut) == 3)
    await peer.send(event(5))
    await until(lambda: shipped(runtime, "o5"))
    assert await shipped(runtime, "o1") == (5, 5)
    await runtime.stop()
    assert await peer.count() == 0


async def test_not_acknowledged_without_its_effect(peer, run, monkeypatch):
    """While the view store is away nothing is acknowledged, nor given back to be counted."""
    await peer.make(QUORUM | {"x-delivery-limit": 2})
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer)
    transaction, failures = runtime.views.transaction, []

    def away(**options):
        if len(failures) < 6:
            failures.append(1)
            raise StoreUnavailable(store="views", reason="test", outcome="not stored")
        return transaction(**options)

    monkeypatch.setattr(runtime.views, "transaction", away)
    await peer.send(event(1), event(2))
    await until(lambda: shipped(runtime, "o2"))
    assert len(failures) == 6
    assert await shipped(runtime, "o1") == (1, 1)
    await runtime.stop()
    assert await peer.count(f"{peer.dead}-q") == 0


@pytest.mark.parametrize("engine", ["sqlite", POSTGRES])
async def test_two_instances_share_a_queue(peer, run, engine, request):
    """Whichever instance gets a message, also twice, its effect is there once."""
    await peer.make()
    queue = AmqpQueue(peer.queue, peer.dead, prefetch=7)
    views = {"views": request.getfixturevalue("postgres_url")} if engine == "postgres" else {}
    first = await run(warehouse(queue), peer, **views)
    second = await run(warehouse(queue), peer, **views)
    sent = [event(n, subject=f"o{n % 5}") for n in range(100)]
    await peer.send(*sent, *sent)

    async def all_there():
        found = [await shipped(first, f"o{n}") for n in range(5)]
        return found == [(20, 20)] * 5

    await until(all_there)
    await until(lambda: _empty(peer))
    await first.stop()
    await second.stop()
    assert await peer.count() == 0
    assert await peer.count(f"{peer.dead}-q") == 0


async def test_messages_are_known_for_a_while(peer, run):
    """What was handled is forgotten after ``known_s``; until then the inbox has it."""
    await peer.make()
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead, known_s=0.001)), peer)
    await peer.send(event(1))
    await until(lambda: shipped(runtime, "o1"))
    assert await runtime.views.count(HandledMessage) == 1
    status(runtime)._forget_at = 0.0
    status(runtime)._wake.set()
    await until(lambda: _none(runtime))
    await peer.send(event(1))
    await until(lambda: _is(runtime, "o1", (2, 2)))


async def _empty(peer):
    return await peer.count() == 0


async def _none(runtime):
    return await runtime.views.count(HandledMessage) == 0


async def _is(runtime, order_id, expected):
    return await shipped(runtime, order_id) == expected


async def test_prefetch_bounds_what_is_here(peer, run):
    """No more messages than ``prefetch`` are taken from the queue before they are acknowledged."""
    await peer.make()
    calls: list[str] = []
    ills = {f"o{n}": [ConnectionError("away")] * 1000 for n in range(10)}
    queue = AmqpQueue(peer.queue, peer.dead, prefetch=4)
    service = Service("warehouse", handlers=[carrier(queue, calls, ills)])
    await peer.send(*(event(n) for n in range(10)))
    runtime = await run(service, peer)

    async def held():
        return len((await status(runtime).status()).waiting) == 4

    await until(held)
    assert await peer.count() == 6
    ills.clear()
    await until(lambda: len(calls) == 10)


async def test_no_queue_is_told(peer, run):
    """A queue that is not there yet is named, with what to do, and followed when it is made."""
    runtime = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer)
    await until(lambda: "make it" in status(runtime).failure)
    concerns = await runtime.processors.concerns()
    assert "guest" not in str(concerns)
    assert peer.dead in concerns["shipments"]
    assert await runtime.processors.problems() == {}
    await peer.make()
    await peer.send(event(1))
    await until(lambda: shipped(runtime, "o1"))
    assert status(runtime).failure == ""
    async with peer.channel() as channel:
        await channel.queue_delete(peer.queue)
    await until(lambda: peer.queue in status(runtime).failure)
    await peer.make()
    await peer.send(event(2))
    await until(lambda: shipped(runtime, "o2"))


async def test_a_broker_has_to_be_named(peer, run):
    """A service that follows a queue does not start without a broker."""
    with pytest.raises(ConfigurationError, match="set amqp") as caught:
        await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer, amqp="")
    assert "Shipments of service 'warehouse'" in str(caught.value)


async def test_two_classes_of_one_queue(peer):
    """Two classes would take each other's messages."""
    queue = AmqpQueue(peer.queue, peer.dead)
    with pytest.raises(DeclarationError, match=peer.queue):
        Service("warehouse", projections=[shipments(queue)], handlers=[carrier(queue, [], {})])
