"""A view store in PostgreSQL whose server, connection or neighbours fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import asyncpg
import pytest

from headwater.errors import ClaimLost, InvalidInput, StoreUnavailable
from headwater.views import Index, Key, Segment, View
from headwater.views.postgres import PostgresViewStore
from tests.cutting_proxy import CuttingProxy
from tests.postgres_server import PostgresServer, execute

WAIT_S_MAX = 20.0


class Doc(View):
    id: Annotated[str, Key]
    text: Annotated[str, Index] = ""


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresViewStore]:
    store = await PostgresViewStore.open(postgres_url, lock_timeout_s=0.2)
    await store.ensure([Doc])
    yield store
    await store.close()


async def save(store: PostgresViewStore, *docs: Doc) -> None:
    async with store.transaction() as work:
        await work.save(docs)


async def claimed(store: PostgresViewStore, *, lease_s: float = 60) -> Segment:
    (segment,) = await store.open_segments("p", count=1, token="0", generation=1)
    found = await store.claim(segment, owner="me", lease_s=lease_s)
    assert found is not None
    return found


async def work_on(store: PostgresViewStore, segment: Segment, number: int) -> None:
    async with store.transaction() as work:
        await work.advance([segment], str(number))
        await work.save([Doc(f"d{number}")])


async def test_the_database_tells_the_time(store: PostgresViewStore) -> None:
    """Without a clock leases end by the clock of the database, whatever that of the machine."""
    segment = await claimed(store, lease_s=0.05)
    taken = await heir(store, segment)
    assert taken.fence == 2
    (renewed,) = await store.renew([taken], lease_s=90)
    assert 20 < renewed.lease_until - taken.lease_until < 60


async def heir(store: PostgresViewStore, segment: Segment) -> Segment:
    """Claim a segment as soon as its lease has ended."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            taken = await store.claim(segment, owner="heir", lease_s=60)
            if taken is not None:
                return taken


async def test_a_segment_in_a_transaction_is_not_waited_for(
    store: PostgresViewStore, postgres_url: str
) -> None:
    """While a slow transaction works on a segment, others learn at once that it is not free."""
    other = await PostgresViewStore.open(postgres_url, lock_timeout_s=60)
    segment = await claimed(store, lease_s=-1)
    async with store.transaction() as work:
        await work.advance([segment], "1")
        async with asyncio.timeout(WAIT_S_MAX):
            assert await other.claim(segment, owner="heir", lease_s=60) is None
    assert (await heir(other, segment)).token == "1"
    await other.close()


async def save_and_raise(store: PostgresViewStore, error: Exception) -> None:
    async with store.transaction() as work:
        await work.save([Doc("a")])
        raise error


async def test_what_the_block_raises_comes_out(store: PostgresViewStore) -> None:
    """A time-out or a broken connection of the caller's own is not taken for the database's."""
    for error in (TimeoutError("mine"), ConnectionResetError("mine"), asyncpg.InterfaceError("m")):
        with pytest.raises(type(error)) as caught:
            await save_and_raise(store, error)
        assert caught.value is error
    assert await store.count(Doc) == 0
    await save(store, Doc("a"))


async def test_a_failed_step_fails_the_block(store: PostgresViewStore) -> None:
    """After an error of the database nothing of the block is stored, even if it is caught."""

    class Wide(View):
        index_bytes_max = 100_000  # more than the database takes
        id: Annotated[str, Key]
        text: Annotated[str, Index]

    await store.ensure([Wide])
    long = Wide("a", "".join(chr(300 + n) for n in range(9000)))

    async def go_on() -> None:
        async with store.transaction() as work:
            await work.save([Doc("before")])
            with pytest.raises(InvalidInput, match="longer than an index"):
                await work.save([long])

    with pytest.raises(InvalidInput, match="longer than an index"):
        await go_on()
    assert await store.count(Doc) == 0
    await save(store, Doc("after"))
    assert await store.count(Doc) == 1


async def test_locks_of_others_are_waited_for_in_bounds(
    store: PostgresViewStore, postgres_url: str
) -> None:
    """While somebody keeps a document locked, work on it fails in time; all else goes on."""
    await save(store, Doc("locked"), Doc("free"))
    other = await PostgresViewStore.open(postgres_url)
    async with other.transaction() as holding:
        await holding.load(Doc, ["locked"])
        with pytest.raises(StoreUnavailable, match=r"lock is held .*pg_stat_activity"):
            async with store.transaction() as work:
                await work.load(Doc, ["locked"])
        assert await store.get(Doc, "locked") == Doc("locked")
        await save(store, Doc("free", "changed"))
    await save(store, Doc("locked", "changed"))
    assert await other.get(Doc, "locked") == Doc("locked", "changed")
    await other.close()


