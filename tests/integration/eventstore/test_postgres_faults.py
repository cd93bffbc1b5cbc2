"""Whatever happens to the server or the way to it: one outcome, a clear error, never a gap."""

import asyncio
import signal
from itertools import count
from typing import Any

import pytest

from headwater.errors import (
    ConcurrencyConflict,
    DiskFull,
    InvalidInput,
    Overloaded,
    PipelineBroken,
    SchemaTooNew,
    StoreUnavailable,
)
from headwater.eventstore import (
    EVERYTHING,
    AppendCondition,
    Appended,
    Idempotency,
    NewEvent,
    Pipeline,
    Snapshot,
    StreamWrite,
)
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.postgres.read import SQL
from headwater.testing.eventstore_base import event, log_of, put, settled, write
from tests.integration.eventstore.conftest import Opened, check_usable, run
from tests.integration.eventstore.test_postgres_processes import check_dense
from tests.postgres_server import PostgresServer

WAIT_S_MAX = 30.0


# --- the server dies in the middle of commits ---


class Load:
    """Callers that append all the time, and what each of them was told."""

    def __init__(self, store: PostgresEventStore) -> None:
        self.store = store
        self.acknowledged: dict[str, Appended] = {}
        self.rejected: set[str] = set()
        self.unknown: set[str] = set()
        self.stopped = False
        self.wanted = 0
        self.reached = asyncio.Event()
        self.failed = asyncio.Event()

    async def caller(self, number: int) -> None:
        keyed = number % 2 == 0
        for step in count():
            if self.stopped:
                return
            name = f"{number}-{step}"
            expected = 7 if step % 10 == 9 else 0  # which is wrong
            writes = [write(f"s/{name}", event("T", "t", data=name.encode()), expected=expected)]
            key = Idempotency(name) if keyed else None
            try:
                self.acknowledged[name] = await self.store.append(
                    [*writes, write(f"caller/{number}")], idempotency=key
                )
                if len(self.acknowledged) >= self.wanted:
                    self.reached.set()
            except ConcurrencyConflict:
                self.rejected.add(name)
            except StoreUnavailable as error:
                self.failed.set()
                (self.unknown if error.outcome == "unknown" else self.rejected).add(name)
                await asyncio.sleep(0)

    async def until(self, acknowledged: int) -> None:
        self.wanted = acknowledged
        self.reached.clear()
        await asyncio.wait_for(self.reached.wait(), WAIT_S_MAX)


@pytest.mark.parametrize("how", ["kill", "immediate"])
async def test_server_dies_under_load(
    own_postgres: PostgresServer, opened: Opened, how: str
) -> None:
    """Acknowledged is stored, rejected is not, unknown is one of both and can be found out."""
    url = own_postgres.url(schema="x")
    store = await opened(url, resolve_timeout_s=0.2)
    load = Load(store)
    tasks = [asyncio.ensure_future(load.caller(number)) for number in range(16)]
    for _ in range(3):
        await load.until(len(load.acknowledged) + 300)
        if how == "kill":
            await asyncio.to_thread(own_postgres.kill)
        else:
            await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
        await asyncio.sleep(0.3)  # some must see that it is away
        await asyncio.to_thread(own_postgres.start)
    await load.until(len(load.acknowledged) + 300)
    load.stopped = True
    await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S_MAX)
    fresh = await opened(url)
    log = await log_of(fresh)
    check_dense(log)
    stored = {s.stream.removeprefix("s/"): s for s in log if s.stream.startswith("s/")}
    assert len(log) == 2 * len(stored)
    assert load.acknowledged.keys() <= stored.keys()
    assert not load.rejected & stored.keys()
    assert stored.keys() <= load.acknowledged.keys() | load.unknown
    assert all(stored[name].position == told.first for name, told in load.acknowledged.items())
    for name in load.unknown:
        if int(name.split("-")[0]) % 2 == 0:
            assert (await fresh.outcome(name) is not None) == (name in stored)


