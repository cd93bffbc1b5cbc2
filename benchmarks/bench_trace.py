# ruff: noqa: SLF001  # what is measured is inside
"""Where the time of one command goes, by one caller: each stage on its way, in microseconds.

The stages are told by marks that are set around what is called on the way; together they are the
whole. The server's share of a statement comes from its own statistics: `track_functions` for what
the function takes, `track_wal_io_timing` for the flush.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import uvloop

from benchmarks.bank import WithdrawMoney
from benchmarks.engines import ACCOUNTS, Bank, Engine, bank
from benchmarks.harness import Measured, benchmark
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore

COMMANDS = 2000
STAGES = {
    "sqlite": (
        ("decide", "append"),
        ("to the thread", "thread"),
        ("insert", "commit"),
        ("commit and flush", "done"),
        ("back to the loop", "settle"),
        ("answer", "answered"),
    ),
    "postgres": (
        ("decide", "append"),
        ("make the statement", "statement"),
        ("statement", "row"),
        ("settle", "settle"),
        ("answer", "answered"),
    ),
}
"""By engine: each stage, and the mark that ends it."""

_FLUSHED = """
    SELECT coalesce(sum(fsync_time), 0) FROM pg_stat_io
    WHERE object = 'wal' AND backend_type = 'client backend'
"""
_CALLED = """
    SELECT coalesce(sum(total_time), 0) FROM pg_stat_user_functions
    WHERE funcname LIKE 'append%' AND schemaname = current_schema()
"""


class Marks:
    """When each point on the way of the present command was passed."""

    def __init__(self) -> None:
        self.at: dict[str, int] = {}

    def around(self, target: Any, name: str, *, before: str = "", after: str = "") -> None:
        """Set marks when a method of an object is called, and when it has returned."""
        method = getattr(target, name)

        def call(*args: Any, **options: Any) -> Any:
            if before:
                self.at[before] = time.perf_counter_ns()
            result = method(*args, **options)
            if after:
                self.at[after] = time.perf_counter_ns()
            return result

        setattr(target, name, call)


class Statement:
    """A prepared statement whose calls are marked."""

    def __init__(self, statement: Any, marks: Marks) -> None:
        self._statement = statement
        self._marks = marks

    async def fetchrow(self, *args: Any) -> Any:
        """Run it."""
        self._marks.at["statement"] = time.perf_counter_ns()
        row = await self._statement.fetchrow(*args)
        self._marks.at["row"] = time.perf_counter_ns()
        return row


def _watch_sqlite(store: SQLiteEventStore, marks: Marks) -> None:
    appender = store._appender
    carry_out = appender.carry_out

    def call(connection: Any, requests: Any, *, before_commit: Callable[[], None]) -> Any:
        marks.at["thread"] = time.perf_counter_ns()

        def about_to_commit() -> None:
            before_commit()
            marks.at["commit"] = time.perf_counter_ns()

        verdicts = carry_out(connection, requests, before_commit=about_to_commit)
        marks.at["done"] = time.perf_counter_ns()
        return verdicts

    appender.carry_out = call  # type: ignore[method-assign]


async def _watch_postgres(store: PostgresEventStore, marks: Marks) -> None:
    writer = store._writer
    await writer._connection.execute("SET track_functions = pl; SET track_wal_io_timing = on")
    for name in ("_append", "_append_single"):
        setattr(writer, name, Statement(getattr(writer, name), marks))


async def _server_ms(store: PostgresEventStore) -> tuple[float, float]:
    """Return how long the server has flushed, and how long our functions took, without that."""
    connection = store._writer._connection
    await connection.execute("SELECT pg_stat_force_next_flush()")
    async with store._database.connection() as other:
        return await other.fetchval(_FLUSHED), await other.fetchval(_CALLED)


async def _traced(engine: Engine) -> Measured:
    async with bank(engine) as one:
        marks = Marks()
        store: Any = one.store
        marks.around(store, "append", before="append")
        marks.around(store, "_settle", before="settle")
        before = after = (0.0, 0.0)
        if isinstance(store, SQLiteEventStore):
            _watch_sqlite(store, marks)
            found = await _stages(one, marks, STAGES[engine])
        else:
            await _watch_postgres(store, marks)
            before = await _server_ms(store)
            found = await _stages(one, marks, STAGES[engine])
            after = await _server_ms(store)
    whole = found.pop("whole")
    if engine == "postgres":
        flush, called = ((a - b) / COMMANDS * 1000 for a, b in zip(after, before, strict=True))
        found["of it: flush"], found["of it: function"] = flush, called
    return Measured(whole, more={f"{name} µs": value for name, value in found.items()})


async def _stages(one: Bank, marks: Marks, stages: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return the medians of the stages of many commands, and of the whole, in microseconds."""
    times: dict[str, list[int]] = {name: [] for name, _ in stages}
    whole: list[int] = []
    for number in range(COMMANDS):
        command = WithdrawMoney(f"{number * 7 % ACCOUNTS}", 1)
        began = passed = time.perf_counter_ns()
        await one.bus.send(command)
        marks.at["answered"] = time.perf_counter_ns()
        for name, end in stages:
            times[name].append(marks.at[end] - passed)
            passed = marks.at[end]
        whole.append(passed - began)
    found = {name: statistics.median(taken) / 1000 for name, taken in times.items()}
    return found | {"whole": statistics.median(whole) / 1000}


@benchmark("trace.sqlite", unit="µs (p50)", runs=3)
def trace_sqlite() -> Measured:
    """One caller on SQLite, by stages."""
    return uvloop.run(_traced("sqlite"))


@benchmark("trace.postgres", unit="µs (p50)", runs=3)
def trace_postgres() -> Measured:
    """One caller on PostgreSQL, by stages."""
    return uvloop.run(_traced("postgres"))
