"""The event bus on RabbitMQ: from the store to confirmed, and from the broker to a subscriber.

A server of its own runs for as long as the benchmarks do, or the one that
``HEADWATER_RABBITMQ_URL`` names is used, in streams of their own.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from rstream import (
    AMQPMessage,
    ConfirmationStatus,
    Consumer,
    ConsumerOffsetSpecification,
    MessageContext,
    OffsetType,
    Producer,
)

from benchmarks.bench_eventbus import EVENTS_PER_CALL, START
from benchmarks.brokers import bus_url
from benchmarks.harness import Measured, benchmark
from headwater.eventbus import BusEvent, cloudevents
from headwater.eventbus.rabbitmq import RabbitMQEventBus, framing
from headwater.eventbus.rabbitmq.settings import Place
from headwater.eventstore import NewEvent, StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.processing import Relay
from headwater.views.memory import MemoryViewStore

_EVENTS = 100_000
_DATA = b'{"account_id":"0190c2f1-7c1e-7d3a","amount":1250,"reference":"purchase"}'
_METADATA = b'{"id":"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","time":1700000000000000}'


def _event(position: int) -> BusEvent:
    return BusEvent(
        source="bench",
        epoch="0190c2f1-7c1e-7d3a",
        position=position,
        stream=f"Account/{position % 1000}",
        version=position // 1000 + 1,
        type="MoneyWithdrawn",
        type_version=1,
        time=1_700_000_000_000_000 + position,
        tags=(),
        data=_DATA,
        metadata=_METADATA,
    )


async def _fill(store: SQLiteEventStore) -> None:
    for first in range(1, _EVENTS + 1, EVENTS_PER_CALL):
        await asyncio.gather(
            *(
                store.append([StreamWrite(f"Account/{n % 1000}", [_new()])])
                for n in range(first, first + EVENTS_PER_CALL)
            )
        )


def _new() -> NewEvent:
    return NewEvent("MoneyWithdrawn", 1, _DATA, _METADATA)


async def _bare_publish(url: str) -> float:
    """Publish the same messages with the client alone, and wait for the same confirms."""
    place = Place.parse(url)
    messages = [framing.encode(cloudevents.encode(_event(n))) for n in range(1, _EVENTS + 1)]
    left, done = _EVENTS, asyncio.Event()

    def confirmed(_: ConfirmationStatus) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    producer = Producer(place.host, place.port, username=place.user, password=place.password)
    await producer.start()
    for partition in START:
        await producer.create_stream(f"{place.bus}-bare-{partition}")
    began = time.perf_counter()
    for first in range(0, _EVENTS, EVENTS_PER_CALL):
        batch = messages[first : first + EVENTS_PER_CALL]
        stream = f"{place.bus}-bare-{first // EVENTS_PER_CALL % len(START)}"
        await producer.send_batch(stream, batch, on_publish_confirm=confirmed)
    await done.wait()
    elapsed = time.perf_counter() - began
    await producer.close()
    return _EVENTS / elapsed


@benchmark("relay.rabbitmq", unit="events/s", peer="bare rstream, the same bytes", runs=3)
async def relay_rabbitmq() -> Measured:
    """A relay that begins with a full store in SQLite, until all is confirmed."""
    url = bus_url("rabbitmq")
    with tempfile.TemporaryDirectory() as directory:
        store = await SQLiteEventStore.open(Path(directory) / "events.db")
        await _fill(store)
        bus = await RabbitMQEventBus.open(url)
        relay = Relay(
            store, bus, name="bench", epoch=store.epoch, views=MemoryViewStore(), owner="bench"
        )
        began = time.perf_counter()
        await relay.start()
        while (await relay.status()).position < _EVENTS:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.002)
        elapsed = time.perf_counter() - began
        await relay.stop()
        await bus.close()
        await store.close()
    return Measured(_EVENTS / elapsed, await _bare_publish(url))


async def _bare_consume(url: str) -> float:
    """Read the same messages with the client alone, and leave them as they are."""
    place = Place.parse(url)
    left, done = _EVENTS + len(START), asyncio.Event()

    def seen(_message: AMQPMessage, _context: MessageContext) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    consumer = Consumer(place.host, place.port, username=place.user, password=place.password)
    await consumer.start()
    began = time.perf_counter()
    for partition in START:
        await consumer.subscribe(
            place.stream(partition),
            seen,
            offset_specification=ConsumerOffsetSpecification(OffsetType.FIRST, None),
        )
    await done.wait()
    elapsed = time.perf_counter() - began
    await consumer.close()
    return _EVENTS / elapsed


@benchmark("subscribe.rabbitmq", unit="events/s", peer="bare rstream, nothing decoded", runs=3)
async def consume_rabbitmq() -> Measured:
    """A subscription from the start, in pages of 1,000."""
    url = bus_url("rabbitmq")
    bus = await RabbitMQEventBus.open(url, partitions=len(START))
    for first in range(1, _EVENTS + 1, EVENTS_PER_CALL):
        await bus.publish([_event(n) for n in range(first, first + EVENTS_PER_CALL)])
    began = time.perf_counter()
    count = 0
    async for page in bus.subscribe(after=START):
        count += len(page)
        if count == _EVENTS:
            break
    elapsed = time.perf_counter() - began
    await bus.close()
    return Measured(_EVENTS / elapsed, await _bare_consume(url))
