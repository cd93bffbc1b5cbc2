"""An event bus on RabbitMQ: other programs on its streams, and what its broker does by itself."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
import trustme
from rstream import (
    AMQPMessage,
    Consumer,
    ConsumerOffsetSpecification,
    OffsetType,
    Producer,
    amqp_decoder,
)
from rstream.client import Client
from rstream.schema import Publish
from rstream.utils import RawMessage

from headwater.errors import (
    ConfigurationError,
    EventsForgotten,
    MalformedMessage,
    StoreUnavailable,
)
from headwater.eventbus import partition_of
from headwater.eventbus.rabbitmq import RabbitMQEventBus
from headwater.eventbus.rabbitmq.reading import Reader
from headwater.eventbus.rabbitmq.settings import Place
from headwater.testing.eventbus import (
    PARTITIONS,
    START,
    bus_event,
    collect,
    event_type,
    subscription,
)
from tests.integration.eventbus.bus_system import when_there
from tests.integration.processing.conftest import until
from tests.rabbitmq_server import RabbitServer

pytestmark = pytest.mark.timeout(600)
WAIT_S_MAX = 100.0
FOREIGN = {"specversion": "1.0", "id": "A-1", "source": "/weather", "type": "rain", "data": [1]}
SMALL = {"stream-max-segment-size-bytes": "200000", "max-length-bytes": "400000"}


@pytest.fixture
async def bus(rabbitmq_url: str) -> AsyncIterator[RabbitMQEventBus]:
    bus = await RabbitMQEventBus.open(rabbitmq_url)
    yield bus
    await bus.close()


async def store(url: str, partition: int, messages: Sequence[AMQPMessage | RawMessage]) -> None:
    """Publish as another program does."""
    async with producer(url) as other:
        for message in messages:
            await other.send_wait(Place.parse(url).stream(partition), message)


def producer(url: str) -> Producer:
    place = Place.parse(url)
    return Producer(place.host, place.port, username="guest", password="guest")


async def test_any_program_can_read(bus: RabbitMQEventBus, rabbitmq_url: str) -> None:
    """A stream has AMQP 1.0 messages of CloudEvents documents, with their content type."""
    await bus.publish([bus_event(1)])
    place, found = Place.parse(rabbitmq_url), list[AMQPMessage]()
    consumer = Consumer(place.host, place.port, username="guest", password="guest")
    await consumer.start()
    arrived = asyncio.Event()

    def note(message: AMQPMessage, _: object) -> None:
        found.append(message)
        if len(found) == 2:
            arrived.set()

    await consumer.subscribe(
        place.stream(partition_of("Account/1", PARTITIONS)),
        note,
        decoder=amqp_decoder,
        offset_specification=ConsumerOffsetSpecification(OffsetType.FIRST, None),
    )
    await asyncio.wait_for(arrived.wait(), WAIT_S_MAX)
    await consumer.close()
    documents = [json.loads(message.body) for message in found]
    assert [d["type"] for d in documents] == ["headwater.Header", "MoneyWithdrawn"]
    assert {m.properties.content_type for m in found} == {b"application/cloudevents+json"}


@pytest.mark.parametrize("raw", [False, True])
async def test_any_program_can_write(
    bus: RabbitMQEventBus, rabbitmq_url: str, *, raw: bool
) -> None:
    """What others publish is delivered: as AMQP 1.0, or the document alone."""
    document = json.dumps(FOREIGN).encode()
    message = RawMessage(document) if raw else AMQPMessage(body=document)
    await store(rabbitmq_url, 2, [message, message])
    found = await collect(bus, 2)
    assert [(d.event.type, d.event.data) for d in found] == [("rain", b"[1]")] * 2
    positions = [d.event.position for d in found]
    assert positions == sorted(set(positions))


@pytest.mark.parametrize("rubbish", [b"rubbish", b"\x00\x53\x75\xa0", b'{"specversion":"0.1"}'])
async def test_rubbish_is_named(bus: RabbitMQEventBus, rabbitmq_url: str, rubbish: bytes) -> None:
    """What is no CloudEvents document stops its readers with its place in the message."""
    await store(rabbitmq_url, 3, [RawMessage(rubbish)])
    with pytest.raises(MalformedMessage, match="event at offset 0 of partition 3 is malformed"):
        await collect(bus, 1)
    assert await bus.end() == {**START, 3: 0}  # others go on, and whoever passes over it
    await bus.publish([bus_event(n) for n in range(1, 30)])
    assert len(await collect(bus, 29, after={**START, 3: 0})) == 29


async def test_malformed_events_are_refused_whole(bus: RabbitMQEventBus) -> None:
    """One event that cannot be encoded keeps its whole call out, and no other."""
    broken = msgspec.structs.replace(bus_event(2), metadata=b'{"traceparent"')
    with pytest.raises(MalformedMessage, match="metadata of 'MoneyWithdrawn'"):
        await bus.publish([bus_event(1), broken])
    assert await bus.end() == START
    await bus.publish([bus_event(3)])
    assert [d.event.position for d in await collect(bus, 1)] == [3]


async def test_what_a_frame_cannot_hold_is_divided(
    bus: RabbitMQEventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the broker takes at once goes in several frames; one larger event is refused."""
    frames: list[Publish] = []
    send = Client.send_publish_frame

    async def note(client: Client, frame: Publish) -> None:
        frames.append(frame)
        await send(client, frame)

    monkeypatch.setattr(Client, "send_publish_frame", note)
    large = [_sized(n, 400_000) for n in range(1, 8)]
    await bus.publish(large)
    assert [d.event for d in await collect(bus, 7)] == large
    assert [len(frame.messages) for frame in frames] == [2, 2, 2, 1]
    with pytest.raises(ConfigurationError, match=r"event 9 of 'accounts' has .*stream.frame_max"):
        await bus.publish([_sized(8, 10), _sized(9, 1_100_000)])
    assert (await bus.stored("accounts", "e1"))[partition_of("s", PARTITIONS)] == 7


