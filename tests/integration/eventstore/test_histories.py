"""Whatever callers do at once: each backend's log agrees with what they were told."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.eventstore import EventStore
from headwater.eventstore.memory import MemoryEventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.testing.eventstore_history import Work
from headwater.testing.history import History, RecordedStore, check_store

WORK = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "callers": st.integers(1, 6),
        "steps": st.integers(1, 25),
        "cancelled": st.integers(0, 5),
    }
)
LIMITS = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


async def agree(stores: Sequence[EventStore], work: dict[str, int]) -> None:
    """Let callers work with stores of one log, and judge what they were told."""
    before = await stores[0].head()
    seed = work["seed"]
    callers = {name: number for name, number in work.items() if name != "seed"}
    history = History()
    workers = [
        Work(RecordedStore(history, store), seed + number, name=f"{before}-{number}")
        for number, store in enumerate(stores)
    ]
    await asyncio.gather(*(worker.run(**callers) for worker in workers))
    verdict = await check_store(history, stores[0], foreign=lambda event: event.position <= before)
    for store in stores:
        await store.close()
    assert not verdict.violations, verdict


@LIMITS
@given(work=WORK)
def test_in_memory(work: dict[str, int]) -> None:
    """The model itself is honest."""
    asyncio.run(agree([MemoryEventStore()], work))


@LIMITS
@given(work=WORK)
def test_in_sqlite(tmp_path: Path, work: dict[str, int]) -> None:
    """Two stores on one file, with group commits, threads and locks between them, are honest."""

    async def run() -> None:
        path = tmp_path / "events.db"
        await agree([await SQLiteEventStore.open(path) for _ in range(2)], work)

    asyncio.run(run())


@settings(LIMITS, max_examples=10)
@given(work=WORK)
def test_in_postgres(postgres_url: str, work: dict[str, int]) -> None:
    """Two stores on one schema, with group commits and connections between them, are honest."""

    async def run() -> None:
        await agree([await PostgresEventStore.open(postgres_url) for _ in range(2)], work)

    asyncio.run(run())
