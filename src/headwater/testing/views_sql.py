"""Tables of authors, and their SQL: a part of the view store suite."""

import asyncio
import contextlib
import inspect
from typing import Any

import pytest

from headwater.errors import ClaimLost, ConfigurationError, HeadwaterError, StoreError
from headwater.testing.views_base import (
    WAIT_S_MAX,
    Clock,
    Person,
    ViewStoreSuite,
    claim,
    one_segment,
    save,
)
from headwater.views import Sql, SqlTable, ViewStore

_ENDLESS = """
    WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted)
    SELECT max(n) FROM counted
"""
_SUMS = """
    SELECT sale.customer, sum(line.cents)
    FROM {sale} AS sale JOIN {line} AS line ON line.sale = sale.id
    GROUP BY sale.customer ORDER BY sale.customer
"""


class Sale(SqlTable):
    """A sale."""

    create = "CREATE TABLE {sale} (id text PRIMARY KEY, customer text NOT NULL)"


class Line(SqlTable):
    """A line of a sale, which refers to it."""

    table_name = "sale_line"
    create = """
        CREATE TABLE {sale_line} (
            sale text NOT NULL REFERENCES {sale} (id), cents bigint NOT NULL, note text DEFAULT '{}'
        );
        CREATE INDEX {sale_line}_sale ON {sale_line} (sale);
    """


TABLES = (Person, Sale, Line)


async def sell(sql: Sql, id: str, customer: str, *cents: int) -> None:
    """Store a sale and its lines."""
    await sql.execute(f"INSERT INTO {sql.table(Sale)} VALUES ($1, $2)", id, customer)  # noqa: S608  # a name
    for amount in cents:
        insert = f"INSERT INTO {sql.table(Line)} (sale, cents) VALUES ($1, $2)"  # noqa: S608  # a name
        await sql.execute(insert, id, amount)


async def sums(sql: Sql) -> dict[str, int]:
    """Return the sum of each customer's sales."""
    statement = _SUMS.format(sale=sql.table(Sale), line=sql.table(Line))
    return {customer: int(total) for customer, total in await sql.fetch(statement)}


async def sums_in(store: ViewStore, generation: int = 0) -> dict[str, int]:
    """Return the sums in a generation; 0: in the active one."""
    generations = {"sale": generation, "sale_line": generation}
    async with store.sql(Sale, Line, generations=generations) as sql:
        return await sums(sql)


async def by_driver(sql: Sql, statement: str) -> None:
    """Carry out a statement on the driver's connection, as both kinds of drivers do."""
    connection: Any = sql.connection(object)
    done = connection.execute(statement)
    if inspect.isawaitable(done):
        await done


