"""SQL of authors in SQLite: in a transaction that writes, or on a reading connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import apsw

from headwater._sql.sqlite.connection import (
    REFUSED,
    check_in_place,
    connect,
    roll_back,
    translate,
)
from headwater._sql.sqlite.database import Database
from headwater.errors import StoreError, StoreUnavailable
from headwater.views.author_sql import AuthorSql
from headwater.views.checks import missing
from headwater.views.sql_tables import SqlTable, name_in
from headwater.views.sqlite.generations import Generations

T = TypeVar("T")
_READERS_MAX = 4
_THERE = "SELECT 1 FROM sqlite_schema WHERE name = ?"


class SQLiteSql(AuthorSql):
    """A `Sql`."""

    engine = "sqlite"

    async def _fetch(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        bindings = {f"{number}": value for number, value in enumerate(values, 1)}

        def work(connection: apsw.Connection) -> list[tuple[Any, ...]]:
            try:
                return connection.execute(statement, bindings or None).fetchall()
            except (TypeError, KeyError) as error:  # of a value that is of no use, or not there
                reason = f"{type(error).__name__}: {error}: give a value for each $1, $2, ..."
                store = connection.filename
                raise StoreError(store=store, reason=reason, outcome="not stored") from error

        found: list[tuple[Any, ...]] = await self._run(work)
        return found


def names_of(
    connection: apsw.Connection,
    known: Generations,
    tables: Sequence[type[SqlTable]],
    generations: Mapping[str, int],
) -> dict[type[SqlTable], str]:
    """Return what tables are called in their generations.

    Raises:
        ConfigurationError: one is not there.
    """
    found = {}
    for table in tables:
        chosen = generations.get(table.table_name) or known.active(connection, table.table_name)
        name = found[table] = name_in(table.table_name, chosen)
        if connection.execute(_THERE, (name,)).get is None:
            raise missing(table.table_name, chosen)
    return found


class Readers:
    """Connections on which authors read, each transaction on one of its own."""

    def __init__(self, database: Database, known: Generations) -> None:
        """Open none yet."""
        self._database = database
        self._known = known
        self._free: list[apsw.Connection] = []
        self._turns = asyncio.Semaphore(_READERS_MAX)
        self._closed = False

    @contextlib.asynccontextmanager
    async def transaction(
        self, tables: Sequence[type[SqlTable]], generations: Mapping[str, int]
    ) -> AsyncIterator[SQLiteSql]:
        """Begin to read; see `ViewStore.sql`."""
        ended = False
        store = str(self._database.path)

        def check() -> None:
            if ended:
                reason = "the reading has ended: use it only inside its block"
                raise StoreError(store=store, reason=reason, outcome="not stored")

        async with self._turns:
            self._check_open()
            connection = self._free.pop() if self._free else await asyncio.to_thread(self._connect)

            async def run(work: Callable[[apsw.Connection], T]) -> T:
                check()
                return await self._run(connection, work)

            def begin(inside: apsw.Connection) -> dict[type[SqlTable], str]:
                check_in_place(inside)
                inside.execute("BEGIN")
                return names_of(inside, self._known, tables, generations)

            try:
                yield SQLiteSql(await run(begin), connection, check, run)
            finally:
                ended = True
                roll_back(connection)
                if self._closed:
                    connection.close()
                else:
                    self._free.append(connection)

    def close(self) -> None:
        """Close all that nobody uses; the others are closed when they are given back."""
        self._closed = True
        while self._free:
            self._free.pop().close()

    async def _run(self, connection: apsw.Connection, work: Callable[[apsw.Connection], T]) -> T:
        """Run work on a thread, to its end; when cancelled, it ends early."""
        future = asyncio.ensure_future(asyncio.to_thread(work, connection))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                connection.interrupt()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future], timeout=_INTERRUPT_AGAIN_S)
            if not future.cancelled():
                future.exception()  # it was looked at
            raise
        except REFUSED as error:
            raise translate(error, self._database.path) from error

    def _connect(self) -> apsw.Connection:
        connection = connect(self._database.path)
        connection.execute("PRAGMA query_only = ON").fetchall()
        return connection

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open it again"
            store = str(self._database.path)
            raise StoreUnavailable(store=store, reason=reason, outcome="not stored")


_INTERRUPT_AGAIN_S = 0.05  # an interruption before the statement begins is not noticed
