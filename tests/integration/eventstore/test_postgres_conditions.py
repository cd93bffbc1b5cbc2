"""Conditions and filters in PostgreSQL cost as the rarest of the tags and types they ask for."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headwater.eventstore import AppendCondition, EventFilter, FilterItem
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.postgres.batch import Append, Batch
from headwater.eventstore.postgres.filter import select_events
from headwater.eventstore.postgres.read import SQL
from headwater.testing.eventstore_base import event, put, write

COMMON, RARE, PAGE = 12_000, 40, 10
READ = """
    SELECT sum(pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_numscans(c.oid))::bigint
    FROM pg_class AS c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'i'
"""
ITEMS = [
    (FilterItem((), ("common", "rare")), RARE),
    (FilterItem((), ("rare", "common")), RARE),
    (FilterItem(("Rare",), ("common",)), RARE),
    (FilterItem(("Absent", "Rare"), ("common", "first")), RARE // 2),
    (FilterItem((), ("first", "second")), 0),
    (FilterItem((), ("common", "absent")), 0),
    (FilterItem(("Absent",), ("common",)), 0),
]


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[Any]:
    """Give a connection to a store of many events, some of a rarer type and with a rarer tag."""
    store = await PostgresEventStore.open(postgres_url)
    for start in range(0, COMMON, 3000):
        half = "first" if start < COMMON // 2 else "second"
        events = [
            event("Rare", "common", "rare", half)
            if n % (COMMON // RARE) == 0
            else event("Common", "common", half)
            for n in range(start, start + 3000)
        ]
        await put(store, write("s", *events))
    connection = await store._database.connect()
    yield connection
    await connection.close()
    await store.close()


async def entries_read(connection: Any, sql: str, *values: Any) -> tuple[list[Any], int]:
    """Return the rows of a statement, and how many entries of indexes it looked at."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        before = await connection.fetchval(READ)
        rows = await connection.fetch(sql, *values)
        return rows, await connection.fetchval(READ) - before
    finally:
        await transaction.rollback()


@pytest.mark.parametrize(("item", "matching"), ITEMS)
async def test_condition(connection: Any, item: FilterItem, matching: int) -> None:
    """An append under a condition does not look at the other events of a frequent tag."""
    condition = AppendCondition(EventFilter((item,)), 0)
    future = asyncio.get_running_loop().create_future()
    batch = Batch(
        [Append([write("new", event())], condition, None, None, future, events=1, size=0)]
    )
    await connection.execute(SQL["register"], "w", 0)
    rows, entries = await entries_read(connection, SQL["append"], "w", 1, *batch.arguments(0))
    assert rows[0]["codes_"] == ([2] if matching else None)
    assert entries < COMMON // 10


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("item", "matching"), ITEMS)
async def test_read(connection: Any, item: FilterItem, matching: int, *, backwards: bool) -> None:
    """A page of what several tags, or tags and types, select costs as the rarest of them."""
    sql, parameters = select_events(EventFilter((item,)), backwards=backwards)
    for limit in (PAGE, 1000):
        rows, entries = await entries_read(connection, sql, 0, COMMON, limit, *parameters)
        positions = [row["position"] for row in rows]
        assert len(positions) == min(matching, limit)
        assert positions == sorted(positions, reverse=backwards)
        assert entries < COMMON // 4
