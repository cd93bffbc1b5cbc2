"""Transactions of several processes on one schema of PostgreSQL that lock the same rows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import pytest

from headwater.views import Key, Segment, View
from headwater.views.postgres import PostgresViewStore
from headwater.views.postgres.tables import table

WAIT_S_MAX = 20.0

Open = Callable[[], Awaitable[PostgresViewStore]]


class Doc(View):
    id: Annotated[str, Key]
    text: str = ""


@pytest.fixture
async def another(postgres_url: str) -> AsyncIterator[Open]:
    """Opens stores as if each were of a process of its own."""
    opened: list[PostgresViewStore] = []

    async def one() -> PostgresViewStore:
        opened.append(await PostgresViewStore.open(postgres_url, lock_timeout_s=WAIT_S_MAX))
        return opened[-1]

    yield one
    for store in opened:
        await store.close()


@pytest.fixture
async def store(another: Open) -> PostgresViewStore:
    store = await another()
    await store.ensure([Doc])
    return store


@pytest.fixture
async def blocker(store: PostgresViewStore) -> AsyncIterator[Any]:
    """A connection to the stores' schema, to hold locks by hand."""
    connection = await store._database.connect()
    yield connection
    await connection.close()


async def claims(store: PostgresViewStore, count: int = 4) -> list[Segment]:
    """Claim all segments, so that they lie in the table in the opposite order."""
    segments = await store.open_segments("p", count=count, token="0", generation=1)
    found = [await store.claim(s, owner="me", lease_s=60) for s in reversed(segments)]
    return [segment for segment in reversed(found) if segment is not None]


async def waiting(connection: Any, pid: int, count: int) -> None:
    """Wait until so many transactions wait for that of a process, or for one that does."""
    sql = """
        WITH RECURSIVE behind AS (
            SELECT $1::integer AS pid UNION
            SELECT other.pid FROM pg_locks AS other, behind
            WHERE NOT other.granted AND behind.pid = ANY (pg_blocking_pids(other.pid)))
        SELECT count(*) - 1 FROM behind"""
    async with asyncio.timeout(WAIT_S_MAX):
        while await connection.fetchval(sql, pid) < count:
            pass


async def advance(store: PostgresViewStore, held: list[Segment]) -> None:
    async with store.transaction() as work:
        await work.advance(held, "1")


async def look(store: PostgresViewStore, held: list[Segment]) -> None:
    async with store.transaction() as work:
        assert len(await work.segments("p", generation=1)) == len(held)


async def renew(store: PostgresViewStore, held: list[Segment]) -> None:
    await store.renew(held, lease_s=60)


async def release(store: PostgresViewStore, held: list[Segment]) -> None:
    await store.release(held)


async def reset(store: PostgresViewStore, held: list[Segment]) -> None:
    assert held
    await store.reset("p", token="9", generation=1)


async def activate(store: PostgresViewStore, held: list[Segment]) -> None:
    assert held
    await store.activate("p", 2, [])


@pytest.mark.parametrize("late", [advance, renew, release, reset, activate])
@pytest.mark.parametrize("early", [advance, look])
async def test_segments_are_locked_in_one_order(
    store: PostgresViewStore, another: Open, blocker: Any, early: Any, late: Any
) -> None:
    """Two that lock the same segments wait for one another, and never both for each other."""
    held = await claims(store)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM view_segments WHERE number = 0 FOR UPDATE")
        first = asyncio.ensure_future(early(await another(), held))
        await waiting(blocker, blocker.get_server_pid(), 1)
        # Were it to lock the rows as they lie there, it would have all others of them by now.
        second = asyncio.ensure_future(late(await another(), held[::-1]))
        await waiting(blocker, blocker.get_server_pid(), 2)
    await first
    await second


@pytest.mark.parametrize("late", [look, reset, activate])
async def test_segments_that_are_being_replaced_are_found(
    store: PostgresViewStore, another: Open, blocker: Any, late: Any
) -> None:
    """Who comes while segments are split or merged gets the new ones, not none."""
    await claims(store)
    parts = [Segment("p", 1, index, 3, "0") for index in range(3)]
    async with store.transaction() as work:
        await work.replace_segments(parts)
        coming = asyncio.ensure_future(late(await another(), parts))
        await waiting(blocker, work._connection.get_server_pid(), 1)
    await coming
    tokens = [segment.token for segment in await store.segments("p")]
    assert tokens == {look: ["0"] * 3, reset: ["9"] * 3, activate: []}[late]


@pytest.mark.parametrize("loads", [False, True])
@pytest.mark.parametrize("exist", [False, True])
async def test_documents_are_locked_in_one_order(
    store: PostgresViewStore, another: Open, blocker: Any, exist: bool, loads: bool
) -> None:
    """Whoever saves documents takes them by key, whatever the order in which they are given."""
    keys = ["c", "a", "b"]
    documents = table(Doc, 1).name
    async with store.transaction() as work:
        await work.save([Doc(key) for key in (keys if exist else [])])

    async def save(store: PostgresViewStore) -> None:
        async with store.transaction() as work:
            if loads:
                await work.load(Doc, keys)
            await work.save([Doc(key, "saved") for key in keys])

    async with blocker.transaction():
        if exist:
            await blocker.execute(f"SELECT FROM {documents} WHERE id = 'a' FOR UPDATE")
        else:
            await blocker.execute(f"INSERT INTO {documents} VALUES ('a', '')")
            await blocker.execute(f"DELETE FROM {documents}")
        saving = asyncio.ensure_future(save(store))
        await waiting(blocker, blocker.get_server_pid(), 1)
        # Nobody has the others yet.
        await blocker.execute("SET LOCAL lock_timeout = '1ms'")
        await blocker.execute(
            f"INSERT INTO {documents} VALUES ('b', ''), ('c', '') "
            "ON CONFLICT (id) DO UPDATE SET document = ''"
        )
        await blocker.execute(f"DELETE FROM {documents} WHERE id IN ('b', 'c')")
    await saving
    assert (await store.find(Doc)).items == [Doc(key, "saved") for key in sorted(keys)]


class Other(View):
    id: Annotated[str, Key]


async def test_tables_that_go_and_who_reads_several(
    store: PostgresViewStore, another: Open, blocker: Any
) -> None:
    """Who reads tables in another order than they go in holds up their end, and meets none."""
    views = [Doc, Other]
    first = await store.settle_generation("p", "a", views)
    await store.ensure(views, generation=first, processor="p")
    await store.activate("p", first, views, code="a")
    second = await store.next_generation("p", "a", views, after=first)
    await store.ensure(views, generation=second, processor="p")
    count = "SELECT count(*) FROM {}"
    async with blocker.transaction():
        await blocker.fetchval(count.format(table(Other, first).name))
        ending = asyncio.create_task(store.activate("p", second, views, code="a"))
        reader = await (await another())._database.connect()
        await waiting(reader, await blocker.fetchval("SELECT pg_backend_pid()"), 1)
        assert await blocker.fetchval(count.format(table(Doc, first).name)) == 0
        await waiting(reader, await blocker.fetchval("SELECT pg_backend_pid()"), 1)
        assert await reader.fetchval(count.format(table(Doc, first).name)) == 0
        await reader.close()
        assert not ending.done()
    await ending
    assert [g.number for g in await store.generations("p")] == [second]
