"""Views, projections and the event bus in PostgreSQL against loops of the bare driver."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from benchmarks import bench_eventbus, bench_processing, bench_views
from benchmarks.bank import AccountOpened, MoneyWithdrawn
from benchmarks.bench_processing import Balance, Balances
from benchmarks.bench_views import AccountView
from benchmarks.harness import Measured, benchmark
from benchmarks.postgres import schema
from headwater._sql.postgres.database import Database, script
from headwater.eventbus import cloudevents, partition_of
from headwater.eventbus.postgres import PostgresEventBus
from headwater.eventstore import StreamWrite
from headwater.eventstore.postgres import PostgresEventStore
from headwater.messages import ConsistencyToken
from headwater.processing import Processor, StoreSource
from headwater.views.postgres import PostgresViewStore
from headwater.views.postgres.tables import Table, table

EVENTS = 500_000
CALLERS = 64
_TOKEN = "CREATE TABLE token (id integer PRIMARY KEY, position bigint)"
_SET_TOKEN = (
    "INSERT INTO token VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET position = excluded.position"
)
_PAGE = "SELECT position, type, data FROM events WHERE position > $1 ORDER BY position LIMIT $2"
_APPEND = (
    "INSERT INTO bus_events (partition, partition_offset, document, origin, position) "
    "SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::integer[], $5::bigint[])"
)

_encode = msgspec.json.Encoder().encode
_opened = msgspec.json.Decoder(AccountOpened).decode
_withdrawn = msgspec.json.Decoder(MoneyWithdrawn).decode


async def _make(connection: Any, sql: Table) -> None:
    for statement in (*sql.create, _TOKEN):
        await connection.execute(statement)


async def _bare_upsert(url: str) -> float:
    """Load, decode, change, encode and store as one would by hand."""
    sql = table(AccountView, 1)
    decode = msgspec.json.Decoder(AccountView).decode
    database = await Database.open(url, room="bare", migrations=())
    async with database.connection() as connection:
        await _make(connection, sql)
        began = time.perf_counter()
        for number, keys in enumerate(bench_views._batches()):  # noqa: SLF001  # the same work
            async with connection.transaction():
                found = {k: decode(d) for k, d in await connection.fetch(sql.load, keys)}
                views = bench_views._changed(found, keys)  # noqa: SLF001  # the same work
                await connection.execute(
                    sql.upsert,
                    [view.id for view in views],
                    [view.holder for view in views],
                    [_encode(view).decode() for view in views],
                )
                await connection.execute(_SET_TOKEN, number)
        elapsed = time.perf_counter() - began
    await database.close()
    return bench_views.BATCHES * bench_views.KEYS_PER_BATCH / elapsed


@benchmark("views.upsert.postgres", unit="documents/s", peer="bare asyncpg and msgspec loop")
async def upsert() -> Measured:
    """Transactions that load, change and save 1,000 of 20,000 documents, and advance a token."""
    async with schema() as url:
        peer = await _bare_upsert(url)
    async with schema() as url:
        store = await PostgresViewStore.open(url)
        await store.ensure([AccountView])
        (segment,) = await store.open_segments("bench", count=1, token="0", generation=1)
        claimed = await store.claim(segment, owner="bench", lease_s=60)
        assert claimed is not None
        began = time.perf_counter()
        for number, keys in enumerate(bench_views._batches()):  # noqa: SLF001  # the same work
            async with store.transaction() as work:
                await work.advance([claimed], str(number))
                found = await work.load(AccountView, keys)
                await work.save(bench_views._changed(found, keys))  # noqa: SLF001  # the same work
        elapsed = time.perf_counter() - began
        await store.close()
    return Measured(bench_views.BATCHES * bench_views.KEYS_PER_BATCH / elapsed, peer)


@benchmark("views.get.postgres", unit="documents/s", peer="a statement each, bare pool")
async def get() -> Measured:
    """Documents by key for 64 callers: what queries over HTTP ask of the store."""
    keys = [f"account-{n:06}" for n in range(bench_views.GETS)]
    async with schema() as url:
        store = await PostgresViewStore.open(url)
        await store.ensure([AccountView])
        async with store.transaction() as work:
            await work.save(bench_views._changed({}, keys))  # noqa: SLF001  # the same documents
        began = time.perf_counter()
        await asyncio.gather(*(_get_all(store.get, keys[n::CALLERS]) for n in range(CALLERS)))
        elapsed = time.perf_counter() - began
        await store.close()
        sql, decode = table(AccountView, 1), msgspec.json.Decoder(AccountView).decode
        database = await Database.open(url, room="bare", migrations=())

        async def bare(_: type[AccountView], key: str) -> AccountView:
            async with database.connection() as connection:
                return decode(await connection.fetchval(sql.get, key))

        began = time.perf_counter()
        await asyncio.gather(*(_get_all(bare, keys[n::CALLERS]) for n in range(CALLERS)))
        peer = len(keys) / (time.perf_counter() - began)
        await database.close()
    return Measured(len(keys) / elapsed, peer)


async def _get_all(get_one: Callable[..., Awaitable[Any]], keys: list[str]) -> None:
    for key in keys:
        assert await get_one(AccountView, key) is not None


async def _fill(store: PostgresEventStore) -> None:
    numbers = [f"{n}" for n in range(bench_processing.ACCOUNTS)]
    event = bench_processing.event_of
    await store.append(
        [StreamWrite(f"Account/{n}", [event(AccountOpened(n, "x"))]) for n in numbers]
    )
    for _ in range(EVENTS // bench_processing.ACCOUNTS - 1):
        await store.append(
            [StreamWrite(f"Account/{n}", [event(MoneyWithdrawn(n, 1))]) for n in numbers]
        )


@benchmark("projection.postgres", unit="events/s", peer="bare loop, same pages and commits", runs=3)
async def projection() -> Measured:
    """Catch up with 500,000 events of 1,000 accounts, from an empty view store."""
    async with schema() as url:
        store = await PostgresEventStore.open(url)
        await _fill(store)
        bare = await _bare_projection(url)
        views = await PostgresViewStore.open(url)
        processor = Processor(
            Balances, source=StoreSource(store, "bench"), views=views, owner="bench"
        )
        began = time.perf_counter()
        await processor.start()
        await processor.wait_for(ConsistencyToken.at("bench", store.epoch, EVENTS), timeout_s=120.0)
        rate = EVENTS / (time.perf_counter() - began)
        found = await views.get(Balance, "7")
        await processor.stop()
        await views.close()
        await store.close()
        assert found is not None
        assert found.events == EVENTS // bench_processing.ACCOUNTS - 1
        return Measured(rate, bare)


async def _bare_projection(url: str) -> float:
    """Read pages with the driver, decode, load and upsert documents, one commit per page."""
    sql = table(Balance, 9)
    database = await Database.open(url, room="bare", migrations=())
    async with database.connection() as connection:
        await _make(connection, sql)
        began = time.perf_counter()
        position = 0
        while position < EVENTS:
            rows = await connection.fetch(_PAGE, position, bench_processing.PAGE)
            async with connection.transaction():
                await _bare_page(connection, sql, rows)
            position = int(rows[-1][0])
        rate = EVENTS / (time.perf_counter() - began)
    await database.close()
    return rate


async def _bare_page(connection: Any, sql: Table, rows: list[Any]) -> None:
    decoded = [_opened(d) if t == "AccountOpened" else _withdrawn(d) for _, t, d in rows]
    keys = list({event.account_id for event in decoded})
    decode = sql.kind.decode
    documents = {key: decode(document) for key, document in await connection.fetch(sql.load, keys)}
    for event in decoded:
        if isinstance(event, AccountOpened):
            documents[event.account_id] = Balance(event.account_id, event.holder)
        else:
            document = documents[event.account_id]
            document.balance -= event.amount
            document.events += 1
    texts = [_encode(document).decode() for document in documents.values()]
    await connection.execute(sql.upsert, list(documents), texts)
    await connection.execute(_SET_TOKEN, rows[-1][0])


async def _bare_publish(url: str) -> float:
    """Insert the same rows into the same tables, without looking whether they are there."""
    events = bench_eventbus._events()  # noqa: SLF001  # the same events
    documents = [cloudevents.encode(event).decode() for event in events]
    partitions = [partition_of(event.stream, 4) for event in events]
    database = await Database.open(
        url, room="eventbus", migrations=[script("headwater.eventbus.postgres", "schema_1.sql")]
    )
    async with database.connection() as connection:
        await connection.execute("INSERT INTO bus_origins (source, epoch) VALUES ('a', 'e')")
        began = time.perf_counter()
        for first in range(0, len(events), bench_eventbus.EVENTS_PER_CALL):
            part = slice(first, first + bench_eventbus.EVENTS_PER_CALL)
            numbers = list(range(first, first + bench_eventbus.EVENTS_PER_CALL))
            origins = [1] * len(numbers)
            await connection.execute(
                _APPEND, partitions[part], numbers, documents[part], origins, numbers
            )
        elapsed = time.perf_counter() - began
    await database.close()
    return len(events) / elapsed


@benchmark("eventbus.publish.postgres", unit="events/s", peer="bare asyncpg inserts, no encoding")
async def publish() -> Measured:
    """Calls of 500 events, one after another: what a relay does when it catches up."""
    events = bench_eventbus._events()  # noqa: SLF001  # the same events
    async with schema() as url:
        peer = await _bare_publish(url)
    async with schema() as url:
        bus = await PostgresEventBus.open(url)
        began = time.perf_counter()
        for first in range(0, len(events), bench_eventbus.EVENTS_PER_CALL):
            await bus.publish(events[first : first + bench_eventbus.EVENTS_PER_CALL])
        elapsed = time.perf_counter() - began
        await bus.close()
    return Measured(len(events) / elapsed, peer)


@benchmark("eventbus.deliver.postgres", unit="events/s")
async def deliver() -> Measured:
    """A subscription from the start, in pages of 1,000."""
    events = bench_eventbus._events()  # noqa: SLF001  # the same events
    async with schema() as url:
        bus = await PostgresEventBus.open(url)
        await bus.publish(events)
        began = time.perf_counter()
        count = 0
        async for page in bus.subscribe(after=bench_eventbus.START):
            count += len(page)
            if count == len(events):
                break
        elapsed = time.perf_counter() - began
        await bus.close()
    return Measured(len(events) / elapsed)
