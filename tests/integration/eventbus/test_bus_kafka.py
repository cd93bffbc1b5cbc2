"""An event bus on Kafka: other programs on its topics, topics of others, sizes, who is let in."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from cloudevents.v1.kafka import KafkaMessage, from_structured
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from headwater.errors import ConfigurationError, MalformedMessage
from headwater.eventbus import WATERMARK, BusEvent, EventBus, partition_of
from headwater.eventbus.kafka import KafkaEventBus
from headwater.eventbus.kafka.reading import LogGap, Reader
from headwater.eventbus.kafka.settings import Place
from headwater.eventbus.retention import Retention
from headwater.service import Service
from headwater.service.engines import EVENT_BUSES, open_event_bus
from headwater.service.runtime import Runtime
from headwater.testing.eventbus import PARTITIONS, START, bus_event, collect, subscription
from tests.integration.eventbus.bus_system import everything
from tests.integration.service.shop import AddItem, Item, Items
from tests.kafka_server import KafkaServer, admin_of

WAIT_S_MAX = 100.0
FOREIGN = {"specversion": "1.0", "id": "A-1", "source": "/weather", "type": "rain", "data": [1]}


@pytest.fixture
async def bus(kafka_url: str) -> AsyncIterator[KafkaEventBus]:
    bus = await KafkaEventBus.open(kafka_url)
    yield bus
    await bus.close()


@pytest.fixture
def servers(kafka_server: str) -> str:
    return kafka_server.removeprefix("kafka://")


@pytest.fixture
def prefix(kafka_url: str) -> str:
    return kafka_url.rpartition("/")[2]


def produce(servers: str, topic: str, value: bytes, **more: Any) -> None:
    """Publish as another program does."""
    stranger = Producer({"bootstrap.servers": servers, "log_level": 0})
    stranger.produce(topic, value, **more)
    assert stranger.flush(WAIT_S_MAX) == 0


async def test_any_program_can_read(bus: KafkaEventBus, servers: str, prefix: str) -> None:
    """The value is a CloudEvents document, the key its stream, and a header says so."""
    await bus.publish([bus_event(1)])
    reader = Consumer({"bootstrap.servers": servers, "group.id": "stranger", "log_level": 0})
    reader.assign([TopicPartition(f"{prefix}.events", partition_of("Account/1", 4), 0)])
    message = reader.poll(WAIT_S_MAX)
    reader.close()
    assert message is not None
    value = message.value()
    assert value is not None
    document = json.loads(value)
    assert (document["specversion"], document["subject"]) == ("1.0", "Account/1")
    assert message.key() == b"Account/1"
    assert message.headers() == [("content-type", b"application/cloudevents+json")]


async def test_the_sdk_of_cloudevents_reads_it(
    bus: KafkaEventBus, servers: str, prefix: str
) -> None:
    """What is published is read and validated by the SDK of CloudEvents."""
    await bus.publish([bus_event(1)])
    reader = Consumer({"bootstrap.servers": servers, "group.id": "sdk", "log_level": 0})
    reader.assign([TopicPartition(f"{prefix}.events", partition_of("Account/1", 4), 0)])
    message = reader.poll(WAIT_S_MAX)
    reader.close()
    assert message is not None
    headers = {name: value for name, value in message.headers() or [] if isinstance(value, bytes)}
    read = from_structured(KafkaMessage(headers, message.key(), message.value() or b""))
    assert (read["id"], read["source"], read["subject"]) == ("e1/1", "accounts", "Account/1")
    assert read["sequence"] == f"{1:020}"


async def test_any_program_can_write(bus: KafkaEventBus, servers: str, prefix: str) -> None:
    """Events of other programs are delivered: as documents, or with their attributes in headers."""
    topic = f"{prefix}.events"
    produce(servers, topic, json.dumps(FOREIGN).encode(), partition=2)
    headers = {
        "ce_specversion": "1.0", "ce_id": "A-2", "ce_source": "/weather", "ce_type": "rain",
        "ce_subject": "Köln", "ce_time": "2026-11-30T12:00:00Z", "content-type": "application/json",
    }  # fmt: skip
    produce(servers, topic, b'{"mm":3}', partition=2, headers=list(headers.items()))
    headers["content-type"] = "image/png"
    produce(servers, topic, b"\x89PNG", partition=2, headers=list(headers.items()))
    found = [one.event for one in await collect(bus, 3)]
    assert [(e.type, e.data) for e in found] == [
        ("rain", b"[1]"), ("rain", b'{"mm":3}'), ("rain", b'"iVBORw=="'),
    ]  # fmt: skip
    assert [e.position for e in found] == [1, 2, 3]
    assert (found[1].stream, found[1].time) == ("Köln", 1_796_040_000_000_000)
    assert all(e.source == "/weather" and not e.epoch for e in found)


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"rubbish", []),
        (b"", []),
        (b"{}", [("ce_specversion", "1.0"), ("ce_id", "1")]),
        (b"{}", [("ce_specversion", b"\xff")]),
        (b"{", [("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "s"), ("ce_type", "t")]),
    ],
)
async def test_rubbish_is_named(
    bus: KafkaEventBus, servers: str, prefix: str, value: bytes, headers: Any
) -> None:
    """What is no CloudEvent stops its readers with its place in the message."""
    produce(servers, f"{prefix}.events", value, partition=3, headers=headers)
    with pytest.raises(MalformedMessage, match="event at offset 0 of partition 3 is malformed"):
        await collect(bus, 1, after=START)


async def test_malformed_events_are_refused_whole(bus: KafkaEventBus) -> None:
    """One event that cannot be encoded keeps its whole call out, and no other."""
    broken = msgspec.structs.replace(bus_event(2), metadata=b'{"traceparent"')
    with pytest.raises(MalformedMessage, match="metadata of 'MoneyWithdrawn'"):
        await bus.publish([bus_event(1), broken])
    assert await bus.end() == START
    await bus.publish([bus_event(3)])
    assert [d.event.position for d in await collect(bus, 1)] == [3]


async def test_topics_that_are_there_and_wrong(kafka_url: str, servers: str, prefix: str) -> None:
    """Everything that is wrong about a topic is told at once, and nothing is changed."""
    settings = {
        "cleanup.policy": "compact", "retention.ms": "60000", "retention.bytes": "1000",
        "min.insync.replicas": "2", "unclean.leader.election.enable": "true",
    }  # fmt: skip
    admin = admin_of(servers)
    for topic in (f"{prefix}.events", f"{prefix}.notes"):
        [made] = admin.create_topics([NewTopic(topic, 3, 1, config=settings)]).values()
        made.result()
    with pytest.raises(ConfigurationError) as caught:
        await KafkaEventBus.open(f"{kafka_url}?replication=3&min_insync=1")
    assert str(caught.value) == (
        f"topic {prefix}.events of event bus {kafka_url}: it was made with 3 partitions, "
        "4 were asked for: set 3; cleanup.policy is compact, expected delete; "
        "retention.ms is 60000, expected -1; retention.bytes is 1000, expected -1; "
        "unclean.leader.election.enable is true, expected false; it has 1 replicas, expected 3; "
        "min.insync.replicas is 2, expected 1; min.insync.replicas is 2, and it has 1 replicas, "
        "so nothing can be published: change the topic, or use another prefix"
    )


async def test_a_topic_that_cannot_be_made(kafka_url: str) -> None:
    """More copies than there are brokers is a fault of the configuration."""
    with pytest.raises(ConfigurationError, match=r"events of event bus .* cannot be made"):
        await KafkaEventBus.open(f"{kafka_url}?replication=3")


async def test_large_events(bus: KafkaEventBus, servers: str, prefix: str) -> None:
    """Some megabytes pass; what the topic does not take is refused whole, until it is told to."""

    def event(position: int, mebibytes: int) -> BusEvent:
        data = b'"' + b"x" * (mebibytes << 20) + b'"'
        return msgspec.structs.replace(bus_event(position, stream="s"), data=data)

    await bus.publish([event(1, 5), event(2, 7)])
    with pytest.raises(ConfigurationError, match=r"'MoneyWithdrawn' at accounts/4 has .* raise"):
        await bus.publish([bus_event(3, stream="s"), event(4, 9)])
    assert sum((await bus.end()).values()) + PARTITIONS == 2
    entry = ConfigEntry(
        "max.message.bytes", str(12 << 20), incremental_operation=AlterConfigOpType.SET
    )
    raised = ConfigResource(ResourceType.TOPIC, f"{prefix}.events", incremental_configs=[entry])
    admin = admin_of(servers)
    admin.incremental_alter_configs([raised])[raised].result()
    await bus.publish([bus_event(3, stream="s"), event(4, 9)])
    found = [one.event for one in await collect(bus, 4)]
    assert [(e.position, len(e.data) >> 20) for e in found] == [(1, 5), (2, 7), (3, 0), (4, 9)]


async def test_more_than_the_client_holds(kafka_url: str) -> None:
    """A call of more events than the client's queue takes is published, in order."""
    bus = await KafkaEventBus.open(f"{kafka_url}?kafka.queue.buffering.max.messages=100")
    await bus.publish([bus_event(n, stream="s") for n in range(1, 1001)])
    assert [d.event.position for d in await collect(bus, 1000)] == list(range(1, 1001))
    await bus.close()


