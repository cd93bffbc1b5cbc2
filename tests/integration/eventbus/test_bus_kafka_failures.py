"""An event bus on a Kafka that fails: nothing is lost, and whoever waits is told."""

import asyncio
import contextlib

import msgspec
import pytest
from confluent_kafka import Producer

from headwater.errors import StoreCorrupt, StoreUnavailable
from headwater.eventbus import EventBus
from headwater.eventbus.kafka import KafkaEventBus
from headwater.eventbus.kafka.asking import _Client
from headwater.eventbus.kafka.settings import Place
from headwater.testing.eventbus import START, bus_event, collect, subscription
from headwater.views.memory import MemoryViewStore
from tests.integration.eventbus.bus_system import (
    WAIT_S_MAX,
    Publisher,
    everything,
    first_seen,
    when_there,
)
from tests.integration.processing.conftest import until
from tests.kafka_server import KafkaServer, admin_of
from tests.line import Line
from tests.ports import HeldPort

pytestmark = pytest.mark.timeout(900)  # a server needs some seconds to start, each time

PRODUCE = b"\0\0"  # how such a request begins


def publisher_on(url: str, *, patience_s: float = 3.0) -> Publisher:
    return Publisher(lambda: KafkaEventBus.open(url, patience_s=patience_s))


async def test_a_broker_that_is_killed_loses_nothing(own_kafka: KafkaServer) -> None:
    """Killed under load and started again: the relay goes on, and all is there in order."""
    async with publisher_on(own_kafka.url()) as publisher:
        relay = await publisher.start()
        appending = asyncio.create_task(publisher.append(3000))
        reading = await KafkaEventBus.open(own_kafka.url(), patience_s=3.0)
        async with subscription(reading) as pages:
            await anext(pages)
            await asyncio.to_thread(own_kafka.kill)
            with pytest.raises(StoreUnavailable):  # noqa: PT012  # pages that came before may come
                while True:
                    await asyncio.wait_for(anext(pages), WAIT_S_MAX)
        with pytest.raises(StoreUnavailable):
            await reading.end()
        await appending
        await publisher.append(1)
        await until(lambda: relay.failure, timeout_s=WAIT_S_MAX)
        await asyncio.to_thread(own_kafka.start)
        await publisher.append(100)
        await publisher.relayed()
        await publisher.check()
        assert len(await collect(reading, 3101)) >= 3101
        await reading.close()


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_the_broker_has_lost_is_published_again(
    own_kafka: KafkaServer, *, restarted: bool
) -> None:
    """Set back to an older copy of its data: the relay fills the gap, also as a new process."""
    async with publisher_on(own_kafka.url()) as publisher:
        await publisher.start()
        await publisher.append(200)
        await publisher.relayed()
        await publisher.stop()
        await asyncio.to_thread(own_kafka.stop)
        copy = await asyncio.to_thread(own_kafka.keep_copy)
        await asyncio.to_thread(own_kafka.start)
        relay = await publisher.start()
        await publisher.append(300)
        await publisher.relayed()
        if restarted:
            await publisher.stop()
        await asyncio.to_thread(own_kafka.kill)
        await asyncio.to_thread(own_kafka.set_back, copy)
        if not restarted:
            await publisher.append(1)
            await until(lambda: relay.failure, timeout_s=WAIT_S_MAX)
        await asyncio.to_thread(own_kafka.start)
        if restarted:
            await publisher.start()
        await publisher.append(50)
        await publisher.relayed()
        await publisher.check()


