"""What appending and loading cost in a store that grows.

Both go on in a store of 10,000 events, of 100,000, and so on up to ``HEADWATER_BENCH_EVENTS``
(default 1,000,000). Streams have 100 events, and 100 of them grow side by side, so that no two
events of one lie together. The ratio is that of the largest store to the smallest: 1 means that
the size makes no difference.
"""

import asyncio
import functools
import itertools
import os
import random
import statistics
import time
from collections.abc import Iterator

import msgspec

from benchmarks.bank import Account, MoneyWithdrawn
from benchmarks.engines import Engine, event_store
from benchmarks.harness import Measured, benchmark
from headwater.eventstore import EventStore, NewEvent, StoredEvent, StreamWrite
from headwater.eventstore.postgres import PostgresEventStore
from headwater.messages import Metadata, new_id
from headwater.messages.codec import encode_metadata
from headwater.modelling import Repository

EVENTS_MAX = int(os.environ.get("HEADWATER_BENCH_EVENTS", "1000000"))
SMALLEST = 10_000
LENGTH = 100
BLOCK = LENGTH * LENGTH
PAGE = 20_000
ROUNDS = 5
WRITERS = 16
WRITES = 3
EVENTS_PER_WRITE = 100
CALLERS = 256
SINGLES = 4
LOADS = 200
_SETTLE_S_MAX = 600.0

_DATA = msgspec.json.encode(MoneyWithdrawn("0190c2f1-7c1e-7d3a", 1))
_ID = new_id()
_METADATA = encode_metadata(Metadata(id=_ID, correlation_id=_ID, time=1))
_EVENT = NewEvent("MoneyWithdrawn", 1, _DATA, _METADATA)
_SIZES = (SMALLEST * 10**n for n in itertools.count())
SIZES = tuple(itertools.takewhile(lambda size: size <= EVENTS_MAX, _SIZES))

Lines = dict[str, dict[float, float]]
"""By what is measured: its rate by the number of events in the store."""


def _log() -> Iterator[tuple[str, int]]:
    """Give the stream and the version of each event of a log without end."""
    for number in itertools.count():
        block, place = divmod(number, BLOCK)
        yield f"Account/{block * LENGTH + place % LENGTH}", place // LENGTH + 1


async def _fill(store: EventStore, log: Iterator[tuple[str, int]], count: int) -> None:
    """Import so many events more."""
    position = await store.head()
    end = position + count
    while position < end:
        now = time.time_ns() // 1000
        part = itertools.islice(log, min(PAGE, end - position))
        events = [
            StoredEvent(n, stream, version, "MoneyWithdrawn", 1, now, (), _DATA, _METADATA)
            for n, (stream, version) in enumerate(part, start=position + 1)
        ]
        await store.import_events(events, epoch=store.epoch)
        position += len(events)


async def _settle(store: EventStore) -> None:
    """Finish what filling left to do in the background, which is no part of what follows."""
    if isinstance(store, PostgresEventStore):
        database = store._database  # noqa: SLF001  # nobody else needs it
        async with database.connection() as connection:
            for statement in ("VACUUM ANALYZE events", "CHECKPOINT"):
                await connection.execute(statement, timeout=_SETTLE_S_MAX)
    await asyncio.to_thread(os.sync)


async def _append(store: EventStore, names: Iterator[int]) -> float:
    """Append writes of 100 events to new streams from 16 callers; return events/s."""

    async def caller(stream: str) -> None:
        for write in range(WRITES):
            events = [_EVENT] * EVENTS_PER_WRITE
            await store.append([StreamWrite(stream, events, write * EVENTS_PER_WRITE)])

    streams = [f"Batch/{next(names)}" for _ in range(WRITERS)]
    began = time.perf_counter()
    await asyncio.gather(*(caller(stream) for stream in streams))
    return WRITERS * WRITES * EVENTS_PER_WRITE / (time.perf_counter() - began)