async def test_publishing_wakes_readers(bus: KafkaEventBus, kafka_url: str) -> None:
    """An event that another bus publishes is delivered within milliseconds, however long after."""
    other, delays = await KafkaEventBus.open(kafka_url), []
    await other.publish([bus_event(1)])
    async with subscription(bus) as pages:
        await anext(pages)
        for n in range(2, 22):
            begun = time.monotonic()
            await other.publish([bus_event(n)])
            page = await anext(pages)
            delays.append(time.monotonic() - begun)
            assert [d.event.position for d in page] == [n]
    assert statistics.median(delays) < 0.25  # whoever asks now and then takes longer
    await other.close()


async def test_a_reader_never_jumps(bus: KafkaEventBus, kafka_url: str) -> None:
    """What is not there, below the begin or above the end, is told while reading, too."""
    await bus.publish([bus_event(n, stream="s") for n in range(1, 11)])
    await bus.forget(Retention(age_s=0.0))
    used = partition_of("s", PARTITIONS)
    for offset in (3, 20):  # as if it had been there when the subscription began
        reader = Reader(Place.parse(kafka_url), {used: offset})
        with pytest.raises(LogGap):
            await asyncio.to_thread(reader.page, 10, wait_s=WAIT_S_MAX)
        reader.stop()
        await asyncio.to_thread(reader.close)


