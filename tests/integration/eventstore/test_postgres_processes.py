"""Several processes on one PostgreSQL schema: nothing is lost, left out or stored twice."""

import asyncio
import time
from itertools import pairwise
from pathlib import Path

from headwater._sql.waiting import SAFETY_S
from headwater.eventstore import NewEvent, StoredEvent, StreamWrite
from headwater.eventstore.postgres import PostgresEventStore
from tests.integration.eventstore.test_processes import (
    WAIT_S_MAX,
    check_after_kill,
    check_work,
    kill_on_the_way,
    output,
    work_at_once,
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


async def test_processes_append_at_once(postgres_url: str, tmp_path: Path) -> None:
    """Nothing is lost, doubled, out of order, or missing for a moment; no condition is broken."""
    store = await PostgresEventStore.open(postgres_url)
    done = asyncio.Event()
    looking = asyncio.ensure_future(count_gaps(store, done))
    calls = tmp_path / "calls.jsonl"
    reports = await work_at_once(postgres_url, calls)
    done.set()
    gaps, looks = await looking
    assert gaps == 0
    assert looks > 10
    await check_work(calls, store, reports)
    await store.close()


async def test_acknowledged_survives_a_kill(postgres_url: str, tmp_path: Path) -> None:
    """After SIGKILL of a process everything acknowledged is stored, and nothing in part."""
    calls = tmp_path / "calls.jsonl"
    await kill_on_the_way(postgres_url, calls)
    store = await PostgresEventStore.open(postgres_url)
    await check_after_kill(calls, store)
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