async def test_recovers_by_itself(own_postgres: PostgresServer, opened: Opened) -> None:
    """While the server is away appends fail at once and say so; then they work, and followers."""
    store = await opened(own_postgres.url(schema="x"), resolve_timeout_s=0.1)
    await put(store, write("a"))
    pages = store.follow()
    assert (await anext(pages)).through == 1
    own_postgres.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"cannot be reached|stopping|unknown"):
            await put(store, write("a"))
    with pytest.raises(StoreUnavailable) as caught:
        await put(store, write("a"))
    assert caught.value.outcome == "not stored"
    own_postgres.start()
    await put(store, write("a", expected=1))
    assert (await asyncio.wait_for(anext(pages), WAIT_S_MAX)).through == 2
    await check_usable(store, 2)


# --- somebody else is in the way ---


async def test_an_idle_transaction_holds_the_lock(opened: Opened, postgres_url: str) -> None:
    """Appends wait no longer than allowed and say what to look for; reading goes on; no gap."""
    store, other = await opened(lock_timeout_s=0.1), await opened()
    await put(store, write("a"))
    pipeline = Pipeline()
    async with other._database.transaction() as connection:
        await connection.execute(
            "SELECT pg_advisory_xact_lock("
            "(1751474532::bigint << 32) | 'events'::regclass::oid::bigint)"
        )
        results = await settled(
            put(store, write("a")),
            store.append([write("b")], pipeline=pipeline, idempotency=Idempotency("k")),
        )
        assert [type(result) for result in results] == [StoreUnavailable] * 2
        assert "pg_stat_activity" in str(results[0])
        assert await store.head() == 1
    with pytest.raises(PipelineBroken):
        await store.append([write("b")], pipeline=pipeline)
    assert await store.outcome("k") is None
    await check_usable(store, 1)


async def test_many_wait_for_a_lock_together(opened: Opened) -> None:
    """Appends that were refused because the log is locked are not tried one by one again."""
    store, other = await opened(lock_timeout_s=0.5), await opened()
    await put(store, write("a"))
    async with other._database.transaction() as connection:
        await connection.execute(SQL["lock"])
        async with asyncio.timeout(WAIT_S_MAX):  # 100 times 0.5 s are more
            results = await settled(*(put(store, write("a")) for _ in range(100)))
    assert {type(result) for result in results} == {StoreUnavailable}
    await check_usable(store, 1)


async def test_outcomes_that_cannot_be_read(opened: Opened) -> None:
    """When it cannot be read what became of a key before, that harms no append beside it."""
    store = await opened(readers=1, connect_timeout_s=0.5)
    before = await store.append([write("a")], idempotency=Idempotency("k"))
    async with store._database.connection():  # the only one there is for reading
        results = await settled(
            store.append([write("a")], idempotency=Idempotency("k")),
            put(store, write("b", expected=0)),
        )
    assert [type(result) for result in results] == [StoreUnavailable, Appended]
    assert "stored before" in str(results[0])
    assert results[0].outcome == "stored"
    again = await store.append([write("a")], idempotency=Idempotency("k"))
    assert (again.first, again.duplicate) == (before.first, True)
    await check_usable(store, 2)


