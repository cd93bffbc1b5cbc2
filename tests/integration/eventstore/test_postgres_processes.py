"""Several processes on one PostgreSQL schema: nothing is lost, left out or stored twice."""

import asyncio
import json
import time
from itertools import pairwise

from headwater._sql.postgres_wake import SAFETY_S
from headwater.eventstore import NewEvent, StoredEvent, StreamWrite
from headwater.eventstore.postgres import PostgresEventStore
from headwater.testing.eventstore_base import log_of
from tests.integration.eventstore.test_processes import (
    PROCESSES,
    STEPS,
    TASKS,
    WAIT_S_MAX,
    output,
    worker,
)


def check_dense(log: list[StoredEvent]) -> dict[str, int]:
    """Positions and versions have no gap, time never falls; return the version of each stream."""
    assert [stored.position for stored in log] == list(range(1, len(log) + 1))
    versions: dict[str, int] = {}
    for stored in log:
        versions[stored.stream] = versions.get(stored.stream, 0) + 1
        assert stored.version == versions[stored.stream]
    assert all(earlier.time <= later.time for earlier, later in pairwise(log))
    return versions


async def count_gaps(store: PostgresEventStore, done: asyncio.Event) -> tuple[int, int]:
    """Look again and again whether there is a gap; return how often there was, and the looks."""
    gaps = looks = 0
    sql = "SELECT count(*) IS DISTINCT FROM coalesce(max(position), 0) FROM events"
    while not done.is_set():
        gaps += await store._database.read(lambda connection: connection.fetchval(sql))
        looks += 1
    return gaps, looks


async def test_processes_append_at_once(postgres_url: str) -> None:
    """Positions and versions stay dense at all times, no update is lost, no condition broken."""
    store = await PostgresEventStore.open(postgres_url)
    done = asyncio.Event()
    looking = asyncio.ensure_future(count_gaps(store, done))
    expected = PROCESSES * TASKS * STEPS * 4 + STEPS
    async with worker("follow", postgres_url, expected) as follower:
        assert follower.stdout is not None
        assert (await follower.stdout.readline()).strip() == b"ready"
        workers = [worker("work", postgres_url, f"p{n}", STEPS) for n in range(PROCESSES)]
        processes = [await one.__aenter__() for one in workers]
        try:
            reports = [json.loads(text) for text in await asyncio.gather(*map(output, processes))]
        finally:
            for one in workers:
                await one.__aexit__(None, None, None)
        seen = [line.split() for line in (await output(follower)).splitlines()]
    done.set()
    gaps, looks = await looking
    assert gaps == 0
    assert looks > 10
    log = await log_of(store)
    await store.close()
    assert len(log) == expected
    versions = check_dense(log)
    assert sum(v for s, v in versions.items() if s.startswith("counter/")) == 2 * (
        PROCESSES * TASKS * STEPS
    )
    assert sorted(name for report in reports for name in report["taken"]) == list(range(STEPS))
    assert seen == [[str(s.position), s.stream, str(s.version)] for s in log]


async def test_acknowledged_survives_a_kill(postgres_url: str) -> None:
    """After SIGKILL of a process everything acknowledged is stored, and nothing in part."""
    acknowledged: dict[str, int] = {}
    async with worker("forever", postgres_url) as process:
        assert process.stdout is not None
        for _ in range(400):
            line = await asyncio.wait_for(process.stdout.readline(), WAIT_S_MAX)
            key, first = line.decode().split()
            acknowledged[key] = int(first)
        process.kill()
        rest, _ = await process.communicate()
    for line in rest.decode().splitlines(keepends=True):
        if line.endswith("\n"):
            key, first = line.split()
            acknowledged[key] = int(first)
    store = await PostgresEventStore.open(postgres_url)
    await store.append([StreamWrite("after", [NewEvent("A", 1, b"", b"")] * 2, 0)])
    log = await log_of(store)
    check_dense(log)
    assert len(log) % 2 == 0
    for key, first in acknowledged.items():
        pair = log[first - 1 : first + 1]
        assert [json.loads(stored.data) for stored in pair] == [{"by": key}] * 2
        stored_outcome = await store.outcome(key)
        assert stored_outcome is not None
        assert stored_outcome[0].first == first
    await store.close()


async def test_followers_in_other_processes_wake_soon(postgres_url: str) -> None:
    """An event reaches a waiting follower in another process long before its safety check."""
    store = await PostgresEventStore.open(postgres_url)
    events = 30
    delays = []
    async with worker("echo", postgres_url, events) as process:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"ready"
        for _ in range(events):
            started = time.monotonic()
            await store.append([StreamWrite("a", [NewEvent("A", 1, b"", b"")])])
            await asyncio.wait_for(process.stdout.readline(), WAIT_S_MAX)
            delays.append(time.monotonic() - started)
        await output(process)
    await store.close()
    assert sorted(delays)[events // 2] < SAFETY_S / 2  # a lost wake-up takes all of it