async def _append_singles(store: EventStore, streams: range, chosen: random.Random) -> float:
    """Append single events to some of the streams from 256 callers; return appends/s."""
    names = [f"Account/{chosen.choice(streams)}" for _ in range(CALLERS)]

    async def caller(stream: str) -> None:
        for _ in range(SINGLES):
            await store.append([StreamWrite(stream, [_EVENT])])

    began = time.perf_counter()
    await asyncio.gather(*(caller(name) for name in names))
    return CALLERS * SINGLES / (time.perf_counter() - began)


async def _load(store: EventStore, streams: range, chosen: random.Random) -> float:
    """Load aggregates of 100 events, some of the streams, one by one; return loads/s."""
    repository = Repository(Account, store, source="bench")
    names = [f"{chosen.choice(streams)}" for _ in range(LOADS)]
    began = time.perf_counter()
    for name in names:
        assert (await repository.state(name)).version >= LENGTH
    elapsed = time.perf_counter() - began
    await repository.close()
    return LOADS / elapsed


async def _versions(store: EventStore, streams: range, chosen: random.Random) -> float:
    """Look up versions of some of the streams, one by one; return look-ups/s."""
    names = [f"Account/{chosen.choice(streams)}" for _ in range(LOADS)]
    began = time.perf_counter()
    for name in names:
        assert await store.version(name) >= LENGTH
    return LOADS / (time.perf_counter() - began)


async def _measure(store: EventStore, size: int, names: Iterator[int]) -> dict[str, float]:
    """Return the medians of some rounds, by line."""
    everywhere = range(size // LENGTH)
    recent = everywhere[-LENGTH:]
    rounds = []
    for number in range(ROUNDS):
        chosen = random.Random(number)
        found = {
            "load, recent stream": await _load(store, recent, chosen),
            "load, any stream": await _load(store, everywhere, chosen),
            "version, any stream": await _versions(store, everywhere, chosen),
            "write of 100 events": await _append(store, names),
            "single event, recent stream": await _append_singles(store, recent, chosen),
            "single event, any stream": await _append_singles(store, everywhere, chosen),
        }
        rounds.append(found)
    return {line: statistics.median(found[line] for found in rounds) for line in rounds[0]}


async def _grow(engine: Engine) -> Lines:
    async with event_store(engine) as store:
        lines: Lines = {}
        log, names, filled = _log(), itertools.count(), 0
        for size in SIZES:
            await _fill(store, log, size - filled)
            filled = size
            await _settle(store)
            for line, value in (await _measure(store, size, names)).items():
                lines.setdefault(line, {})[size] = value
        return lines


@functools.cache  # filled and measured once, for two benchmarks
def _grown(engine: Engine) -> Lines:
    return asyncio.run(_grow(engine))


def _measured(engine: Engine, main: str, *others: str) -> Measured:
    lines = _grown(engine)
    smallest, largest = SIZES[0], SIZES[-1]
    ratios = {f"ratio, {name}": lines[name][largest] / lines[name][smallest] for name in others}
    curve = {name: lines[name] for name in (main, *others)}
    return Measured(lines[main][largest], lines[main][smallest], ratios, curve)


def _appends(engine: Engine) -> Measured:
    return _measured(
        engine, "write of 100 events", "single event, recent stream", "single event, any stream"
    )


def _loads(engine: Engine) -> Measured:
    return _measured(engine, "load, recent stream", "load, any stream", "version, any stream")


_PEER = "the same with 10,000 events in the store"


@benchmark("growth.append.sqlite", unit="events/s", peer=_PEER, runs=1)
def growth_append_sqlite() -> Measured:
    """Append writes of 100 events to new streams, and single events to old ones."""
    return _appends("sqlite")


@benchmark("growth.append.postgres", unit="events/s", peer=_PEER, runs=1)
def growth_append_postgres() -> Measured:
    """Append writes of 100 events to new streams, and single events to old ones."""
    return _appends("postgres")


@benchmark("growth.load.sqlite", unit="loads/s", peer=_PEER, runs=1)
def growth_load_sqlite() -> Measured:
    """Load aggregates of 100 events without a snapshot, and look up versions."""
    return _loads("sqlite")


@benchmark("growth.load.postgres", unit="loads/s", peer=_PEER, runs=1)
def growth_load_postgres() -> Measured:
    """Load aggregates of 100 events without a snapshot, and look up versions."""
    return _loads("postgres")