async def test_one_of_two_makes_a_document(store: PostgresViewStore, postgres_url: str) -> None:
    """Of two processes that both found a document absent one stores it; the other begins again."""
    other = await PostgresViewStore.open(postgres_url)
    loaded = asyncio.Event()

    async def late() -> None:
        async with store.transaction() as second:
            assert await second.load(Doc, ["new"]) == {}
            loaded.set()
            await second.save([Doc("new", "second")])

    async with other.transaction() as first:
        assert await first.load(Doc, ["new"]) == {}
        await first.save([Doc("new", "first")])
        waiting = asyncio.create_task(late())
        await loaded.wait()
        await other_waits(other)
    with pytest.raises(StoreUnavailable, match="same document meanwhile"):
        await waiting
    assert await store.get(Doc, "new") == Doc("new", "first")
    await other.close()


async def other_waits(store: PostgresViewStore) -> None:
    """Wait until a transaction waits for another one."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
    async with asyncio.timeout(WAIT_S_MAX):
        while not await store._database.read(lambda c: c.fetchval(waiting)):
            pass


async def test_an_activation_meanwhile(store: PostgresViewStore, postgres_url: str) -> None:
    """A transaction on the active generation finds the one that is active when it begins."""
    await save(store, Doc("a", "first"))
    other = await PostgresViewStore.open(postgres_url)
    await other.ensure([Doc], generation=2)
    async with other.transaction(generations={"Doc": 2}) as work:
        await work.save([Doc("a", "second")])
    await other.activate("p", 2, [Doc])
    async with store.transaction() as work:
        assert await work.load(Doc, ["a"]) == {"a": Doc("a", "second")}
        await work.save([Doc("b")])
    assert await other.count(Doc) == 2
    await other.close()


async def test_reads_at_once_share_round_trips(
    store: PostgresViewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred reads by key at once take two statements; each gets its own copy and outcome."""
    await save(store, *(Doc(f"d{n}", "x") for n in range(90)))
    reads, read = [], store._database.read

    async def counting(work: Any) -> Any:
        reads.append(work)
        return await read(work)

    monkeypatch.setattr(store._database, "read", counting)
    asked = [*(f"d{n}" for n in range(100)), "d1"]
    found = await asyncio.gather(*(store.get(Doc, key) for key in asked))
    assert [doc.id if doc else None for doc in found] == [
        *(f"d{n}" for n in range(90)), *([None] * 10), "d1",
    ]  # fmt: skip
    assert found[1] is not found[-1]
    assert len(reads) == 2


async def test_a_cancelled_read_holds_up_nobody(store: PostgresViewStore) -> None:
    """Whichever of several reads is cancelled, the others are answered."""
    await save(store, Doc("a"))
    for cancelled in range(3):
        reads = [asyncio.create_task(store.get(Doc, "a")) for _ in range(3)]
        await asyncio.sleep(0)
        reads[cancelled].cancel()
        found = await asyncio.gather(*reads, return_exceptions=True)
        assert isinstance(found.pop(cancelled), asyncio.CancelledError)
        assert found == [Doc("a")] * 2
    assert await store.get(Doc, "a") == Doc("a")


async def test_names_of_any_length(store: PostgresViewStore) -> None:
    """View types and fields whose names PostgreSQL would cut off, or has taken, are kept apart."""
    long = "Ärger" * 20
    views = [
        type(f"{long}{n}", (View,), {
            "__annotations__": {
                "id": Annotated[str, Key],
                "xmin": Annotated[int, Index],
                f"{long}_a": Annotated[str, Index],
                f"{long}_b": Annotated[str, Index],
            },
        })
        for n in range(2)
    ]  # fmt: skip
    await store.ensure(views)
    async with store.transaction() as work:
        await work.save([view("k", n, "a", "b") for n, view in enumerate(views)])
    for n, view in enumerate(views):
        found = await store.find(view, where={"xmin": n, f"{long}_b": "b"}, order_by="xmin")
        assert found.items == [view("k", n, "a", "b")]


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: CuttingProxy) -> AsyncIterator[PostgresViewStore]:
    """A store whose connections go through the proxy."""
    store = await PostgresViewStore.open(proxy.url)
    await store.ensure([Doc])
    yield store
    await store.close()


