"""Several processes on one file: nothing is lost, left out or stored twice."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from headwater._sql.wake import SAFETY_S
from headwater.eventstore import NewEvent, StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.testing.eventstore_base import log_of

WAIT_S_MAX = 60
PROCESSES = 3
STEPS = 25
TASKS = 4


@asynccontextmanager
async def worker(*arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the worker; it is gone at the end of the block, whatever happens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.eventstore.worker",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def output(process: asyncio.subprocess.Process) -> str:
    out, _ = await asyncio.wait_for(process.communicate(), WAIT_S_MAX)
    assert process.returncode == 0
    return out.decode()


async def test_processes_append_at_once(tmp_path: Path) -> None:
    """Positions and versions stay dense, no update is lost, and no condition is broken."""
    path = tmp_path / "events.db"
    expected = PROCESSES * TASKS * STEPS * 4 + STEPS
    async with worker("follow", path, expected) as follower:
        assert follower.stdout is not None
        assert (await follower.stdout.readline()).strip() == b"ready"
        workers = [worker("work", path, f"p{n}", STEPS) for n in range(PROCESSES)]
        processes = [await one.__aenter__() for one in workers]
        try:
            reports = [json.loads(text) for text in await asyncio.gather(*map(output, processes))]
        finally:
            for one in workers:
                await one.__aexit__(None, None, None)
        seen = [line.split() for line in (await output(follower)).splitlines()]
    store = await SQLiteEventStore.open(path)
    log = await log_of(store)
    await store.close()
    assert [stored.position for stored in log] == list(range(1, expected + 1))
    versions: dict[str, int] = {}
    for stored in log:
        versions[stored.stream] = versions.get(stored.stream, 0) + 1
        assert stored.version == versions[stored.stream]
    assert sum(v for s, v in versions.items() if s.startswith("counter/")) == 2 * (
        PROCESSES * TASKS * STEPS
    )
    assert all(earlier.time <= later.time for earlier, later in pairwise(log))
    assert sorted(name for report in reports for name in report["taken"]) == list(range(STEPS))
    assert seen == [[str(s.position), s.stream, str(s.version)] for s in log]


async def test_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """After SIGKILL everything acknowledged is stored, nothing in part, and the file is usable."""
    path = tmp_path / "events.db"
    acknowledged: dict[str, int] = {}
    async with worker("forever", path) as process:
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
    store = await SQLiteEventStore.open(path)
    log = await log_of(store)
    assert [stored.position for stored in log] == list(range(1, len(log) + 1))
    assert len(log) % 2 == 0
    for key, first in acknowledged.items():
        pair = log[first - 1 : first + 1]
        assert [json.loads(stored.data) for stored in pair] == [{"by": key}] * 2
        stored_outcome = await store.outcome(key)
        assert stored_outcome is not None
        assert stored_outcome[0].first == first
    outcome = await store.append([StreamWrite("after", [NewEvent("A", 1, b"", b"")], 0)])
    assert outcome.first == len(log) + 1
    await store.close()


async def test_followers_in_other_processes_wake_soon(tmp_path: Path) -> None:
    """An event reaches a waiting follower in another process long before its safety check."""
    path = tmp_path / "events.db"
    store = await SQLiteEventStore.open(path)
    events = 30
    delays = []
    async with worker("echo", path, events) as process:
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
