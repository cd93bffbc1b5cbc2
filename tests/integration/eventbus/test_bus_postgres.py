"""An event bus in PostgreSQL: other programs on its tables, many callers, a server that fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from headwater.errors import MalformedMessage, StoreUnavailable
from headwater.eventbus import partition_of
from headwater.eventbus.postgres import PostgresEventBus
from headwater.testing.eventbus import START, bus_event, collect, subscription
from tests.postgres_server import PostgresServer

WAIT_S_MAX = 30.0
FOREIGN = {"specversion": "1.0", "id": "A-1", "source": "/weather", "type": "rain", "data": [1]}
APPEND = "SELECT bus_append($1, $2, array_fill(null::integer, $3), array_fill(null::bigint, $3))"


@pytest.fixture
async def bus(postgres_url: str) -> AsyncIterator[PostgresEventBus]:
    bus = await PostgresEventBus.open(postgres_url)
    yield bus
    await bus.close()


async def value(bus: PostgresEventBus, sql: str, *values: Any) -> Any:
    async with bus._database.connection() as connection:
        return await connection.fetchval(sql, *values)


async def append(bus: PostgresEventBus, partition: int, *documents: str) -> None:
    """Append as another program does."""
    count = len(documents)
    await value(bus, APPEND, [partition] * count, list(documents), [count])


async def test_any_program_can_read_and_write(bus: PostgresEventBus) -> None:
    """The table holds CloudEvents documents; what others append with the function is delivered."""
    await bus.publish([bus_event(1)])
    document = json.loads(await value(bus, "SELECT document FROM bus_events"))
    assert (document["specversion"], document["subject"]) == ("1.0", "Account/1")
    end = await bus.end()
    await append(bus, 2, json.dumps(FOREIGN), json.dumps(FOREIGN))
    found = await collect(bus, 2, after={2: end[2]})
    assert [(d.event.type, d.event.data) for d in found] == [("rain", b"[1]")] * 2
    positions = [d.event.position for d in found]
    assert positions == sorted(set(positions))


async def test_rubbish_is_named(bus: PostgresEventBus) -> None:
    """A row that is no CloudEvents document stops its readers with its place in the message."""
    await append(bus, 3, "rubbish")
    with pytest.raises(MalformedMessage, match="event at offset 0 of partition 3 is malformed"):
        await collect(bus, 1, after=START)


async def test_malformed_events_are_refused_whole(bus: PostgresEventBus) -> None:
    """One event that cannot be encoded keeps its whole call out, and no other."""
    broken = msgspec.structs.replace(bus_event(2), metadata=b'{"traceparent"')
    with pytest.raises(MalformedMessage, match="metadata of 'MoneyWithdrawn'"):
        await bus.publish([bus_event(1), broken])
    assert await bus.end() == START
    await bus.publish([bus_event(3)])
    assert [d.event.position for d in await collect(bus, 1)] == [3]


async def test_publishers_of_one_process_share_commits(bus: PostgresEventBus) -> None:
    """Two hundred calls at once take a few transactions, not two hundred."""
    await asyncio.gather(*(bus.publish([bus_event(n)]) for n in range(1, 201)))
    assert 1 <= await value(bus, "SELECT count(DISTINCT xmin::text) FROM bus_events") <= 5
    assert len(await collect(bus, 200)) == 200


async def test_appending_looks_up_what_it_needs(postgres_url: str) -> None:
    """Publishing never reads through the log, not even while the server has no statistics of it."""
    bus = await PostgresEventBus.open(postgres_url)
    for number in range(0, 100, 10):
        await bus.publish([bus_event(number + n) for n in range(1, 11)])
    await bus.close()  # its connections say what they have read
    other = await PostgresEventBus.open(postgres_url)
    read = (
        "SELECT seq_tup_read FROM pg_stat_user_tables WHERE n_tup_ins = 100"
        " AND schemaname = current_schema() AND relname = 'bus_events'"
    )
    async with asyncio.timeout(WAIT_S_MAX):
        while (found := await value(other, read)) is None:
            pass
    assert found == 0
    await other.close()


async def test_offsets_become_visible_in_order(bus: PostgresEventBus, postgres_url: str) -> None:
    """While one transaction appends to a partition the next waits, and other partitions go on."""
    other = await PostgresEventBus.open(postgres_url)
    quiet = next(n for n in range(1, 8) if n % 7 and _partition(n) != _partition(1))
    async with other._database.transaction() as open_one:
        await open_one.execute(APPEND, [_partition(1)], [json.dumps(FOREIGN)], [1])
        waiting = asyncio.create_task(bus.publish([bus_event(1)]))
        await _locked_out(other)
        assert await bus.end() == START
        await other.publish([bus_event(quiet)])
        assert not waiting.done()
    await waiting
    found = await collect(bus, 2, after={_partition(1): -1})
    assert [d.event.source for d in found] == ["/weather", "accounts"]
    await other.close()


def _partition(number: int) -> int:
    return partition_of(bus_event(number).stream, 4)


async def _locked_out(bus: PostgresEventBus) -> None:
    """Wait until somebody waits for the lock of a partition."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with asyncio.timeout(WAIT_S_MAX):
        while not await value(bus, waiting):
            pass


async def test_the_server_comes_back(own_postgres: PostgresServer) -> None:
    """Killed and started again: what was acknowledged is there, publishing and reading go on."""
    bus = await PostgresEventBus.open(own_postgres.url())
    acknowledged: list[int] = []

    async def publish() -> None:
        for number in range(1, 10_000):
            await bus.publish([bus_event(number, stream="s")])
            acknowledged.append(number)

    publishing = asyncio.create_task(publish())
    async with subscription(bus) as pages:
        while len(acknowledged) < 20:
            await anext(pages)
        await asyncio.to_thread(own_postgres.kill)
        with pytest.raises(StoreUnavailable):
            await publishing
        with pytest.raises(StoreUnavailable):  # noqa: PT012  # pages that were read before may come
            while True:
                await asyncio.wait_for(anext(pages), WAIT_S_MAX)
    with pytest.raises(StoreUnavailable):
        await bus.end()
    await asyncio.to_thread(own_postgres.start)
    following = asyncio.create_task(collect(bus, acknowledged[-1] + 5))
    events = [bus_event(n, stream="s") for n in range(1, acknowledged[-1] + 6)]
    async with asyncio.timeout(WAIT_S_MAX):
        await bus.publish(events)
    assert [d.event.position for d in await following] == [e.position for e in events]
    await bus.close()