async def test_a_busy_partition_hides_no_other(bus: KafkaEventBus) -> None:
    """A page has something of each partition that has anything, from the first one on."""
    counts = {"Account/0": 3000, "Account/1": 1, "Account/4": 1}
    after = {partition_of(stream, PARTITIONS): -1 for stream in counts}
    assert len(after) == 3
    for stream, count in counts.items():
        await bus.publish([bus_event(n, stream=stream) for n in range(1, count + 1)])
    for _ in range(5):
        async with subscription(bus, after, 10) as pages:
            assert len({one.partition for one in await anext(pages)}) == 3


async def test_what_is_stored_is_known_when_it_was_forgotten(kafka_url: str) -> None:
    """An event that all have read and that was forgotten is not taken for a lost one."""
    bus = await KafkaEventBus.open(kafka_url)
    await bus.publish([bus_event(n, stream="s") for n in range(1, 6)])
    await bus.publish([bus_event(n, stream="s", source="other") for n in range(1, 3)])
    assert await bus.forget(Retention(age_s=0.0)) == 6
    await bus.close()
    again = await KafkaEventBus.open(kafka_url)
    used = partition_of("s", PARTITIONS)
    assert (await again.stored("accounts", "e1"))[used] == 5
    assert (await again.stored("other", "e1"))[used] == 2
    await again.publish([bus_event(n, stream="s", source="other") for n in range(3, 2000)])
    assert (await again.stored("accounts", "e1"))[used] == 5
    assert (await again.stored("other", "e1"))[used] == 1999
    assert len(await everything_of(again, used)) == 1998
    await again.close()


async def everything_of(bus: EventBus, partition: int) -> list[int]:
    begin = (await bus.begin())[partition]
    end = (await bus.end())[partition]
    found = await collect(bus, end + 1 - begin, after={partition: begin - 1})
    return [one.offset for one in found]


