"""Events over a broker into views: ours, exactly once, and a row per message with FastStream.

``consume.*``: what is on the bus into keyed views, against the same from the local store.
``hop.*``: from the event store over the bus into the views, against messages that are published
one after the other with a confirm, each of which a subscriber writes as a row.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.bank import AccountOpened, MoneyWithdrawn
from benchmarks.bench_processing import Balance, Balances, event_of
from benchmarks.brokers import Broker, bus_url, kafka, rabbit
from benchmarks.harness import Measured, benchmark
from headwater._sql.sqlite.database import connect
from headwater.eventbus import EventBus
from headwater.eventstore import StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import ConsistencyToken
from headwater.processing import BusSource, Processor, Relay, StoreSource
from headwater.processing.sources.source import Source
from headwater.service.engines import open_event_bus
from headwater.views import ViewStore
from headwater.views.memory import MemoryViewStore
from headwater.views.sqlite import SQLiteViewStore

ACCOUNTS = 1000
EVENTS = 100_000
MESSAGES = 2000
_PARTITIONS = 4
_PATIENCE_S = 300.0


@asynccontextmanager
async def _system(broker: Broker) -> AsyncIterator[tuple[SQLiteEventStore, EventBus, Path]]:
    """Give a store with all events, a bus, and a directory."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        store = await SQLiteEventStore.open(directory / "events.db")
        numbers = [f"{n}" for n in range(ACCOUNTS)]
        await store.append(
            [StreamWrite(f"Account/{n}", [event_of(AccountOpened(n, "x"))]) for n in numbers]
        )
        for _ in range(EVENTS // ACCOUNTS - 1):
            await store.append(
                [StreamWrite(f"Account/{n}", [event_of(MoneyWithdrawn(n, 1))]) for n in numbers]
            )
        bus = await open_event_bus(bus_url(broker), partitions=_PARTITIONS)
        yield store, bus, directory
        await bus.close()
        await store.close()


def _relay(store: SQLiteEventStore, bus: EventBus, views: ViewStore) -> Relay:
    return Relay(store, bus, name="bench", epoch=store.epoch, views=views, owner="bench")


async def _rate(store: SQLiteEventStore, source: Source, path: Path) -> float:
    """Project from a source into empty views; return events/s."""
    views = await SQLiteViewStore.open(path)
    processor = Processor(Balances, source=source, views=views, owner="bench")
    token = ConsistencyToken.at("bench", store.epoch, EVENTS)
    began = time.perf_counter()
    await processor.start()
    await processor.wait_for(token, timeout_s=_PATIENCE_S)
    rate = EVENTS / (time.perf_counter() - began)
    found = await views.get(Balance, "7")
    await processor.stop()
    await views.close()
    assert found is not None
    assert found.events == EVENTS // ACCOUNTS - 1
    return rate


async def _consume(broker: Broker) -> Measured:
    async with _system(broker) as (store, bus, directory):
        relay = _relay(store, bus, MemoryViewStore())
        await relay.start()
        while (await relay.status()).position < EVENTS:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        await relay.stop()
        rate = await _rate(store, BusSource(bus), directory / "views.db")
        local = await _rate(store, StoreSource(store, "bench"), directory / "local.db")
    return Measured(rate, local)


async def _hop(broker: Broker, peer: Callable[[Path], Awaitable[float]]) -> Measured:
    async with _system(broker) as (store, bus, directory):
        relay = _relay(store, bus, MemoryViewStore())
        await relay.start()
        rate = await _rate(store, BusSource(bus), directory / "views.db")
        await relay.stop()
        return Measured(rate, await peer(directory / "rows.db"))


async def _rows(broker: Any, subscriber: Any, publish: Callable[[int], Any], path: Path) -> float:
    """Publish messages with a confirm each; return how many a second have become rows."""
    rows = connect(path)
    rows.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)")
    done = asyncio.Event()

    @subscriber
    async def handle(body: dict[str, Any]) -> None:
        rows.execute("INSERT INTO rows (body) VALUES (?)", (str(body),))
        if rows.last_insert_rowid() == MESSAGES:
            done.set()

    async with broker:
        await broker.start()
        began = time.perf_counter()
        for number in range(MESSAGES):
            await publish(number)
        await asyncio.wait_for(done.wait(), _PATIENCE_S)
        rate = MESSAGES / (time.perf_counter() - began)
    rows.close()
    return rate


async def _faststream_rabbitmq(path: Path) -> float:
    from faststream.rabbit import RabbitBroker

    broker = RabbitBroker(rabbit().amqp_url)
    queue = "bench-faststream"
    return await _rows(
        broker,
        broker.subscriber(queue),
        lambda number: broker.publish({"account": f"{number}", "amount": 1}, queue, persist=True),
        path,
    )


async def _faststream_kafka(path: Path) -> float:
    from faststream.confluent import KafkaBroker

    broker = KafkaBroker(f"127.0.0.1:{kafka().port}", acks="all")
    topic = "bench-faststream"
    return await _rows(
        broker,
        broker.subscriber(topic, auto_offset_reset="earliest", group_id="bench"),
        lambda number: broker.publish({"account": f"{number}", "amount": 1}, topic),
        path,
    )


@benchmark("consume.rabbitmq", unit="events/s", peer="the same from the local store", runs=3)
def consume_rabbitmq() -> Measured:
    """100,000 events of 1,000 accounts into views on SQLite, exactly once."""
    return uvloop.run(_consume("rabbitmq"))


@benchmark("consume.kafka", unit="events/s", peer="the same from the local store", runs=3)
def consume_kafka() -> Measured:
    """100,000 events of 1,000 accounts into views on SQLite, exactly once."""
    return uvloop.run(_consume("kafka"))


@benchmark("hop.rabbitmq", unit="events/s", peer="faststream 0.7, a row per message", runs=3)
def hop_rabbitmq() -> Measured:
    """100,000 events from one store into views on SQLite."""
    return uvloop.run(_hop("rabbitmq", _faststream_rabbitmq))


@benchmark("hop.kafka", unit="events/s", peer="faststream 0.7, a row per message", runs=3)
def hop_kafka() -> Measured:
    """100,000 events from one store into views on SQLite."""
    return uvloop.run(_hop("kafka", _faststream_kafka))
