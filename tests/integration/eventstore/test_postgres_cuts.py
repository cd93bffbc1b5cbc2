"""The way to the server is cut, before, during and after a commit."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from headwater.errors import (
    ConcurrencyConflict,
    HeadwaterError,
    IdempotencyKeyReused,
    StoreUnavailable,
)
from headwater.eventstore import (
    EVERYTHING,
    AppendCondition,
    Idempotency,
    Pipeline,
    StoredEvent,
)
from headwater.eventstore.postgres import PostgresEventStore
from headwater.testing.eventstore_base import event, log_of, put, settled, write
from tests.cutting_proxy import HOWS, CuttingProxy
from tests.integration.eventstore.conftest import Opened, check_usable, run
from tests.integration.eventstore.test_postgres_faults import Load
from tests.integration.eventstore.test_postgres_processes import check_dense
from tests.postgres_server import drop_schema

WAIT_S_MAX = 30.0
MARKED = event(data=b"[MARK]")


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(postgres_url) as proxy:
        yield proxy


async def submit(store: PostgresEventStore) -> tuple[list[Any], list[StoredEvent]]:
    """Append one batch with every kind of verdict; return them, and what is stored."""
    await put(store, write("a", event("Old")), write("b"))
    await store.append([write("k")], idempotency=Idempotency("stored", "f"))
    pipeline, condition = Pipeline(), AppendCondition(EVERYTHING, 3)
    results = await settled(
        store.append([write("a", MARKED, expected=1)], condition=condition),
        store.append([write("a", MARKED, expected=1), write("b")], pipeline=pipeline),
        store.append([write("c")], pipeline=pipeline),
        store.append([write("k")], idempotency=Idempotency("stored", "f")),
        store.append([write("k")], idempotency=Idempotency("stored", "g")),
        store.append([write("a", MARKED, MARKED, expected=2), write("d")]),
        store.append([write("e")], condition=condition),
        store.append([write("n")], idempotency=Idempotency("new")),
        store.append([write("n")], idempotency=Idempotency("new")),
        store.append([]),
    )
    return [_plain(result) for result in results], await log_of(store)


def _plain(result: Any) -> Any:
    if isinstance(result, HeadwaterError):
        return type(result), result.fields()
    return result.first, result.last, result.streams, result.versions, result.duplicate


@pytest.mark.parametrize("how", HOWS)
async def test_cut_during_a_commit(
    proxy: CuttingProxy, opened: Opened, postgres_url: str, how: str
) -> None:
    """Wherever request or answer is cut: every verdict is what it would have been."""
    undisturbed = f"{postgres_url}_undisturbed"
    expected, expected_log = await submit(await opened(undisturbed))
    await asyncio.to_thread(drop_schema, undisturbed)
    store = await opened(proxy.url)
    await proxy.cut(how, only="[MARK]")
    results, log = await submit(store)
    assert await proxy.tell() == {how: 1}
    assert results == expected
    check_dense(log)
    assert [(s.position, s.stream, s.data) for s in log] == [
        (s.position, s.stream, s.data) for s in expected_log
    ]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("key", "expected", "verdict"),
    [
        (None, None, (3, 3, ("a",), (3,), False)),
        (Idempotency("new"), None, (3, 3, ("a",), (3,), False)),
        (Idempotency("old", "f"), None, (2, 2, ("a",), (2,), True)),
        (Idempotency("old", "g"), None, (IdempotencyKeyReused, {"key": "old"})),
        (None, 9, (ConcurrencyConflict, {"stream": "a", "expected": 9, "actual": 2})),
    ],
)
async def test_cut_during_a_commit_of_one_event(
    proxy: CuttingProxy, opened: Opened, how: str, key: Any, expected: Any, verdict: Any
) -> None:
    """A single event gets the verdict that it would have got, and is stored once if it is."""
    store = await opened(proxy.url)
    await put(store, write("a"))
    await store.append([write("a")], idempotency=Idempotency("old", "f"))
    await proxy.cut(how, only="[MARK]")
    (found,) = await settled(store.append([write("a", MARKED, expected=expected)], idempotency=key))
    assert await proxy.tell() == {how: 1}
    assert _plain(found) == verdict
    check_dense(log := await log_of(store))
    assert len(log) == max(2, verdict[0] if type(verdict[0]) is int else 0)


async def test_cut_for_good(proxy: CuttingProxy, opened: Opened) -> None:
    """When the server cannot be asked in time, the error says that the outcome is unknown."""
    store = await opened(proxy.url, resolve_timeout_s=0.1)
    await put(store, write("b"))
    await proxy.cut("after", only="[MARK]", closing=True)
    key = Idempotency("k")
    with pytest.raises(StoreUnavailable, match=r"unknown.*Idempotency-Key") as caught:
        await store.append([write("a", MARKED)], idempotency=key)
    assert caught.value.outcome == "unknown"
    with pytest.raises(StoreUnavailable) as caught:
        await put(store, write("b"))
    assert caught.value.outcome == "not stored"
    await proxy.tell()
    again = await store.append([write("a", MARKED)], idempotency=key)
    assert again.duplicate
    await check_usable(store, 2)


async def test_a_batch_that_was_given_up_comes_no_more(
    store: PostgresEventStore, postgres_url: str
) -> None:
    """A commit that was slow on its way cannot happen after its batch was reported as failed."""
    await put(store, write("a"))
    writer = store._writer
    resolve = "SELECT head_ FROM resolve_batch($1, $2, '{}')"
    late = (
        "SELECT * FROM append_events($1, $2, NULL, '{z}', '{1}', NULL, NULL, NULL, "
        "NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{1}', '{0}', '{1}', '{1}', '{T}', '{1}', "
        "ARRAY[''], ARRAY[''::bytea], ARRAY[''::bytea], NULL, NULL)"
    )
    late_single = (
        "SELECT * FROM append_single("
        "$1, $2, NULL, 'z', 0, NULL, NULL, 'T', 1, '', ''::bytea, ''::bytea, NULL, "
        "NULL, NULL, NULL, NULL)"
    )
    async with store._database.connection() as connection:
        number = writer._number
        assert await connection.fetchval(resolve, writer._writer, number) == 0  # it was stored
        assert await connection.fetchval(resolve, writer._writer, number + 1) is None
        for each in (late, late_single):
            with pytest.raises(asyncpg.PostgresError, match="not expected"):
                await connection.execute(each, writer._writer, number + 1)
        await connection.execute(late, writer._writer, number + 3)
    writer._number += 3
    await check_usable(store, 2)


async def test_a_writer_that_was_forgotten(store: PostgresEventStore) -> None:
    """A process whose row was cleaned up goes on under a new name."""
    await put(store, write("a"))
    await run(store, "DELETE FROM event_writers")
    await put(store, write("a", expected=1))
    await check_usable(store, 2)


async def test_connections_broken_under_load(opened: Opened, postgres_url: str) -> None:
    """When the server ends connections, nobody notices, and nothing is stored twice."""
    store, other = await opened(), await opened()
    load = Load(store)
    tasks = [asyncio.ensure_future(load.caller(number)) for number in range(16)]
    for _ in range(5):
        await load.until(len(load.acknowledged) + 100)
        pid = store._writer._connection.get_server_pid()
        await run(other, f"SELECT pg_terminate_backend({pid})")
    await load.until(len(load.acknowledged) + 100)
    load.stopped = True
    await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S_MAX)
    log = await log_of(other)
    check_dense(log)
    assert not load.unknown
    assert len(log) == 2 * len(load.acknowledged)
