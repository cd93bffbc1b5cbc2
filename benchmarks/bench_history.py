"""The checker of histories: a million calls and the log that they led to."""

import time
from collections.abc import Iterator
from pathlib import Path
from resource import getpagesize

from benchmarks.harness import Measured, benchmark
from headwater.eventstore import (
    AppendCondition,
    EventFilter,
    FilterItem,
    Idempotency,
    NewEvent,
    StoredEvent,
    StreamWrite,
)
from headwater.eventstore.memory import MemoryEventStore
from headwater.testing.history import (
    Append,
    Call,
    History,
    Number,
    RecordedStore,
    Refused,
    Stored,
    Version,
    Write,
    check_history,
    digest_of,
)

CALLS = 1_000_000
STREAMS = 1000
RECORDED = 20_000

_METADATA = (
    b'{"id":"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","correlation_id":'
    b'"0190c2f1-7c1e-7d3a-9f00-3c5e8a7b1d20","time":1700000000000000}'
)


def _event(number: int) -> StoredEvent:
    """Return the event at a position: streams take turns."""
    stream = f"Account/{number % STREAMS}"
    data = b'{"account_id":"0190c2f1-7c1e-7d3a","amount":%d}' % number
    version = (number - 1) // STREAMS + 1
    tags = (f"account:{number % STREAMS}",)
    return StoredEvent(number, stream, version, "MoneyWithdrawn", 1, number, tags, data, _METADATA)


def _log(count: int) -> Iterator[StoredEvent]:
    return (_event(number) for number in range(1, count + 1))


def _history(calls: int) -> tuple[History, int]:
    """Return a history and how many events it stored: half of it plain appends, the rest mixed."""
    history, position = History(), 0
    for number in range(calls):
        event = _event(position + 1)
        kind = number % 10
        key = f"key-{number}" if kind == 4 else ""
        excluded = EventFilter((FilterItem((event.type,), event.tags),))
        condition = AppendCondition(excluded, position) if kind == 3 else None
        version = event.version - 1 + (kind == 1)
        asked = Append((Write(event.stream, (digest_of(event),), version),), key, "", condition)
        call = Call(number + 1, "p", "", "", 0, asked, 10 * number, 10 * number + 15)
        if kind == 0:
            call.request, call.outcome = Version(event.stream), Number(event.version - 1)
        elif kind == 1:
            fields = {"stream": event.stream, "expected": version, "actual": version - 1}
            call.outcome = Refused("concurrency-conflict", "not stored", fields)
        else:
            position += 1
            call.outcome = Stored(position, position, event.time, (event.version,))
        history.calls.append(call)
    return history, position


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize() / 1e6


async def _recording_us() -> float:
    """Return how much longer an append takes that is recorded."""
    taken = []
    for recorded in (False, True):
        store = MemoryEventStore()
        used = RecordedStore(History(), store) if recorded else store
        events = [NewEvent("A", 1, b'{"number":%d}' % n, _METADATA) for n in range(RECORDED)]
        began = time.perf_counter()
        for number, event in enumerate(events):
            key = Idempotency(f"{number}")
            await used.append([StreamWrite(f"Account/{number % 10}", [event])], idempotency=key)
        taken.append(time.perf_counter() - began)
    return (taken[1] - taken[0]) / RECORDED * 1e6


@benchmark("history.check", unit="calls/s", runs=3)
async def history_check() -> Measured:
    """Judge a million calls: appends with versions, keys and conditions, conflicts, reads."""
    recording = await _recording_us()
    before = _resident_mb()
    history, events = _history(CALLS)
    recorded = _resident_mb() - before
    began = time.perf_counter()
    verdict = check_history(history, _log(events))
    elapsed = time.perf_counter() - began
    assert not verdict.violations, verdict
    more = {"check_s": elapsed, "history_mb": recorded, "recording_us": recording}
    return Measured(CALLS / elapsed, more=more)
