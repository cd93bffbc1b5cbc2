"""Read models that are tables of SQL: filled exactly once, per generation, whatever happens."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import apsw
import asyncpg
import pytest

from headwater.errors import ConfigurationError, Unavailable
from headwater.eventstore.postgres import PostgresEventStore
from headwater.modelling import Projection, event_handler
from headwater.operations.state import scratch_for
from headwater.processing import (
    DeadLetter,
    Processor,
    ProcessorAdmin,
    StoreSource,
    rebuild,
    view_at,
)
from headwater.views import SqlTable, ViewStore, ViewTransaction
from headwater.views.memory import MemoryViewStore
from headwater.views.postgres import PostgresViewStore
from tests.cutting_proxy import CuttingProxy
from tests.integration.processing.conftest import QUICK, Stores
from tests.integration.processing.domain import (
    AccountView,
    Deposited,
    Noted,
    Opened,
    append,
)
from tests.postgres_server import POSTGRES

pytestmark = pytest.mark.parametrize("stores", ["sqlite", POSTGRES], indirect=True)


class Holder(SqlTable):
    create = "CREATE TABLE {holder} (account text PRIMARY KEY, name text NOT NULL)"


class Entry(SqlTable):
    create = """
        CREATE TABLE {entry} (account text NOT NULL REFERENCES {holder} (account), cents bigint);
        CREATE INDEX {entry}_account ON {entry} (account);
    """


class Balances(Projection):
    """Two tables, and the same as a view; ``poison`` amounts are refused after their effect."""

    name = "balances"
    view_types = (Holder, Entry)
    version = "1"

    def __init__(self) -> None:
        self.poison: set[int] = set()
        self.fails = 0
        self.goes_on = False

    @event_handler(AccountView, key="account_id")
    def made(self, event: Opened) -> AccountView:
        return AccountView(event.account_id, event.holder)

    @event_handler(AccountView, key="account_id")
    def changed(self, view: AccountView, event: Deposited) -> None:
        view.balance += event.amount

    @event_handler
    async def opened(self, event: Opened, transaction: ViewTransaction) -> None:
        sql = await transaction.sql(Holder)
        insert = f"INSERT INTO {sql.table(Holder)} VALUES ($1, $2)"
        await sql.execute(insert, event.account_id, event.holder)

    @event_handler
    async def deposited(self, event: Deposited, transaction: ViewTransaction) -> None:
        sql = await transaction.sql(Entry)
        insert = f"INSERT INTO {sql.table(Entry)} VALUES ($1, $2)"
        await sql.execute(insert, event.account_id, event.amount)
        if self.fails:
            self.fails -= 1
            msg = "not yet"
            raise ConnectionError(msg)
        if event.amount in self.poison:
            msg = f"cannot take {event.amount}"
            raise ValueError(msg)

    @event_handler
    async def noted(self, event: Noted, transaction: ViewTransaction) -> None:
        """Do what somebody does who knows the driver, and not our rules."""
        sql = await transaction.sql(Holder)
        with contextlib.suppress(Exception) if self.goes_on else contextlib.nullcontext():
            if sql.engine == "postgres":
                await sql.connection(asyncpg.Connection).execute(event.text)
            else:
                sql.connection(apsw.Connection).execute(event.text)


class LaterBalances(Balances):
    """The program after: it counts each entry twice."""

    name = "balances"
    version = "2"

    @event_handler
    async def deposited(self, event: Deposited, transaction: ViewTransaction) -> None:
        for _ in range(2):
            await super().deposited(event, transaction)


async def sums(projection: Projection | ViewStore) -> dict[str, int]:
    """Return the sum of each holder, from a join, as the program of a projection has it."""
    views = projection.views if isinstance(projection, Projection) else projection
    async with views.sql(Holder, Entry) as sql:
        rows = await sql.fetch(
            f"SELECT holder.name, sum(entry.cents) FROM {sql.table(Holder)} AS holder "
            f"JOIN {sql.table(Entry)} AS entry USING (account) GROUP BY holder.name"
        )
    return {name: int(total) for name, total in rows}


async def started(stores: Stores, projection: Projection, owner: str = "me") -> Processor:
    processor = Processor(
        projection,
        source=stores.source,
        views=await stores.another(),
        owner=owner,
        settings=QUICK,
    )
    await stores.start(processor)
    async with asyncio.timeout(30):
        await processor.filled()
    return processor


async def fill(
    stores: Stores, deposits: int = 5, names: Sequence[str] = ("ada", "bob", "cid")
) -> None:
    for name in names:
        await append(
            stores.store, name, Opened(name, name), *[Deposited(name, 1) for _ in range(deposits)]
        )


async def test_rows_are_there_once(stores: Stores) -> None:
    """What failed, even after its effect, is there once when it was tried again; as the view is."""
    projection = Balances()
    projection.fails = 7
    processor = await started(stores, projection)
    await fill(stores)
    await stores.caught_up(processor)
    assert await sums(projection) == {"ada": 5, "bob": 5, "cid": 5}
    found = (await projection.views.find(AccountView)).items
    assert {view.id: view.balance for view in found} == {"ada": 5, "bob": 5, "cid": 5}


@pytest.mark.parametrize("constraint", [False, True])
async def test_an_event_that_fails_is_parked_without_its_rows(
    stores: Stores, constraint: bool
) -> None:
    """A handler that fails, or whose SQL the database refuses, parks its stream; others go on."""
    projection = Balances()
    projection.poison = {13}
    processor = await started(stores, projection)
    bad = Opened("ada", "again") if constraint else Deposited("ada", 13)
    await fill(stores)
    await append(stores.store, "ada", bad, Deposited("ada", 1))
    await append(stores.store, "bob", Deposited("bob", 1))
    await stores.caught_up(processor)
    assert await sums(projection) == {"ada": 5, "bob": 6, "cid": 5}
    letters = (await stores.views.find(DeadLetter)).items
    assert [letter.sequence for letter in letters] == ["ada", "ada"]
    if not constraint:
        projection.poison = set()
        admin = ProcessorAdmin(projection, source=stores.source, views=stores.views)
        assert (await admin.retry("ada")).failed is None
        assert await sums(projection) == {"ada": 19, "bob": 6, "cid": 5}


async def test_a_rebuild_beside_what_is_in_service(stores: Stores) -> None:
    """Readers see the former rows, whole, until the new ones are complete; then these."""
    projection = Balances()
    processor = await started(stores, projection)
    await fill(stores, deposits=20)
    await stores.caught_up(processor)
    seen: Counter[int] = Counter()
    rebuilt = asyncio.Event()

    async def read() -> None:
        while not rebuilt.is_set():
            seen[sum((await sums(projection)).values())] += 1
            await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    for _ in range(2):
        await rebuild(
            Balances(),
            source=stores.source,
            views=await stores.another(),
            owner="other",
            settings=QUICK,
        )
    rebuilt.set()
    await reading
    assert set(seen) == {60}
    await append(stores.store, "ada", Deposited("ada", 1))
    await stores.caught_up(processor)
    assert await sums(projection) == {"ada": 21, "bob": 20, "cid": 20}


async def test_two_versions_beside_one_another(stores: Stores) -> None:
    """Each program has rows that its own code made, in any order of their start."""
    await fill(stores)
    old = Balances()
    first = await started(stores, old, "old")
    new = LaterBalances()
    second = await started(stores, new, "new")
    await append(stores.store, "ada", Deposited("ada", 1))
    for processor in (first, second):
        await stores.caught_up(processor)
    assert await sums(old) == {"ada": 6, "bob": 5, "cid": 5}
    assert await sums(new) == {"ada": 12, "bob": 10, "cid": 10}
    assert first.applier.code != second.applier.code


async def test_another_table_makes_another_code(stores: Stores) -> None:
    """A table that is declared otherwise is another program's, whatever its text was made of."""

    def code(columns: str) -> str:
        create = f"CREATE TABLE {{holder}} ({columns})"
        table = type("Other", (SqlTable,), {"table_name": "holder", "create": create})
        options = {"name": "balances", "version": "1", "view_types": (table, Entry)}
        projection = type("Others", (Balances,), options)()
        processor = Processor(projection, source=stores.source, views=stores.views, owner="me")
        return processor.applier.code

    assert code("account text") == code("account text") != code("account text, more text")


