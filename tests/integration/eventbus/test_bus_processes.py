"""Processes that share an event bus in SQLite, or in PostgreSQL."""

import asyncio
import json
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater._sql.waiting import SAFETY_S
from headwater.errors import MalformedMessage
from headwater.eventbus import EventBus
from headwater.testing.eventbus import START, collect, subscription
from tests.integration.eventbus.peer_bus import EVENTS, event, open_bus
from tests.integration.views.processes import peer
from tests.postgres_server import POSTGRES

SCRIPT = Path(__file__).with_name("peer_bus.py")
FOREIGN = {"specversion": "1.0", "id": "A-1", "source": "/weather", "type": "rain", "data": [1]}
INSERT = "INSERT INTO bus_events (partition, partition_offset, document) VALUES (?, ?, ?)"


@pytest.fixture(params=["sqlite", POSTGRES])
def path(request: pytest.FixtureRequest, tmp_path: str) -> str:
    """A file, or the URL of a schema."""
    if request.param == "sqlite":
        return str(tmp_path / "bus.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


ONLY_SQLITE = pytest.mark.parametrize("path", ["sqlite"], indirect=True)


@pytest.fixture
async def bus(path: str) -> AsyncIterator[EventBus]:
    bus = await open_bus(path)
    yield bus
    await bus.close()


async def test_two_processes_publish_and_one_subscribes(bus: EventBus, path: str) -> None:
    """Order per stream, nothing lost, and what both published is there once."""
    following = asyncio.create_task(collect(bus, 3 * EVENTS, page_size=50))
    async with peer(SCRIPT, "publish", path, "a") as a, peer(SCRIPT, "publish", path, "b") as b:
        assert [await a.end(), await b.end()] == ["done\n", "done\n"]
    found = await following
    assert sum((await bus.end()).values()) + 4 == len(found) == 3 * EVENTS
    for source in ("a", "b", "shared"):
        by_stream: dict[str, list[int]] = {}
        for delivery in found:
            if delivery.event.source == source:
                by_stream.setdefault(delivery.event.stream, []).append(delivery.event.position)
        assert len(by_stream) == 11
        for positions in by_stream.values():
            assert positions == list(range(positions[0], EVENTS + 1, 11))


async def test_a_killed_publisher_can_start_again(bus: EventBus, path: str) -> None:
    """What was acknowledged before a SIGKILL is there; all published again is not there twice."""
    async with peer(SCRIPT, "endless", path, "a") as publisher:
        for _ in range(50):
            acknowledged = int(await publisher.hear())
        await publisher.kill()
    stored = sum((await bus.end()).values()) + 4
    assert stored >= acknowledged == 50
    await bus.publish([event(n, "a") for n in range(1, stored + 6)])
    found = await collect(bus, stored + 5)
    assert sorted(d.event.position for d in found) == list(range(1, stored + 6))


async def test_publishing_wakes_other_processes(bus: EventBus, path: str) -> None:
    """An event that another process publishes is delivered within milliseconds."""
    delays = []
    async with peer(SCRIPT, "whenever", path, "a") as publisher, subscription(bus) as pages:
        for n in range(1, 21):
            waiting = asyncio.ensure_future(anext(pages))
            await publisher.tell(str(n))
            page = await asyncio.wait_for(waiting, 30)
            noticed = time.monotonic()
            assert [d.event.position for d in page] == [n]
            delays.append(noticed - float(await publisher.hear()))
        await publisher.tell("stop")
        await publisher.end()
    assert statistics.median(delays) < SAFETY_S / 2  # a lost wake-up takes all of it


@ONLY_SQLITE
async def test_publishers_of_one_process_share_commits(bus: EventBus, path: str) -> None:
    """Two hundred calls at once take a few transactions, not two hundred."""
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT 1 FROM bus_events").fetchall()
        commits = 0
        version = reader.execute("PRAGMA data_version").fetchone()
        publishing = asyncio.gather(*(bus.publish([event(n, "a")]) for n in range(1, 201)))
        while not publishing.done():
            await asyncio.sleep(0)
            if (now := reader.execute("PRAGMA data_version").fetchone()) != version:
                commits, version = commits + 1, now
        await publishing
    assert 1 <= commits <= 5
    assert len(await collect(bus, 200)) == 200


@ONLY_SQLITE
async def test_any_program_can_read_and_write(bus: EventBus, path: str) -> None:
    """The table holds CloudEvents documents; rows that others append are delivered."""
    await bus.publish([event(1, "a")])
    with closing(sqlite3.connect(path)) as other, other:
        ((document,),) = other.execute("SELECT document FROM bus_events").fetchall()
        assert json.loads(document)["specversion"] == "1.0"
        assert json.loads(document)["subject"] == "Account/1"
        end = await bus.end()
        for n in (1, 2):
            other.execute(INSERT, (2, end[2] + n, json.dumps(FOREIGN)))
    found = await collect(bus, 2, after={2: end[2]})
    assert [d.event.type for d in found] == ["rain", "rain"]
    assert [d.event.data for d in found] == [b"[1]", b"[1]"]
    positions = [d.event.position for d in found]
    assert positions == sorted(set(positions))
    assert found[0].event.epoch == ""


@ONLY_SQLITE
async def test_rubbish_is_named(bus: EventBus, path: str) -> None:
    """A row that is no CloudEvents document stops its readers with its place in the message."""
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(INSERT, (3, 0, "rubbish"))
    with pytest.raises(MalformedMessage, match="event at offset 0 of partition 3 is malformed"):
        await collect(bus, 1, after=START)