async def test_a_broker_that_is_set_back_within_a_moment(own_kafka: KafkaServer) -> None:
    """A broker that has lost something takes no more before it was asked, however fast it is back.

    And who has read what is lost is told, and does not wait for offsets to come again.
    """
    bus = await KafkaEventBus.open(own_kafka.url())
    await bus.publish([bus_event(n, stream="s") for n in range(1, 11)])
    await asyncio.to_thread(own_kafka.stop)
    copy = await asyncio.to_thread(own_kafka.keep_copy)
    await asyncio.to_thread(own_kafka.start)
    await until(lambda: _published(bus, range(11, 21)), timeout_s=WAIT_S_MAX)
    [partition] = {one.partition for one in await collect(bus, 20)}
    end = (await bus.end())[partition]
    reading = asyncio.create_task(collect(bus, 1, after={partition: end}))
    await asyncio.to_thread(own_kafka.kill)
    await asyncio.to_thread(own_kafka.set_back, copy)
    await asyncio.to_thread(own_kafka.start)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await bus.publish([bus_event(21, stream="s")])
    with pytest.raises((StoreCorrupt, StoreUnavailable)):
        await reading
    with pytest.raises(StoreCorrupt, match=f"ends at offset 9, and what comes after {end}"):
        await collect(bus, 1, after={partition: end})
    assert (await bus.stored("accounts", "e1"))[partition] == 10
    await bus.publish([bus_event(n, stream="s") for n in range(11, 22)])
    found = await collect(bus, 21)
    assert [one.event.position for one in found] == list(range(1, 22))
    await bus.close()


async def _published(bus: EventBus, positions: range) -> bool:
    """Whether events could be published; after a failure it is asked what there is."""
    try:
        await bus.stored("accounts", "e1")
        await bus.publish([bus_event(n, stream="s") for n in positions])
    except StoreUnavailable:
        return False
    return True


async def test_connections_that_are_cut_lose_nothing(fresh_kafka: KafkaServer) -> None:
    """Cut at many moments, while much is published: all is there, in order."""
    async with Line(0) as line:
        server = KafkaServer(like=fresh_kafka, advertised=line.port)
        line.lead_to(server.port)
        try:
            await asyncio.to_thread(server.start)
            async with publisher_on(f"kafka://127.0.0.1:{line.port}/bank") as publisher:
                await publisher.start()
                for number in range(12):
                    goal = line.passed + 2000 + 3700 * (number % 5)
                    await publisher.append(60)
                    head = await publisher.store.head()

                    async def passed(goal: int = goal, head: int = head) -> bool:
                        return line.passed > goal or await publisher.position() == head

                    await until(passed, timeout_s=WAIT_S_MAX)
                    line.cut()
                await publisher.relayed()
                await publisher.check()
        finally:
            await asyncio.to_thread(server.remove)


async def test_a_silent_line_is_told(fresh_kafka: KafkaServer) -> None:
    """A broker that does not answer any more is given up, whoever waits for it."""
    async with Line(0) as line:
        server = KafkaServer(like=fresh_kafka, advertised=line.port)
        line.lead_to(server.port)
        try:
            await asyncio.to_thread(server.start)
            url = f"kafka://127.0.0.1:{line.port}/bank"
            bus = await KafkaEventBus.open(url)
            await bus.publish([bus_event(1)])
            reading = asyncio.create_task(collect(bus, 1, after=await bus.end()))
            bus._patience_s = bus._topics._patience_s = bus._publisher._patience_s = 1.0
            line.hold()
            with pytest.raises(StoreUnavailable, match="has not confirmed within 1 s") as caught:
                await bus.publish([bus_event(2)])
            assert caught.value.outcome == "unknown"
            with pytest.raises(StoreUnavailable) as caught:
                await bus.end()
            assert caught.value.outcome == "not stored"
            with pytest.raises(StoreUnavailable):
                await reading
            line.let_go()
            await until(lambda: _published_again(bus), timeout_s=WAIT_S_MAX)
            positions = [d.event.position for d in await collect(bus, 3)]
            assert set(positions) == {1, 2, 3}
            await bus.close()
        finally:
            await asyncio.to_thread(server.remove)


async def _published_again(bus: EventBus) -> bool:
    try:
        await bus.stored("accounts", "e1")
        await bus.publish([bus_event(2), bus_event(3)])
    except StoreUnavailable:
        return False
    return True


