"""Several processes on one file: nothing is lost, left out or stored twice."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headwater._sql.waiting import SAFETY_S
from headwater.eventstore import EventStore, NewEvent, StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.testing.history import (
    Append,
    Call,
    History,
    Pages,
    RecordedStore,
    Refused,
    Stored,
    check_store,
)

WAIT_S_MAX = 60
PROCESSES = 3
STEPS = 25
TASKS = 4
EVENTS = PROCESSES * TASKS * STEPS * 4 + STEPS


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


async def work_at_once(place: object, calls: Path) -> list[dict[str, Any]]:
    """Let processes append to a store while one follows it; return what they report."""
    async with worker("follow", place, calls, EVENTS) as follower:
        assert follower.stdout is not None
        assert (await follower.stdout.readline()).strip() == b"ready"
        workers = [worker("work", place, calls, f"p{n}", STEPS) for n in range(PROCESSES)]
        processes = [await one.__aenter__() for one in workers]
        try:
            reports = [json.loads(text) for text in await asyncio.gather(*map(output, processes))]
        finally:
            for one in workers:
                await one.__aexit__(None, None, None)
        await output(follower)
    return reports


async def check_work(calls: Path, store: EventStore, reports: list[dict[str, Any]]) -> None:
    """All that the processes did is in the log, once, and they saw just that, in order."""
    history = History.load(calls)
    verdict = await check_store(history, store)
    assert not verdict.violations, verdict
    assert verdict.events == EVENTS
    assert len({call.process for call in history}) == PROCESSES + 1
    conflicts = sum(_is_refused(call, "concurrency-conflict") for call in history)
    assert conflicts == sum(report["conflicts"] for report in reports)
    assert sorted(name for report in reports for name in report["taken"]) == list(range(STEPS))
    followed = [call.outcome for call in history if call.session == "follower"]
    seen = [place for page in followed if isinstance(page, Pages) for place in page.positions]
    assert seen == list(range(1, EVENTS + 1))


def _is_refused(call: Call, code: str) -> bool:
    return isinstance(call.outcome, Refused) and call.outcome.code == code


async def kill_on_the_way(place: object, calls: Path) -> None:
    """Let a process append, and kill it after some hundred acknowledgements."""
    async with worker("forever", place, calls) as process:
        assert process.stdout is not None
        for _ in range(400):
            await asyncio.wait_for(process.stdout.readline(), WAIT_S_MAX)
        process.kill()
        await process.communicate()


async def check_after_kill(calls: Path, store: EventStore) -> None:
    """All that was acknowledged is stored, nothing in part or twice, and the store is usable."""
    history = History.load(calls)
    again = RecordedStore(history, store)
    for call in list(history):
        if isinstance(call.request, Append) and call.is_open:
            await again.outcome(call.request.key)  # settled, one way or the other
    await again.append([StreamWrite("after", [NewEvent("A", 1, b"", b"")], 0)])
    verdict = await check_store(history, store)
    assert not verdict.violations, verdict
    assert sum(isinstance(call.outcome, Stored) for call in history) > 400
    assert verdict.events % 2 == 1


async def test_processes_append_at_once(tmp_path: Path) -> None:
    """Nothing is lost, doubled or out of order, no condition is broken, no refusal unfounded."""
    path, calls = tmp_path / "events.db", tmp_path / "calls.jsonl"
    reports = await work_at_once(path, calls)
    store = await SQLiteEventStore.open(path)
    await check_work(calls, store, reports)
    await store.close()


async def test_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """After SIGKILL everything acknowledged is stored, nothing in part, and the file is usable."""
    path, calls = tmp_path / "events.db", tmp_path / "calls.jsonl"
    await kill_on_the_way(path, calls)
    store = await SQLiteEventStore.open(path)
    await check_after_kill(calls, store)
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