@pytest.mark.parametrize(
    "option", ["kafka.no.such=1", "kafka.fetch.wait.max.ms=soon", "cafile=/nowhere", "mechanism=X"]
)
async def test_what_the_client_does_not_take(option: str) -> None:
    """Unknown settings, bad values and missing files are faults of the configuration."""
    url = f"kafka://me:s3cret@127.0.0.1:9/b?{option}"
    with pytest.raises(ConfigurationError) as caught:
        await KafkaEventBus.open(url, patience_s=0.5)
    assert "s3cret" not in str(caught.value)


async def test_encrypted_and_with_a_password(fresh_kafka: KafkaServer, tmp_path: Path) -> None:
    """With TLS and SASL the right password comes in; a wrong one is told, and not shown."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem = b"".join(blob.bytes() for blob in certificate.cert_chain_pems).decode()
    key = certificate.private_key_pem.bytes().decode()
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
    server = KafkaServer(
        like=fresh_kafka,
        client={
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "bank",
            "sasl.password": "p@ss/word",
            "ssl.ca.location": f"{tmp_path}/ca.pem",
        },
        settings={
            "listener.security.protocol.map": "CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENTS",
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.clients.plain.sasl.jaas.config": (
                f'{plain} required username="broker" password="b" user_broker="b" '
                'user_bank="p@ss/word";'
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": pem.replace("\n", "\\n"),
            "ssl.keystore.key": _pkcs8(key).replace("\n", "\\n"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": authority.cert_pem.bytes().decode().replace("\n", "\\n"),
        },
    )
    try:
        server.start()
        place = f"127.0.0.1:{server.port}/bank?cafile={tmp_path}/ca.pem"
        bus = await KafkaEventBus.open(f"kafka://bank:p%40ss%2Fword@{place}")
        await bus.publish([bus_event(1), bus_event(2)])
        assert len(await collect(bus, 2)) == 2
        await bus.close()
        for wrong in (place, place.partition("?")[0]):
            url = f"kafka://bank:s3cret@{wrong}"
            with pytest.raises(ConfigurationError, match="does not let us in") as caught:
                await KafkaEventBus.open(url, patience_s=3.0)
            assert "s3cret" not in str(caught.value)
    finally:
        server.remove()


def _pkcs8(key: str) -> str:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.encode(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


async def test_a_service_runs_over_it(kafka_url: str, tmp_path: Path) -> None:
    """A service that names it in its settings publishes there what it stores."""
    shop = Service("shop", aggregates=[Item], projections=[Items])
    async with Runtime(shop, {"data": str(tmp_path), "bus": kafka_url}) as running:
        await running.commands.send(AddItem("i1", "Bach", 3))
        assert isinstance(running.bus, KafkaEventBus)
        found = [one.event for one in await collect(running.bus, 2)]
        assert (found[0].source, found[0].stream, found[0].position) == ("shop", "Item/i1", 1)
        assert (found[1].type, found[1].confirmed) == (WATERMARK, 1)


async def test_two_who_make_a_bus_agree(kafka_url: str) -> None:
    """Of several that open a bus that is not there each finds the same, or is told."""
    opening = [KafkaEventBus.open(kafka_url, partitions=n) for n in (3, 4, 3, 4)]
    found = await asyncio.gather(*opening, return_exceptions=True)
    buses = [one for one in found if isinstance(one, KafkaEventBus)]
    refused = [one for one in found if isinstance(one, ConfigurationError)]
    assert len(buses) == len(refused) == 2
    assert len({bus.partitions for bus in buses}) == 1
    for bus in buses:
        await bus.close()


async def test_a_service_names_it_by_its_url(kafka_url: str) -> None:
    """The scheme opens it, and its name is its place."""
    assert EVENT_BUSES.name_of(kafka_url) == kafka_url
    assert EVENT_BUSES.file_of(kafka_url) is None
    bus = await open_event_bus(kafka_url, partitions=2)
    assert (bus.partitions, bus.ordered) == (2, False)
    assert await everything(bus) == []
    await bus.close()