async def test_the_past_of_a_view_beside_own_tables(stores: Stores) -> None:
    """A view is told as it was, also if its projection keeps tables, which memory has not."""
    await fill(stores)
    async with scratch_for(Balances()) as scratch:
        found = await view_at(
            Balances, AccountView, "ada", source=stores.source, scratch=scratch, position=3
        )
    assert found == AccountView("ada", "ada", balance=2)
    with pytest.raises(ConfigurationError, match="views in memory: have no SQL"):
        await Processor(
            Balances(), source=stores.source, views=MemoryViewStore(), owner="me"
        ).start()


@pytest.mark.parametrize("text", ["COMMIT", "ROLLBACK", "ROLLBACK; BEGIN", "SELECT nothing"])
@pytest.mark.parametrize("goes_on", [False, True])
async def test_who_ends_the_transaction_holds_up_its_stream_only(
    stores: Stores, text: str, goes_on: bool
) -> None:
    """A handler that ends it by itself is told, and nobody else is held up, in one batch or two."""
    projection = Balances()
    projection.goes_on = goes_on
    await append(stores.store, "ada", Opened("ada", "ada"), Deposited("ada", 1))
    await append(stores.store, "odd", Noted(text))
    await fill(stores, names=("bob", "cid"))
    processor = await started(stores, projection)
    await append(stores.store, "ada", *[Deposited("ada", 1) for _ in range(4)])
    await stores.caught_up(processor)
    assert await sums(projection) == {"ada": 5, "bob": 5, "cid": 5}
    in_postgres = isinstance(stores.views, PostgresViewStore)
    harmless = goes_on and text == "SELECT nothing" and not in_postgres  # there it ends nothing
    letters = (await stores.views.find(DeadLetter)).items
    parked = [] if harmless else [("odd", QUICK.retry.attempts)]
    assert [(letter.sequence, letter.attempts) for letter in letters] == parked