def _sized(number: int, size: int) -> object:
    data = b'"' + b"x" * size + b'"'
    return msgspec.structs.replace(bus_event(number, stream="s"), data=data)


async def test_what_the_broker_removes_is_told(rabbitmq_url: str) -> None:
    """Where operators let it cut streams, it is known where they begin, and readers are told."""
    async with producer(rabbitmq_url) as other:
        for partition in range(PARTITIONS):
            await other.create_stream(Place.parse(rabbitmq_url).stream(partition), SMALL)
    bus = await RabbitMQEventBus.open(rabbitmq_url)
    partition = partition_of("s", PARTITIONS)
    async with subscription(bus, {partition: -1}) as pages:
        await bus.publish([_sized(1, 10)])
        await anext(pages)
    for number in range(2, 40):
        await bus.publish([_sized(number, 50_000)])

    async def cut() -> bool:
        return (await bus.begin())[partition] > 0

    await until(cut, timeout_s=WAIT_S_MAX)
    begins = await bus.begin()
    assert {p: n for p, n in begins.items() if p != partition} == dict.fromkeys(
        set(range(PARTITIONS)) - {partition}, 0
    )
    begin = begins[partition]
    with pytest.raises(EventsForgotten, match="begins at offset") as caught:
        await collect(bus, 1, after={partition: 0})
    assert (caught.value.partition, caught.value.after) == (partition, 0)
    assert caught.value.begin >= begin
    begin = (await bus.begin())[partition]
    kept: list[int] = []  # each piece of a stream begins with an offset that is the broker's own
    async with asyncio.timeout(WAIT_S_MAX), subscription(bus, {partition: begin - 1}) as pages:
        while not kept or kept[-1] < 39:
            kept += [one.event.position for one in await anext(pages)]
    assert kept == list(range(kept[0], 40))
    assert 1 < kept[0] < 39
    await bus.close()


async def test_offsets_of_the_broker_itself_are_no_gap(
    bus: RabbitMQEventBus, rabbitmq_url: str
) -> None:
    """Where the broker notes something in a stream, an offset is missing, and no event."""
    await bus.publish([bus_event(n, stream="s") for n in range(1, 4)])
    partition = partition_of("s", PARTITIONS)
    place = Place.parse(rabbitmq_url)
    consumer = Consumer(place.host, place.port, username="guest", password="guest")
    await consumer.start()
    await consumer.store_offset(place.stream(partition), "somebody", 2)
    async with asyncio.timeout(WAIT_S_MAX):
        while await consumer.query_offset(place.stream(partition), "somebody") != 2:
            pass
    await consumer.close()
    await bus.publish([bus_event(4, stream="s")])
    found = await collect(bus, 4, after={partition: -1})
    assert [d.event.position for d in found] == [1, 2, 3, 4]
    assert found[3].offset - found[2].offset == 2
    assert (await collect(bus, 1, after={partition: found[2].offset})) == found[3:]
    assert (await bus.end())[partition] == found[3].offset


async def test_who_reads_slowly_is_sent_no_more(bus: RabbitMQEventBus, rabbitmq_url: str) -> None:
    """Two chunks of a stream wait for a reader at most, however many there are."""
    for number in range(1, 41):  # a chunk each
        await bus.publish([bus_event(number, stream="s")])
    partition = partition_of("s", PARTITIONS)
    reader = Reader(Place.parse(rabbitmq_url), bus._links, dict(enumerate(bus._streams.values())))
    await reader.start({partition: 0})
    seen = 0
    while seen < 41:
        seen += len(await reader.page(1))
        await bus.end()  # what was sent before this answer has arrived
        assert len(reader._arrived[partition]) <= 2
    await reader.close()


async def test_streams_of_others_are_left_alone(rabbitmq_url: str) -> None:
    """A stream that is there, with something else in it, is not taken for a partition."""
    place = Place.parse(rabbitmq_url)
    async with producer(rabbitmq_url) as other:
        await other.create_stream(place.stream(1))
        await other.send_wait(place.stream(1), RawMessage(b"mine"))
    with pytest.raises(ConfigurationError, match=r"stream '.*-1' is there already"):
        await RabbitMQEventBus.open(rabbitmq_url)


