"""How the SQLite event store divides its work among commits."""

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headwater._sql.sqlite.database import connect
from headwater.eventstore import Appended, NewEvent, StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.testing.eventstore_base import log_of

WAIT_S_MAX = 60


@asynccontextmanager
async def opened(path: Path, clock: Callable[[], int]) -> AsyncIterator[SQLiteEventStore]:
    store = await SQLiteEventStore.open(path, clock=clock, busy_timeout_s=WAIT_S_MAX)
    yield store
    await store.close()


async def append_at_once(store: SQLiteEventStore, count: int) -> list[asyncio.Task[Appended]]:
    """Begin so many appends; the writing thread gets to see them together."""
    gate = threading.Event()

    def hold(_: object) -> None:
        gate.wait(WAIT_S_MAX)

    store._database.post(hold)
    event = NewEvent("Happened", 1, b"{}", b"{}")
    tasks = [
        asyncio.create_task(store.append([StreamWrite(f"S/{n}", [event], 0)])) for n in range(count)
    ]
    await asyncio.sleep(0)
    assert len(store._pending) == count
    gate.set()
    return tasks


@pytest.mark.parametrize(("appends", "commits"), [(63, [63]), (64, [32, 32]), (101, [50, 51])])
async def test_a_burst_is_divided_in_two(tmp_path: Path, appends: int, commits: list[int]) -> None:
    """Many appends make two commits, so that one is settled while the other is written."""
    batches = itertools.count(1)
    async with opened(tmp_path / "events.db", lambda: next(batches)) as store:
        await asyncio.gather(*await append_at_once(store, appends))
        sizes = Counter(event.time for event in await log_of(store))
        assert [sizes[batch] for batch in sorted(sizes)] == commits


async def test_what_is_done_does_not_wait_for_another_process(tmp_path: Path) -> None:
    """What is on disk is acknowledged, though the next commit has to wait for its turn."""
    path = tmp_path / "events.db"
    rival = connect(path)
    batches = itertools.count(1)

    def clock() -> int:
        batch = next(batches)
        if batch == 2:  # between the two commits
            rival.execute("BEGIN IMMEDIATE")
        return batch

    async with opened(path, clock) as store:
        tasks = await append_at_once(store, 100)
        async with asyncio.timeout(WAIT_S_MAX):
            first = await asyncio.gather(*tasks[:50])
        assert [appended.last for appended in first] == list(range(1, 51))
        assert not any(task.done() for task in tasks[50:])
        rival.execute("ROLLBACK")
        second = await asyncio.gather(*tasks[50:])
        assert [appended.last for appended in second] == list(range(51, 101))
    rival.close()