@pytest.mark.parametrize("how", ["late", "after", "within", "behind"])
async def test_a_commit_whose_answer_is_lost_counts(
    behind: PostgresViewStore, proxy: CuttingProxy, how: str
) -> None:
    """The block ends well when it turns out that the server had committed."""
    segment = await claimed(behind)
    await proxy.cut(how)
    await work_on(behind, segment, 1)
    assert (await behind.segments("p"))[0].token == "1"
    assert await behind.count(Doc) == 1
    await work_on(behind, segment, 2)
    assert await behind.count(Doc) == 2


async def test_a_commit_that_did_not_arrive_counts_not(
    behind: PostgresViewStore, proxy: CuttingProxy
) -> None:
    """The block fails when it turns out that the server had not; the same can be done again."""
    segment = await claimed(behind)
    await proxy.cut("before")
    with pytest.raises(StoreUnavailable) as caught:
        await work_on(behind, segment, 1)
    assert caught.value.outcome == "not stored"
    assert (await behind.segments("p"))[0].token == "0"
    assert await behind.count(Doc) == 0
    await work_on(behind, segment, 1)
    assert await behind.count(Doc) == 1


@pytest.mark.parametrize(("how", "stored"), [("before", 0), ("after", 1)])
async def test_doubt_ends_the_claim(
    behind: PostgresViewStore, proxy: CuttingProxy, how: str, stored: int
) -> None:
    """When nobody can say what became of a commit, the claim is lost, so nothing counts twice."""
    behind._database.commits.settle_timeout_s = 0.2
    segment = await claimed(behind)
    await proxy.cut(how, closing=True)
    with pytest.raises(StoreUnavailable, match="unknown whether") as caught:
        await work_on(behind, segment, 1)
    assert caught.value.outcome == "unknown"
    await proxy.tell()
    with pytest.raises(ClaimLost):
        await work_on(behind, segment, 1)
    assert await behind.count(Doc) == stored
    await behind.release([segment])
    again = await claimed(behind)
    assert again.token == str(stored)
    await work_on(behind, again, 2)
    assert await behind.count(Doc) == stored + 1


async def test_lost_commits_end_the_claim(
    store: PostgresViewStore, postgres_server: str, postgres_url: str
) -> None:
    """Whose last commits a failover has lost stores nothing more; the next claim starts there."""
    segment = await claimed(store)
    await work_on(store, segment, 1)
    schema = postgres_url.partition("schema=")[2]
    lost = f"UPDATE {schema}.view_segments SET token = '0', steps = 0"
    await asyncio.to_thread(execute, postgres_server, lost)
    with pytest.raises(ClaimLost):
        await work_on(store, segment, 2)
    assert await store.count(Doc) == 1
    await store.release([segment])
    again = await claimed(store)
    assert again.token == "0"
    await work_on(store, again, 1)
    await work_on(store, again, 2)


async def test_a_split_whose_answer_is_lost_counts(
    behind: PostgresViewStore, proxy: CuttingProxy
) -> None:
    """Whether segments were replaced is found out like what became of a token."""
    await behind.open_segments("p", count=1, token="0", generation=1)
    for count, how in ((2, "after"), (3, "before")):
        parts = [Segment("p", 1, index, count, "0") for index in range(count)]
        await proxy.cut(how)
        try:
            async with behind.transaction() as work:
                await work.replace_segments(parts)
        except StoreUnavailable as error:
            assert how == "before", error  # noqa: PT017  # the other one must not fail
        assert [s.count for s in await behind.segments("p")] == [2, 2]


async def test_the_server_comes_back(own_postgres: PostgresServer) -> None:
    """While the server is away everything says so; when it is back everything works by itself."""
    store = await PostgresViewStore.open(own_postgres.url())
    await store.ensure([Doc])
    segment = await claimed(store)
    await work_on(store, segment, 1)
    async with aclosing(store.changes()) as changes:
        await anext(changes)
        await asyncio.to_thread(own_postgres.kill)
        for use in (store.get(Doc, "d1"), work_on(store, segment, 2), store.segments()):
            with pytest.raises(StoreUnavailable):
                await use
        await asyncio.to_thread(own_postgres.start)
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                try:
                    await work_on(store, segment, 2)
                except StoreUnavailable:
                    await asyncio.sleep(0.01)
                else:
                    break
            while await store.count(Doc) != 2:
                await anext(changes)
    assert (await store.segments("p"))[0].token == "2"
    await store.close()
