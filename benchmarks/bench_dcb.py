"""Appends under a condition (a dynamic consistency boundary): one event with two tags."""

import asyncio
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.engines import Engine, event_store
from benchmarks.harness import Measured, benchmark
from benchmarks.peer import PEER, Environment, best_of_threads
from headwater.eventstore import (
    AppendCondition,
    EventFilter,
    EventStore,
    FilterItem,
    NewEvent,
    StreamWrite,
)

if TYPE_CHECKING:
    from eventsourcing.dcb.api import DCBRecorder

CALLERS = 256
APPENDS = 12_800
PEER_APPENDS = 640
STUDENTS = 1000
COURSES = 50

TYPE = "StudentSubscribed"
DATA = b'{"student_id":"0190c2f1-7c1e-7d3a","course_id":"0190c2f1-9c2e-7e4b"}'
METADATA = (
    b'{"id":"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","correlation_id":'
    b'"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","time":1700000000000000}'
)


def tags_of(number: int) -> tuple[str, str]:
    """Give each of 50,000 appends another pair, so that no condition fails."""
    return f"student:{number % STUDENTS}", f"course:{number // STUDENTS % COURSES}"


async def append_rate(
    store: EventStore, *, callers: int = CALLERS, appends: int = APPENDS
) -> float:
    """Return how many conditional appends a second so many concurrent callers get answered."""

    async def caller(numbers: range) -> None:
        for number in numbers:
            tags = tags_of(number)
            condition = AppendCondition(EventFilter((FilterItem((TYPE,), tags),)), 0)
            event = NewEvent(TYPE, 1, DATA, METADATA, tags)
            await store.append([StreamWrite(tags[0], [event])], condition=condition)

    began = time.perf_counter()
    await asyncio.gather(*(caller(range(n, appends, callers)) for n in range(callers)))
    elapsed = time.perf_counter() - began
    assert await store.head() == appends
    return appends / elapsed


def _recorder(settings: Environment) -> "DCBRecorder":
    from eventsourcing.dcb.postgres_tt import PostgresTTDCBFactory
    from eventsourcing.utils import Environment as Settings

    return PostgresTTDCBFactory(Settings(env=settings)).dcb_recorder()


def _peer_rate(settings: Environment, threads: int) -> float:
    from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem

    recorder = _recorder(settings)

    def caller(first: int) -> None:
        for number in itertools.islice(itertools.count(first, threads), PEER_APPENDS // threads):
            tags = list(tags_of(number))
            condition = DCBAppendCondition(DCBQuery([DCBQueryItem([TYPE], tags)]), 0)
            recorder.append([DCBEvent(TYPE, DATA, tags)], condition)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(caller, range(threads)))
    elapsed = time.perf_counter() - began
    recorder.datastore.close()
    return PEER_APPENDS // threads * threads / elapsed


async def _measured(engine: Engine, peer: float | None) -> Measured:
    async with event_store(engine) as store:
        return Measured(await append_rate(store), peer)


@benchmark("dcb.postgres", unit="appends/s", peer=f"{PEER}, best of threads", runs=3)
async def dcb_postgres() -> Measured:
    """256 callers, each append under the condition that no event has its type and both tags."""
    return await _measured("postgres", await best_of_threads(_peer_rate, "postgres"))


@benchmark("dcb.sqlite", unit="appends/s", runs=3)
async def dcb_sqlite() -> Measured:
    """256 callers, each append under the condition that no event has its type and both tags."""
    return await _measured("sqlite", None)