async def test_statement_timeout(own_postgres: PostgresServer, opened: Opened) -> None:
    """A limit that the administrator set ends the append with an error that names it."""
    url = own_postgres.url(schema="x")
    admin = await opened(url)
    await run(admin, "ALTER ROLE postgres SET statement_timeout = '200ms'")
    await run(
        admin,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.type = ''Slow'' THEN PERFORM pg_sleep(20); END IF; RETURN NEW; END';"
        "CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    store = await opened(url)
    with pytest.raises(StoreUnavailable, match="statement_timeout"):
        await put(store, write("a", event("Slow")))
    await check_usable(store, 0)


async def test_no_answer_in_time(opened: Opened) -> None:
    """An append that the server does not answer in time is found out about, not left open."""
    admin = await opened()
    await run(
        admin,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.type = ''Slow'' THEN PERFORM pg_sleep(20); END IF; RETURN NEW; END';"
        "CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    store = await opened(command_timeout_s=0.3, lock_timeout_s=0.1, resolve_timeout_s=0.3)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        await put(store, write("a", event("Slow")))
    await run(
        admin,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE wait_event = 'PgSleep' AND application_name = current_setting('application_name')",
    )
    await check_usable(store, 0)


async def test_disk_full(store: PostgresEventStore) -> None:
    """What does not fit fails with `DiskFull` and stores nothing; its neighbours are stored."""
    await run(
        store,
        "CREATE FUNCTION full_() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF length(NEW.data) > 9999 THEN RAISE disk_full; END IF; RETURN NEW; END';"
        "CREATE TRIGGER full_ BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION full_()",
    )
    pipeline, big = Pipeline(), event(data=b"x" * 10_000)
    results = await settled(
        put(store, write("a", expected=0)),
        store.append([write("b"), write("c", big)], pipeline=pipeline),
        store.append([write("b")], pipeline=pipeline),
        put(store, write("a", expected=1)),
    )
    assert [type(result) for result in results] == [Appended, DiskFull, PipelineBroken, Appended]
    await check_usable(store, 2)


async def test_what_cannot_be_stored_fails_alone(store: PostgresEventStore) -> None:
    """A request of the wrong types is refused with what is wrong; its neighbours are stored."""
    wrong: list[Any] = [
        NewEvent("A", 1, "text", b"{}"),  # type: ignore[arg-type]  # that is the point
        NewEvent("A", 2**70, b"{}", b"{}"),
        NewEvent("lone \ud800", 1, b"{}", b"{}"),
        NewEvent("A", 1, b"{}", b"{}", ("\ud800",)),
        NewEvent(None, 1, b"{}", b"{}"),  # type: ignore[arg-type]  # that is the point
        "not an event",
    ]
    work = [put(store, write("bad", one)) for one in wrong]
    good = [put(store, write("good", expected=n)) for n in range(6)]
    results = await settled(*(one for pair in zip(good, work, strict=True) for one in pair))
    assert [type(result) for result in results[::2]] == [Appended] * 6
    assert [type(result) for result in results[1::2]] == [InvalidInput] * 6
    with pytest.raises(InvalidInput):
        await put(store, write("s" * 100_000 + "".join(map(chr, range(1000, 20_000)))))
    with pytest.raises(InvalidInput):
        await store.version("\ud800")
    await check_usable(store, 6)


async def test_large_events(store: PostgresEventStore) -> None:
    """Events that are large together go in several steps; too much for one step is refused."""
    data = b'"' + b"x" * (2 << 20) + b'"'
    await asyncio.gather(*(put(store, write(f"{n}", event(data=data))) for n in range(12)))
    batches = "SELECT batch FROM event_writers"
    assert await store._database.read(lambda connection: connection.fetchval(batches)) >= 3
    with pytest.raises(InvalidInput, match="split it"):
        await put(store, write("a", *[event(data=data)] * 300))
    with pytest.raises(InvalidInput):
        await put(store, StreamWrite("a", iter([event()])))  # type: ignore[arg-type]  # that is the point
    await check_usable(store, 12)


async def test_overloaded(opened: Opened) -> None:
    """More appends than may wait are refused at once; those accepted are carried out."""
    store = await opened(pending_max=10)
    pipeline = Pipeline()
    results = await settled(
        store.append([write("p", expected=0)], pipeline=pipeline),
        *(put(store, write("a")) for _ in range(30)),
        store.append([write("p", expected=1)], pipeline=pipeline),
    )
    assert [type(result) for result in results] == [Appended] * 10 + [Overloaded] * 22
    with pytest.raises(PipelineBroken):
        await store.append([write("p", expected=1)], pipeline=pipeline)
    await check_usable(store, 10)


async def test_newer_schema(store: PostgresEventStore, opened: Opened) -> None:
    """A schema of a newer version is refused and not touched."""
    await run(store, "UPDATE headwater_schema SET version = 99")
    with pytest.raises(SchemaTooNew, match="99"):
        await opened()


async def test_many_conditions_on_one_tag(store: PostgresEventStore) -> None:
    """Of any number of appends that exclude each other, in any batch, exactly one is stored."""
    condition = AppendCondition(EVERYTHING, 0)
    results = await settled(
        *(store.append([write(f"s{n}")], condition=condition) for n in range(600))
    )
    assert [type(result) for result in results].count(Appended) == 1
    await check_usable(store, 1)


async def test_snapshots_of_odd_streams(store: PostgresEventStore) -> None:
    """Names that PostgreSQL cannot store as they are come back as they were."""
    kept = Snapshot("nul\0 one\1 both\1\0", 1, "\0", b"\0")
    await store.save_snapshot(kept)
    assert await store.load_snapshot(kept.stream) == kept