async def test_a_client_that_finds_no_broker_any_more_is_replaced(kafka_url: str) -> None:
    """Whoever asks the cluster is told of a failure once, and asks by another client then."""
    bus = await KafkaEventBus.open(kafka_url, patience_s=2.0)
    with HeldPort() as port:  # as one that was cut off at an unlucky moment, and does not recover
        lost = Place.parse(f"kafka://127.0.0.1:{port}/bank")
        bus._topics._cluster._client = _Client(lost)
        asked = [asyncio.create_task(bus.end()) for _ in range(3)]
        for one in asked:
            with pytest.raises(StoreUnavailable):
                await one
        async with asyncio.timeout(WAIT_S_MAX):
            await bus.end()
        await bus.publish([bus_event(1)])
    await bus.close()


async def test_what_a_failed_call_left_behind_never_arrives(own_kafka: KafkaServer) -> None:
    """It would come before what the broker has lost, when that is published again."""
    events = [bus_event(n, stream="s") for n in range(1, 21)]
    before = await KafkaEventBus.open(own_kafka.url())
    await before.publish(events[:5])
    await before.close()
    await asyncio.to_thread(own_kafka.stop)
    copy = await asyncio.to_thread(own_kafka.keep_copy)
    await asyncio.to_thread(own_kafka.start)
    bus = await KafkaEventBus.open(own_kafka.url(), patience_s=2.0)

    async def last_stored() -> int:
        return max((await bus.stored("accounts", "e1")).values())

    other = await when_there(lambda: KafkaEventBus.open(own_kafka.url()))
    await other.publish(events[5:10])
    await other.close()
    await asyncio.to_thread(own_kafka.kill)
    with pytest.raises(StoreUnavailable):
        await asyncio.to_thread(  # as by a relay that has just taken over, while the broker ends
            bus._publisher.send, [bus._entry(event).record for event in events[10:]]
        )
    await asyncio.to_thread(own_kafka.set_back, copy)
    await asyncio.to_thread(own_kafka.start)
    while (stored := await when_there(last_stored)) < len(events):
        with contextlib.suppress(StoreUnavailable):
            await bus.publish(events[stored:])
    found = first_seen(await everything(bus))
    assert [event.position for event in found] == list(range(1, 21))
    await bus.close()


class LosingLine(Line):
    """Loses one request to store something; a second later, when others had time, it is cut."""

    armed = False
    lost = 0

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool
    ) -> None:
        if not count:
            await super()._pass_on(reader, writer, count=count)
            return
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = await reader.readexactly(4)
                request = await reader.readexactly(int.from_bytes(size))
                if self.armed and request[:2] == PRODUCE:
                    self.armed, self.lost = False, self.lost + 1
                    asyncio.get_running_loop().call_later(1.0, self.cut)
                    continue
                writer.write(size + request)
                await writer.drain()
        writer.transport.abort()


async def test_nothing_overtakes_a_request_that_was_lost(fresh_kafka: KafkaServer) -> None:
    """No later event comes before one whose request was lost on its way: readers would skip it."""
    data = b'"%s"' % (b"x" * 400_000)  # so that a call takes several requests
    large = [msgspec.structs.replace(bus_event(n, stream="s"), data=data) for n in range(1, 13)]
    async with LosingLine(0) as line:
        server = KafkaServer(like=fresh_kafka, advertised=line.port)
        line.lead_to(server.port)
        try:
            await asyncio.to_thread(server.start)
            bus = await KafkaEventBus.open(f"kafka://127.0.0.1:{line.port}/bank", patience_s=20.0)
            await bus.stored("accounts", "e1")  # which notes something
            line.armed = True

            async def last_stored() -> int:
                return max((await bus.stored("accounts", "e1")).values())

            stored = 0
            while stored < len(large):
                with contextlib.suppress(StoreUnavailable):
                    await bus.publish(large[stored:])
                stored = await when_there(last_stored)
            assert line.lost == 1
            found = first_seen(await everything(bus))
            assert [event.position for event in found] == list(range(1, 13))
            await bus.close()
        finally:
            await asyncio.to_thread(server.remove)


async def test_two_relays_at_once_lose_nothing(kafka_url: str) -> None:
    """Two that both believe to be the one publish the same: a reader finds each once, in order."""
    async with publisher_on(kafka_url, patience_s=10.0) as publisher:
        await publisher.append(100)
        await publisher.start()
        await publisher.start(views=MemoryViewStore())
        for _ in range(10):
            await publisher.append(50)
        await publisher.relayed()
        await publisher.check()


