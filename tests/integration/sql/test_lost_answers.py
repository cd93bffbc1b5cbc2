"""Connections that break at the worst moments: what is reported is what a witness sees stored."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from headwater._sql.postgres.database import Database
from headwater.errors import HeadwaterError, Outcome, StoreError, StoreUnavailable
from headwater.views.postgres import PostgresViewStore
from tests.cutting_proxy import HOWS, CuttingProxy

INSERT = "INSERT INTO things VALUES ($1)"
TABLE = """
CREATE TABLE things (id bigint PRIMARY KEY, owner bigint REFERENCES things (id)
    DEFERRABLE INITIALLY DEFERRED);
"""


async def opened(url: str, **options: float) -> Database:
    return await Database.open(url, room="things", migrations=(TABLE,), **options)  # type: ignore[arg-type]  # by name


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def database(proxy: CuttingProxy) -> AsyncIterator[Database]:
    """A database with a single connection at a time, which goes through the proxy."""
    database = await opened(proxy.url, connections=1)
    yield database
    await database.close()


@pytest.fixture
async def witness(postgres_url: str) -> AsyncIterator[Database]:
    """The same database, directly."""
    witness = await opened(postgres_url)
    yield witness
    await witness.close()


async def put(database: Database, number: int) -> None:
    async with database.transaction() as connection:
        await connection.execute(INSERT, number)


async def told(database: Database, number: int) -> Outcome:
    """Return what somebody who puts a thing is told about it."""
    try:
        await put(database, number)
    except StoreUnavailable as error:
        return error.outcome
    return "stored"


async def numbers(database: Database) -> list[int]:
    rows = await database.read(lambda c: c.fetch("SELECT id FROM things ORDER BY id"))
    return [row[0] for row in rows]


async def count_marks(witness: Database) -> int:
    sql = "SELECT count(*) FROM headwater_commits"
    return int(await witness.read(lambda connection: connection.fetchval(sql)))


# --- commits ---


@pytest.mark.parametrize("how", HOWS)
async def test_the_outcome_is_what_is_stored(
    database: Database, witness: Database, proxy: CuttingProxy, how: str
) -> None:
    """Wherever a commit is cut, it is found out what became of it, and nobody is told otherwise."""
    expected: Outcome = "not stored" if how in ("before", "late") else "stored"
    outcomes: list[Outcome] = []
    cuts = 0
    while cuts < 20:
        await proxy.cut(how)
        outcomes.append(await told(database, len(outcomes)))
        before, cuts = cuts, (await proxy.tell())[how]
        # Where it was not cut it could not even begin: the connection of before was broken.
        assert outcomes[-1] == (expected if cuts > before else "not stored")
    stored = [number for number, outcome in enumerate(outcomes) if outcome == "stored"]
    assert await numbers(witness) == stored


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connections break at the very moment that only chance hits: while they are given back.

    The pool has seen that the connection is whole; then it breaks; then the pool puts it back.
    """
    release = asyncpg.pool.Pool.release

    async def breaking(pool: Any, lent: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # the driver's
        if not lent.is_closed():
            asyncio.get_running_loop().call_soon(lent._con.terminate)
        await release(pool, lent, timeout=timeout)

    monkeypatch.setattr(asyncpg.pool.Pool, "release", breaking)


@pytest.mark.usefixtures("breaking")
async def test_what_is_settled_is_reported_as_settled(
    database: Database, witness: Database
) -> None:
    """What happens to a connection while it is given back turns no answer into an error."""
    for number in range(5):
        assert await told(database, number) == "stored"
        assert await numbers(database) == list(range(number + 1))
        found = await database.read_transaction(lambda c: c.fetchval("SELECT max(id) FROM things"))
        assert found == number
        await database.repeat(lambda c, n=number: c.execute(INSERT, 100 + n))
        async with database.connection() as connection:
            await connection.execute("DELETE FROM things WHERE id >= 100")
    with pytest.raises(HeadwaterError, match="duplicate key"):
        await put(database, 1)
    assert await numbers(witness) == list(range(5))


@pytest.mark.usefixtures("breaking")
async def test_a_view_transaction_that_is_settled(postgres_url: str) -> None:
    """So it is for views and tokens: each step is made once."""
    store = await PostgresViewStore.open(postgres_url, connections=1)
    (segment,) = await store.open_segments("p", count=1, token="0", generation=1)
    claim = await store.claim(segment, owner="me", lease_s=1000.0)
    assert claim is not None
    for token in ("1", "2", "3"):
        async with store.transaction() as work:
            await work.advance([claim], token)
        assert [one.token for one in await store.segments("p")] == [token]
    await store.release([claim])
    await store.close()


@pytest.mark.parametrize(("how", "stored"), [("before", []), ("after", [1])])
async def test_unknown_is_what_cannot_be_found_out_in_time(
    proxy: CuttingProxy, witness: Database, how: str, stored: list[int]
) -> None:
    """When the server cannot be asked either, the outcome is unknown; the wait is bounded."""
    database = await opened(proxy.url, settle_timeout_s=0.2)
    await proxy.cut(how, closing=True)
    assert await told(database, 1) == "unknown"
    assert await told(database, 2) == "not stored"
    await proxy.tell()
    assert await told(database, 3) == "stored"
    assert await numbers(witness) == [*stored, 3]
    await database.close()


async def test_asking_may_be_cut_too(
    database: Database, witness: Database, proxy: CuttingProxy
) -> None:
    """Who asks what became of a commit, and loses the answer to that, does not find itself."""
    asking = {"hows": ["after"], "cuts": 3, "only": "RETURNING stored"}
    await proxy.tell(hows=["before"], chance=1.0, cuts=1, then=asking)
    assert await told(database, 1) == "not stored"
    assert await proxy.tell() == {"before": 1, "after": 3}
    assert await numbers(witness) == []


async def test_what_the_server_refuses_is_not_stored(database: Database, witness: Database) -> None:
    """A commit that the server answers with an error has stored nothing, and says so."""
    with pytest.raises(HeadwaterError) as caught:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO things VALUES (1, 2)")
    assert caught.value.outcome == "not stored"
    with pytest.raises(StoreError) as failed:  # noqa: PT012  # the block's end
        async with database.transaction() as connection:
            with pytest.raises(asyncpg.UndefinedTableError):
                await connection.execute("INSERT INTO absent VALUES (1)")
    assert failed.value.outcome == "not stored"
    assert await numbers(witness) == []


async def test_an_error_before_the_commit_stores_nothing(
    database: Database, witness: Database, proxy: CuttingProxy
) -> None:
    """A connection that breaks before the commit was sent leaves no doubt."""
    for only in ("BEGIN", "INSERT INTO things"):
        for how in HOWS[:-1]:
            await proxy.cut(how, only=only)
            assert await told(database, 1) == "not stored"
    assert await numbers(witness) == []


async def test_marks_do_not_pile_up(
    database: Database, witness: Database, postgres_url: str
) -> None:
    """What is kept to find out about commits is removed with later ones, also that of others."""
    for number in range(30):
        await put(database, number)
    assert await count_marks(witness) == 1
    async with witness.connection() as connection:
        await connection.execute("UPDATE headwater_commits SET at = now() - interval '2 days'")
    other = await opened(postgres_url)
    await put(other, 30)
    assert await count_marks(witness) == 1
    await other.close()


# --- statements that may be done twice, and reads ---


@pytest.mark.parametrize("how", HOWS)
async def test_an_answer_that_was_read_is_an_answer(
    database: Database, witness: Database, proxy: CuttingProxy, how: str
) -> None:
    """A read whose connection breaks, also when it is given back, gives what is there."""
    await put(witness, 7)
    for only in ("SELECT id FROM things", "ROLLBACK\0"):
        for _ in range(10):
            await proxy.cut(how, only=only)
            found = await database.read_transaction(
                lambda c: c.fetchval("SELECT id FROM things WHERE id = 7")
            )
            assert found == 7
            await proxy.cut(how, only=only)
            assert await numbers(database) == [7]


async def test_reads_store_nothing(database: Database, proxy: CuttingProxy) -> None:
    """Whatever a read fails with, nothing of it is stored."""
    await proxy.tell(hows=["after"], chance=1.0, only="SELECT id")
    with pytest.raises(StoreUnavailable) as caught:
        await numbers(database)
    assert caught.value.outcome == "not stored"


@pytest.mark.parametrize("how", HOWS)
async def test_what_can_be_done_twice_is(
    database: Database, witness: Database, proxy: CuttingProxy, how: str
) -> None:
    """A statement that does no harm twice is done again when its answer was lost, and succeeds."""
    sql = "INSERT INTO things VALUES ($1) ON CONFLICT DO NOTHING"
    for number in range(10):
        await proxy.cut(how, only="ON CONFLICT")
        await database.repeat(lambda connection, n=number: connection.execute(sql, n))
    assert await numbers(witness) == list(range(10))


async def test_one_statement_may_be_stored(
    database: Database, witness: Database, proxy: CuttingProxy
) -> None:
    """A statement outside a transaction: unknown if it was not answered, else as answered."""
    await proxy.cut("after", only="INSERT")
    with pytest.raises(StoreUnavailable) as caught:
        async with database.connection() as connection:
            await connection.execute("INSERT INTO things VALUES (1)")
    assert caught.value.outcome == "unknown"
    await proxy.cut("behind", only="INSERT")
    async with database.connection() as connection:
        await connection.execute("INSERT INTO things VALUES (2)")
    assert await numbers(witness) == [1, 2]
    with pytest.raises(HeadwaterError) as caught:
        async with database.connection() as connection:
            await connection.execute("INSERT INTO things VALUES (2)")
    assert caught.value.outcome == "not stored"


# --- at random ---


@pytest.mark.parametrize("seed", range(2))
async def test_cut_at_random(postgres_url: str, seed: int) -> None:
    """Several tasks, cancelled at any moment, over a way cut at any moment: nobody is told wrongly.

    No connection is lost to the pool, and no error is forgotten but that of a driver's connection.
    """
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    draw = random.Random(seed)  # not for secrets
    said: dict[int, Outcome | None] = {}

    async def caller(first: int) -> None:
        for number in range(first, first + 60):
            task = asyncio.create_task(told(database, number))
            if draw.random() < 0.3:
                for _ in range(draw.randrange(80)):
                    await asyncio.sleep(0)
                task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            cancelled = isinstance(outcome, asyncio.CancelledError)
            assert cancelled or isinstance(outcome, str), outcome
            said[number] = None if isinstance(outcome, BaseException) else outcome

    async with CuttingProxy(postgres_url, seed=seed) as proxy:
        witness = await opened(postgres_url)
        database = await opened(proxy.url, connections=2)
        await proxy.tell(only="COMMIT\0" if seed % 2 else "", chance=0.4 if seed % 2 else 0.15)
        await asyncio.gather(*(caller(1000 * n) for n in range(4)))
        cut = await proxy.tell()
        assert sum(cut.values()) > 50, cut
        async with database.connection(), database.connection():
            pass  # both are still there
        stored = set(await numbers(witness))
        await database.close()
        await witness.close()
    assert "unknown" not in said.values()
    for number, outcome in said.items():
        assert outcome is None or (number in stored) == (outcome == "stored"), (number, outcome)
    assert Counter(said.values())["stored"] > 50
    assert not [each for each in complaints if not isinstance(each.get("exception"), OSError)]
