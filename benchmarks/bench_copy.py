"""Copying an event store into another one; beside it, only reading the source."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.harness import Measured, benchmark
from benchmarks.postgres import schema
from headwater.eventstore import EventStore, Idempotency, NewEvent, StreamWrite
from headwater.eventstore.compare import compare_stores
from headwater.eventstore.copy import PAGE, copy_store
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore

EVENTS = 40_000
EVENTS_PER_KEY = 4
_AT_ONCE = 500
_READ = "reading the source"

_DATA = b'{"account_id":"0190c2f1-7c1e-7d3a","amount":1250,"reference":"purchase"}'
_METADATA = (
    b'{"id":"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","correlation_id":'
    b'"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","time":1700000000000000}'
)


async def _append(store: EventStore, number: int) -> None:
    name = f"Account/{number % 1000}"
    events = [NewEvent("MoneyWithdrawn", 1, _DATA, _METADATA, (name,))] * EVENTS_PER_KEY
    await store.append([StreamWrite(name, events)], idempotency=Idempotency(f"{number}"))


@asynccontextmanager
async def _source() -> AsyncIterator[tuple[EventStore, Path]]:
    """Give a store in SQLite: 1,000 streams, a tag on each event, a key for each fourth."""
    with tempfile.TemporaryDirectory() as directory:
        store = await SQLiteEventStore.open(Path(directory) / "events.db")
        for start in range(0, EVENTS // EVENTS_PER_KEY, _AT_ONCE):
            await asyncio.gather(*(_append(store, start + n) for n in range(_AT_ONCE)))
        try:
            yield store, Path(directory)
        finally:
            await store.close()


async def _copied(source: EventStore, target: EventStore) -> Measured:
    began = time.perf_counter()
    async for _ in source.read(page_size=PAGE):
        pass
    reading = EVENTS / (time.perf_counter() - began)
    began = time.perf_counter()
    copied = await copy_store(source, target)
    elapsed = time.perf_counter() - began
    assert (copied.position, copied.keys) == (EVENTS, EVENTS // EVENTS_PER_KEY)
    return Measured(EVENTS / elapsed, reading)


@benchmark("copy.postgres", unit="events/s", peer=_READ, runs=3)
async def copy_postgres() -> Measured:
    """From SQLite to PostgreSQL, keys included."""
    async with _source() as (source, _), schema() as url:
        target = await PostgresEventStore.open(url)
        try:
            return await _copied(source, target)
        finally:
            await target.close()


@benchmark("copy.sqlite", unit="events/s", peer=_READ, runs=3)
async def copy_sqlite() -> Measured:
    """From one SQLite file to another, keys included."""
    async with _source() as (source, directory):
        target = await SQLiteEventStore.open(directory / "copy.db")
        try:
            return await _copied(source, target)
        finally:
            await target.close()


@benchmark("copy.check", unit="events/s", peer=_READ, runs=3)
async def copy_check() -> Measured:
    """Comparing a store in SQLite with its copy in PostgreSQL."""
    async with _source() as (source, _), schema() as url:
        target = await PostgresEventStore.open(url)
        try:
            reading = (await _copied(source, target)).peer_value
            began = time.perf_counter()
            found = await compare_stores(source, target)
            elapsed = time.perf_counter() - began
            assert not found.difference
            return Measured(EVENTS / elapsed, reading)
        finally:
            await target.close()