@pytest.mark.parametrize("seed", range(2))
async def test_rows_survive_a_way_that_is_cut(
    stores: Stores, request: pytest.FixtureRequest, seed: int
) -> None:
    """Wherever the way to the server is cut, rows are there once, and nothing is parked."""
    if not isinstance(stores.views, PostgresViewStore):
        return
    url: str = request.getfixturevalue("postgres_url")
    projection = Balances()
    async with CuttingProxy(url, seed=seed) as proxy:
        store = await PostgresEventStore.open(url)
        views = await PostgresViewStore.open(proxy.url)
        processor = Processor(
            projection, source=StoreSource(store, "ledger"), views=views, owner="me", settings=QUICK
        )
        await stores.start(processor)
        await fill(stores)
        made = 0
        for goal, how in ((12, {"chance": 0.3}), (24, {"only": "", "chance": 0.1})):
            while sum((await proxy.tell(**how)).values()) < goal:  # first commits, then anything
                await append(stores.store, "ada", Deposited("ada", 1), Noted("SELECT 1"))
                made += 1
                await asyncio.sleep(0.005)
        await proxy.tell()
        await stores.caught_up(processor)
        assert await sums(stores.views) == {"ada": 5 + made, "bob": 5, "cid": 5}
        assert await stores.views.count(DeadLetter) == 0
        await processor.stop()
        await views.close()
        await store.close()


async def test_a_driver_s_outage_is_one_of_the_store(stores: Stores) -> None:
    """What the driver raises for a broken connection in a handler is `StoreUnavailable`."""
    await stores.views.ensure([Holder])

    async def broken(outage: Any) -> None:
        async with stores.views.transaction() as work:
            await work.sql(Holder)
            msg = "it failed"
            raise ValueError(msg) from outage

    outages = (apsw.IOError("disk"), apsw.FullError("full"))
    if isinstance(stores.views, PostgresViewStore):
        outages = (asyncpg.ConnectionDoesNotExistError("gone"), asyncpg.DeadlockDetectedError("d"))
    for outage in outages:
        with pytest.raises(Unavailable):
            await broken(outage)
    with pytest.raises(ValueError, match="it failed"):
        await broken(KeyError("a fault of the handler"))
