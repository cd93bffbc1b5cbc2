"""The event bus on Apache Kafka: from an event store to confirmed, and from the bus to a reader."""

import asyncio
import time
from collections.abc import Sequence

from confluent_kafka import Producer

from benchmarks.bench_eventbus import EVENTS, START, sample_events
from benchmarks.brokers import bus_url
from benchmarks.harness import Measured, benchmark
from headwater.eventbus import BusEvent, cloudevents, partition_of
from headwater.eventbus.kafka import KafkaEventBus
from headwater.eventstore import NewEvent, StreamWrite
from headwater.eventstore.memory import MemoryEventStore
from headwater.processing import ProcessorSettings, Relay
from headwater.views.memory import MemoryViewStore

_PAGE = 1000
_ROUNDS = 5  # of the same events


def _bare(url: str, given: Sequence[BusEvent]) -> float:
    """Publish the same bytes with nothing but the client, in calls as large as the relay's."""
    servers, _, prefix = url.removeprefix("kafka://").rpartition("/")
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "log_level": 0})
    records = [
        (event.stream.encode(), cloudevents.encode(event), partition_of(event.stream, 4))
        for event in given
    ]
    headers: list[tuple[str, str | bytes | None]] = [("content-type", b"application/json")]
    started = time.perf_counter()
    for first in range(0, len(records), _PAGE):
        for key, value, partition in records[first : first + _PAGE]:
            producer.produce(f"{prefix}.events", value, key, partition, headers=headers)
        assert producer.flush(60) == 0
    return len(records) / (time.perf_counter() - started)


@benchmark("relay.kafka", unit="events/s", peer="bare confluent-kafka publishing the same bytes")
async def relay() -> Measured:
    """All events of a store, in pages of 1,000, until the relay has noted the last one."""
    store, views, url = MemoryEventStore(), MemoryViewStore(), bus_url("kafka")
    for event in _ROUNDS * sample_events():
        new = NewEvent(event.type, event.type_version, event.data, event.metadata)
        await store.append([StreamWrite(event.stream, [new])])
    bus = await KafkaEventBus.open(url)
    relaying = Relay(
        store,
        bus,
        name="accounts",
        epoch=store.epoch,
        views=views,
        owner="bench",
        settings=ProcessorSettings(page_size=_PAGE),
    )
    started = time.perf_counter()
    await relaying.start()
    while (await relaying.status()).position < _ROUNDS * EVENTS:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.001)
    elapsed = time.perf_counter() - started
    await relaying.stop()
    peer = await asyncio.to_thread(_bare, url, _ROUNDS * sample_events())
    await bus.close()
    return Measured(_ROUNDS * EVENTS / elapsed, peer)


@benchmark("subscribe.kafka", unit="events/s")
async def consume() -> Measured:
    """A subscription from the start, in pages of 1,000."""
    bus, published = await KafkaEventBus.open(bus_url("kafka")), sample_events()
    for first in range(0, EVENTS, _PAGE):
        await bus.publish(published[first : first + _PAGE])
    started = time.perf_counter()
    count = 0
    async for page in bus.subscribe(after=START):
        count += len(page)
        if count == EVENTS:
            break
    elapsed = time.perf_counter() - started
    await bus.close()
    return Measured(EVENTS / elapsed)