async def test_a_partition_that_was_deleted_is_not_made_anew(
    bus: RabbitMQEventBus, rabbitmq_url: str
) -> None:
    """Its events are gone, which nobody would see in an empty one."""
    async with producer(rabbitmq_url) as other:
        await other.delete_stream(Place.parse(rabbitmq_url).stream(2))
    with pytest.raises(ConfigurationError, match=r"stream '.*-2' was deleted"):
        await RabbitMQEventBus.open(rabbitmq_url)


async def test_two_who_make_a_bus_agree(rabbitmq_url: str) -> None:
    """Opened at once with several numbers of partitions: one number counts, for all."""
    numbers = [3, 4, 5, 3, 4, 5]
    opened = await asyncio.gather(
        *(RabbitMQEventBus.open(rabbitmq_url, partitions=n) for n in numbers),
        return_exceptions=True,
    )
    buses = [one for one in opened if isinstance(one, RabbitMQEventBus)]
    refused = [one for one in opened if isinstance(one, ConfigurationError)]
    assert (len(buses), len(refused)) == (2, 4)
    assert len({bus.partitions for bus in buses}) == 1
    await buses[0].publish([bus_event(1)])
    assert len(await collect(buses[1], 1, after=dict.fromkeys(range(buses[0].partitions), -1))) == 1
    for bus in buses:
        await bus.close()


async def test_of_many_announcements_at_once_one_is_kept(rabbitmq_url: str) -> None:
    """However many services claim a name at the same moment, the first in the notes has it."""
    buses = [await RabbitMQEventBus.open(rabbitmq_url) for _ in range(6)]
    types = [event_type(f"s{n}", f"field{n}") for n in range(6)]
    found = await asyncio.gather(
        *(bus.announce(f"s{n}", [types[n]]) for n, bus in enumerate(buses))
    )
    [first] = [n for n, clashes in enumerate(found) if not clashes]
    for n, clashes in enumerate(found):
        assert clashes == ([] if n == first else [(types[n], types[first])])
    for bus in buses:
        await bus.close()


async def test_what_was_announced_is_not_noted_again(rabbitmq_url: str) -> None:
    """Services that start again and again do not let the notes grow; another type is noted."""
    bus = await RabbitMQEventBus.open(rabbitmq_url)
    ours, other = event_type("accounts", "id"), event_type("accounts", "name")
    sizes = []
    for types in ([ours], [ours], [other], [other], [ours]):
        assert await bus.announce("accounts", types) == []
        link = (await bus._notes._links.get())[Place.parse(rabbitmq_url).notes]
        last = await link.chunk_at(Place.parse(rabbitmq_url).notes, OffsetType.LAST)
        sizes.append(last.chunk_first_offset)
    assert [size - sizes[0] for size in sizes] == [0, 0, 1, 1, 2]
    await bus.close()


async def test_no_log_line_has_the_password(
    rabbitmq_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even at the level DEBUG, at which the client writes out all that it sends."""
    caplog.set_level(logging.DEBUG)
    bus = await RabbitMQEventBus.open(rabbitmq_url)
    await bus.close()
    assert not [r for r in caplog.records if "guest" in r.getMessage()]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_tls(authority: trustme.CA, tmp_path: Path, own_rabbitmq: RabbitServer) -> None:
    """The line is encrypted, and a broker with another authority's certificate not believed."""
    ports = own_rabbitmq.encrypt(authority)
    await asyncio.to_thread(own_rabbitmq.stop)
    await asyncio.to_thread(own_rabbitmq.start)
    cafile, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(str(cafile))
    trustme.CA().cert_pem.write_to_path(str(other))
    url = own_rabbitmq.url(port=ports, name="bank", tls="true", cafile=str(cafile))
    bus = await when_there(lambda: RabbitMQEventBus.open(url))
    await bus.publish([bus_event(1)])
    assert len(await collect(bus, 1)) == 1
    await bus.close()
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await RabbitMQEventBus.open(url.replace(str(cafile), str(other)))
    with pytest.raises(ConfigurationError, match=r"certificates in .*none\.pem cannot be used"):
        await RabbitMQEventBus.open(url.replace(str(cafile), str(tmp_path / "none.pem")))


@pytest.mark.parametrize(
    "own_rabbitmq", [{"stream.advertised_host": "broker.invalid"}], indirect=True
)
async def test_behind_an_address_of_its_own(own_rabbitmq: RabbitServer) -> None:
    """A broker that advertises what cannot be reached is used where it was found."""
    for option in ({}, {"load_balancer": "true"}):
        url = own_rabbitmq.url(name="bank", **option)
        bus = await when_there(lambda url=url: RabbitMQEventBus.open(url))
        await bus.publish([bus_event(1)])
        assert len(await collect(bus, 1)) == 1
        await bus.close()