class ViewSql(ViewStoreSuite):
    """`ViewTransaction.sql` and `ViewStore.sql`."""

    async def has_sql(self, store: ViewStore) -> bool:
        """Make the tables; return whether there is SQL, and check that it is as declared."""
        if self.engine.sql:
            await store.ensure(TABLES)
            return True
        with pytest.raises(ConfigurationError, match="have no SQL: keep them in sqlite"):
            await store.ensure(TABLES)
        with pytest.raises(ConfigurationError, match="have no SQL"):
            async with store.transaction() as work:
                await work.sql(Sale)
        with pytest.raises(ConfigurationError, match="have no SQL"):
            async with store.sql(Sale):
                pass
        return False

    async def test_rows_and_documents_are_stored_together(self, store: ViewStore) -> None:
        """What SQL did in a transaction commits with its documents, or goes with them."""
        if not await self.has_sql(store):
            return
        async with store.transaction() as work:
            await work.save([Person("ann")])
            sql = await work.sql(Sale, Line)
            assert sql.engine == self.engine.sql
            await sell(sql, "s1", "ann", 5, 7)
            await sell(await work.sql(Sale, Line), "s2", "bob", 1)
            assert await sums(sql) == {"ann": 12, "bob": 1}
            await work.save([Person("bob")])
            people = await sql.fetch('SELECT id FROM "view_Person_1" WHERE id >= $1', "a")
            assert sorted(people) == [("ann",), ("bob",)]
        assert await sums_in(store) == {"ann": 12, "bob": 1}
        with pytest.raises(RuntimeError):
            async with store.transaction() as work:
                await work.save([Person("cid")])
                await sell(await work.sql(Sale, Line), "s3", "cid", 3)
                raise RuntimeError
        assert await sums_in(store) == {"ann": 12, "bob": 1}
        assert await store.count(Person) == 2

    async def test_a_lost_claim_takes_its_rows_along(self, store: ViewStore) -> None:
        """A transaction whose claim was lost stores no rows."""
        if not await self.has_sql(store):
            return
        former = await claim(store, await one_segment(store))
        await store.reset("p", token="0", generation=1)
        with pytest.raises(ClaimLost):
            async with store.transaction() as work:
                await sell(await work.sql(Sale, Line), "s1", "ann", 5)
                await work.advance([former], "1")
        assert await sums_in(store) == {}

    async def test_rows_have_generations(self, store: ViewStore, clock: Clock) -> None:
        """Each generation has tables of its own, which go with it, whatever refers to them."""
        if not await self.has_sql(store):
            return
        numbers = []
        for code in "ab":
            number = await store.settle_generation("p", code, TABLES)
            await store.ensure(TABLES, generation=number, processor="p")
            async with store.transaction(
                generations=dict.fromkeys(("Person", "sale", "sale_line"), number)
            ) as work:
                await sell(await work.sql(Sale, Line), "s", code, number)
            await store.activate("p", number, TABLES)
            numbers.append(number)
        first, second = numbers
        assert await sums_in(store, first) == {"a": first}
        assert await sums_in(store, second) == await sums_in(store) == {"b": second}
        following = await store.next_generation("p", "a", TABLES, after=first)
        await store.ensure(TABLES, generation=following, processor="p")
        assert await sums_in(store, following) == {}
        assert await sums_in(store, first) == {"a": first}
        await store.activate("p", following, TABLES)
        with pytest.raises(ConfigurationError, match=f"generation {first} is not in the store"):
            await sums_in(store, first)
        clock.now += 100
        assert await store.drop_unused("p", code="b", idle_s=50) == [following]
        assert await sums_in(store) == {"b": second}

    async def test_a_generation_that_was_begun_goes_with_its_rows(self, store: ViewStore) -> None:
        """What was dropped while it was filled is made anew, empty."""
        if not await self.has_sql(store):
            return
        await store.ensure(TABLES, generation=2, processor="p")
        named = {"sale": 2, "sale_line": 2}
        async with store.transaction(generations=named) as work:
            await sell(await work.sql(Sale, Line), "s", "ann", 1)
        assert await store.drop_generation("p", 2, TABLES)
        with pytest.raises(ConfigurationError, match="is not in the store"):
            async with store.transaction(generations=named) as work:
                await work.sql(Sale)
        await store.ensure(TABLES, generation=2, processor="p")
        assert await sums_in(store, 2) == {}

    async def test_another_declaration_is_refused(self, store: ViewStore) -> None:
        """A table that is declared otherwise belongs into a new generation."""
        if not await self.has_sql(store):
            return
        await store.ensure(TABLES)
        wider = type("Sale", (SqlTable,), {"create": "CREATE TABLE {sale} (id text, more text)"})
        with pytest.raises(ConfigurationError, match=r"view sale: .* another table .*: rebuild"):
            await store.ensure([wider])
        await store.ensure([wider], generation=2)

    async def test_what_the_database_does_not_take_is_refused(self, store: ViewStore) -> None:
        """A table that cannot be made is told by its class, and nothing is made of the call."""
        if not await self.has_sql(store):
            return
        elsewhere = {f"not {self.engine.sql}": "CREATE TABLE {odd} (id text)"}
        for number, create in enumerate(("CREATE TABEL {odd} (id text)", elsewhere), 2):
            odd = type("Odd", (SqlTable,), {"create": create})
            with pytest.raises(ConfigurationError, match=r"^Odd: (its create fails|has no create)"):
                await store.ensure([Sale, odd], generation=number, processor="p")
            with pytest.raises(ConfigurationError, match="is not in the store"):
                async with store.sql(Sale, generations={"sale": number}):
                    pass

    async def test_a_statement_that_fails_ends_the_transaction(self, store: ViewStore) -> None:
        """Nothing of a block is stored whose SQL failed, even if it went on; the store goes on."""
        if not await self.has_sql(store):
            return
        await self._sell(store, "s1", "ann", 1)
        for statement, values in (
            ("INSERT INTO {} VALUES ('s1', 'bob')", ()),
            ("INSERT INTO {} VALUES ($1, $2)", ("s2", None)),
            ("SELECT nothing FROM {}", ()),
            ("SELECT $1 FROM", (1,)),
            ("INSERT INTO {} VALUES ($1, $2)", ("s2",)),
            ("INSERT INTO {} VALUES ($1, $2)", ("s2", object())),
        ):
            with pytest.raises(HeadwaterError) as caught:
                async with store.transaction() as work:
                    await work.save([Person("ann")])
                    sql = await work.sql(Sale)
                    with pytest.raises(HeadwaterError):
                        await sql.fetch(statement.format(sql.table(Sale)), *values)
                    with pytest.raises(HeadwaterError):
                        await sql.execute(f"DELETE FROM {sql.table(Sale)}")  # noqa: S608  # a name
            assert caught.value.outcome == "not stored"
        assert await store.count(Person) == 0
        assert await sums_in(store) == {"ann": 1}

    async def test_the_driver_s_connection(self, store: ViewStore) -> None:
        """It is in the transaction; who expects another driver is told."""
        if not await self.has_sql(store):
            return
        async with store.transaction() as work:
            sql = await work.sql(Sale, Line)
            insert = f"INSERT INTO {sql.table(Sale)} VALUES ('s', 'ann')"  # noqa: S608  # a name
            await by_driver(sql, insert)
            await sql.execute(f"INSERT INTO {sql.table(Line)} (sale, cents) VALUES ('s', 2)")  # noqa: S608  # a name
            with pytest.raises(ConfigurationError, match=r"asyncio\..*Lock was expected"):
                sql.connection(asyncio.Lock)
            with pytest.raises(ConfigurationError, match=r"Line: is none .* \['Sale'\]"):
                (await work.sql(Sale)).table(Line)
        assert await sums_in(store) == {"ann": 2}

    @pytest.mark.parametrize("goes_on", [False, True])
    @pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "ROLLBACK; BEGIN"])
    async def test_who_ends_the_transaction_is_told(
        self, store: ViewStore, ending: str, goes_on: bool
    ) -> None:
        """Whatever ends it but the store stores nothing and is found out, also if it goes on."""
        if not await self.has_sql(store):
            return
        claimed = await claim(store, await one_segment(store))
        with pytest.raises(Exception, match="must leave the end of its transaction"):
            async with store.transaction() as work:
                await work.advance([claimed], "1")
                sql = await work.sql(Sale, Line)
                await sell(sql, "s1", "ann", 1)
                with contextlib.suppress(Exception) if goes_on else contextlib.nullcontext():
                    await by_driver(sql, ending)
                if goes_on:
                    with pytest.raises(HeadwaterError, match="leave the end"):
                        await work.check()
                    with pytest.raises(HeadwaterError):
                        await sell(sql, "s2", "bob", 1)
        assert await sums_in(store) == {}
        async with store.transaction() as work:
            await work.advance([claimed], "2")
        await self._sell(store, "s1", "ann", 1)
        assert await sums_in(store) == {"ann": 1}

    async def test_who_would_end_the_transaction_is_refused(self, store: ViewStore) -> None:
        """A statement that begins or ends a transaction is not carried out; savepoints are."""
        if not await self.has_sql(store):
            return
        async with store.transaction() as work:
            sql = await work.sql(Sale, Line)
            await sell(sql, "s1", "ann", 1)
            for statement in ("COMMIT", " rollback", "End;", "BEGIN", "START TRANSACTION", "abort"):
                with pytest.raises(StoreError, match="end the block instead"):
                    await sql.execute(statement)
            await sql.execute("SAVEPOINT mine")
            await sell(sql, "s2", "ann", 2)
            await sql.execute("ROLLBACK TO mine")
        assert await sums_in(store) == {"ann": 1}

    async def test_reading_sees_one_state(self, store: ViewStore) -> None:
        """All statements of a block see the same, whatever is committed meanwhile."""
        if not await self.has_sql(store):
            return
        await self._sell(store, "s1", "ann", 1)
        async with store.sql(Sale, Line) as sql:
            await self._sell(store, "s2", "ann", 2)
            assert await sums(sql) == {"ann": 1}
            assert await sums_in(store) == {"ann": 3}
            assert await sums(sql) == {"ann": 1}
        for use in (sql.fetch("SELECT 1"), sql.execute("SELECT 1")):
            with pytest.raises(StoreError, match="only inside its block"):
                await use
        async with store.transaction() as work:
            written = await work.sql(Sale)
        with pytest.raises(StoreError, match="only inside its block"):
            await written.fetch("SELECT 1")

    async def test_reading_changes_nothing(self, store: ViewStore) -> None:
        """A statement that would change something is refused."""
        if not await self.has_sql(store):
            return
        with pytest.raises(HeadwaterError):
            async with store.sql(Sale, Line) as sql:
                await sell(sql, "s1", "ann", 1)
        assert await sums_in(store) == {}

    async def test_many_read_at_once(self, store: ViewStore) -> None:
        """More readers than connections take turns; one that was cancelled leaves its place."""
        if not await self.has_sql(store):
            return
        await self._sell(store, "s1", "ann", 1)
        found = await asyncio.gather(*(sums_in(store) for _ in range(30)))
        assert found == [{"ann": 1}] * 30

        async def read_on() -> None:
            async with store.sql(Sale) as sql:
                begun.set()
                await sql.fetch(_ENDLESS)

        for _ in range(8):
            begun = asyncio.Event()
            endless = asyncio.ensure_future(read_on())
            await begun.wait()
            await asyncio.sleep(0)
            endless.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(endless, WAIT_S_MAX)
        assert await asyncio.wait_for(sums_in(store), WAIT_S_MAX) == {"ann": 1}

    async def test_rows_of_a_view_that_nobody_ensured(self, store: ViewStore) -> None:
        """SQL on a table that is not there is refused when it begins."""
        if not await self.has_sql(store):
            return
        absent = type("Absent", (SqlTable,), {"create": "CREATE TABLE {absent} (id text)"})
        with pytest.raises(ConfigurationError, match="generation 1 is not in the store"):
            async with store.sql(absent):
                pass
        with pytest.raises(ConfigurationError, match="generation 1 is not in the store"):
            async with store.transaction() as work:
                await work.sql(absent)
        await save(store, Person("p"))

    async def _sell(self, store: ViewStore, id: str, customer: str, *cents: int) -> None:
        async with store.transaction() as work:
            await sell(await work.sql(Sale, Line), id, customer, *cents)