async def test_a_broker_that_is_not_there_yet_is_waited_for() -> None:
    """Nobody listens: it is unavailable, in a bounded time, and the message has no password."""
    with HeldPort() as port:
        url = f"kafka://ledger:s3cret@127.0.0.1:{port}/bank?security=SASL_PLAINTEXT"
        place = rf"kafka://127\.0\.0\.1:{port}/bank"
        with pytest.raises(StoreUnavailable, match=f"{place}.*onnection refused") as caught:
            await KafkaEventBus.open(url, patience_s=0.5)
    assert "s3cret" not in str(caught.value)
    assert caught.value.outcome == "not stored"


async def test_a_topic_that_was_deleted_and_made_anew(kafka_url: str, kafka_server: str) -> None:
    """It does not pass for the one that it was, for who has it open and who opens it."""
    bus = await KafkaEventBus.open(kafka_url)
    await bus.publish([bus_event(n, stream="s") for n in range(1, 11)])
    topic, admin = f"{kafka_url.rpartition('/')[2]}.events", admin_of(kafka_server[8:])
    async with subscription(bus, START) as pages:
        await anext(pages)
        admin.delete_topics([topic])[topic].result()
        with pytest.raises((StoreCorrupt, StoreUnavailable)):
            await asyncio.wait_for(anext(pages), WAIT_S_MAX)

    async def is_told(state: str) -> bool:
        with pytest.raises((StoreCorrupt, StoreUnavailable)) as caught:
            await bus.end()
        return state in str(caught.value)

    await until(lambda: is_told("is gone"), timeout_s=WAIT_S_MAX)
    other = await _made_anew(kafka_url)
    assert "was deleted and made anew" in str(other)
    await until(lambda: is_told("was deleted and made anew"), timeout_s=WAIT_S_MAX)
    with pytest.raises((StoreCorrupt, StoreUnavailable)):
        await collect(bus, 1)
    await bus.close()


async def _made_anew(url: str) -> StoreCorrupt:
    """Open a bus, which makes the topic anew as soon as the old one is quite gone."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            try:
                await (await KafkaEventBus.open(url)).close()
            except StoreCorrupt as error:
                return error
            except StoreUnavailable:
                continue


async def test_who_waits_is_told_when_it_is_closed(kafka_url: str) -> None:
    """Readers that wait, and calls under way, end soon with an error, and no thread stays."""
    bus = await KafkaEventBus.open(kafka_url)
    waiting = [asyncio.create_task(collect(bus, 1)) for _ in range(3)]
    ends = [asyncio.create_task(bus.end()) for _ in range(3)]
    await bus.publish([bus_event(1)])
    assert len(await asyncio.gather(*waiting)) == 3
    waiting = [asyncio.create_task(collect(bus, 1, after=await bus.end())) for _ in range(3)]
    await asyncio.gather(*ends)
    await bus.close()
    for task in waiting:
        with pytest.raises(StoreUnavailable, match="closed"):
            await task
    assert not bus._readers


async def test_a_poison_document_is_named_and_hides_nothing(
    kafka_url: str, kafka_server: str
) -> None:
    """What came before it in its partition is delivered, then it is named, each time."""
    bus = await KafkaEventBus.open(kafka_url)
    await bus.publish([bus_event(n, stream="s") for n in range(1, 6)])
    [partition] = {one.partition for one in await collect(bus, 5)}
    stranger = Producer({"bootstrap.servers": kafka_server[8:], "log_level": 0})
    stranger.produce(f"{kafka_url.rpartition('/')[2]}.events", b"rubbish", partition=partition)
    assert stranger.flush(WAIT_S_MAX) == 0
    await bus.publish([bus_event(6, stream="s")])
    assert len(await collect(bus, 5, after={partition: -1})) == 5
    for _ in range(2):
        with pytest.raises(Exception, match=rf"event at offset 5 of partition {partition} is mal"):
            await collect(bus, 6)
    await bus.close()
