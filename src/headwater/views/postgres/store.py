"""Views in a PostgreSQL schema that the processes of any number of machines share.

Transactions of one store take turns; those of several processes run at the same time and wait for
each other only where they touch the same segments or documents.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

import asyncpg

from headwater._sql.postgres.commits import finished, roll_back
from headwater._sql.postgres.database import Database
from headwater._sql.postgres.errors import translated
from headwater._sql.postgres.owner import owner, settle_owner
from headwater._sql.resources import script
from headwater.errors import StoreUnavailable
from headwater.messages import Textual
from headwater.views.api import ViewPage
from headwater.views.conditions import Where
from headwater.views.doubts import Claim, Doubts
from headwater.views.exclusive import Exclusive
from headwater.views.model import View, key_text, key_texts
from headwater.views.postgres import generations as generations_sql
from headwater.views.postgres import segments as segments_sql
from headwater.views.postgres.generations import Generations
from headwater.views.postgres.points import Points
from headwater.views.postgres.sql import PostgresSql, reading
from headwater.views.postgres.tables import Table, escape_all
from headwater.views.postgres.transaction import PostgresViewTransaction
from headwater.views.selection import Asked, select
from headwater.views.sql_store import SqlViewStore
from headwater.views.sql_tables import SqlTable

V = TypeVar("V", bound=View)
T = TypeVar("T")

_ROOM = "views"
_MIGRATIONS = ("schema_1.sql",)
_STEPS_MAX = 4096
_AGAIN_S = 0.05  # after tables that go were found in use


class PostgresViewStore(SqlViewStore):
    """A `ViewStore` in one schema; use `open`."""

    generations_sql = generations_sql
    segments_sql = segments_sql

    def __init__(
        self, database: Database, clock: Callable[[], float] | None, *, patience_s: float
    ) -> None:
        """Take over an open database; use `open`."""
        self._database = database
        self._patience_s = patience_s
        self._clock = clock
        self._known = Generations()
        self._points: dict[tuple[type[View], int], Points] = {}
        self._writing = Exclusive(database.name)
        self._doubts = Doubts()
        self._steps: dict[Claim, int] = {}
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Callable[[], float] | None = None,
        schema: str = "headwater",
        connections: int = 4,
        lock_timeout_s: float = 5.0,
    ) -> Self:
        """Open the store in a schema, which is made if missing.

        Args:
            url: ``postgresql://user:password@host:port/database?schema=accounts``.
            clock: tells when leases end, seconds since 1970 UTC; all who share the store must
                agree on it. None: the database's clock, so that machines need not agree.
            schema: used when the URL names none. Who shares a schema shares the work.
            connections: how many at most, besides the one for wake-ups.
            lock_timeout_s: how long to wait for segments and documents that others work on.

        Raises:
            ConfigurationError: the URL is wrong.
            SchemaTooNew, StoreUnavailable, DiskFull: nothing was changed.
        """
        database = await Database.open(
            url,
            room=_ROOM,
            migrations=[script("headwater.views.postgres", name) for name in _MIGRATIONS],
            schema=schema,
            connections=connections,
            lock_timeout_s=lock_timeout_s,
        )
        return cls(database, clock, patience_s=lock_timeout_s)

    async def get(self, view: type[V], key: Textual, *, generation: int = 0) -> V | None:
        """See `ViewStore.get`."""
        text = key_text(key)
        if text is None:
            return None
        points = self._points.get((view, generation))
        if points is None:
            fetch = functools.partial(self._on_table, view, generation)
            points = self._points[view, generation] = Points(fetch)
        found: V | None = await points.get(text)
        return found

    async def get_many(
        self, view: type[V], keys: Sequence[Textual], *, generation: int = 0
    ) -> dict[str, V]:
        """See `ViewStore.get_many`."""
        stored = escape_all(key_texts(keys))

        async def points(connection: Any, target: Table) -> dict[str, V]:
            return target.documents(await connection.fetch(target.load, stored))

        return await self._on_table(view, generation, points)

    async def find(self, view: type[V], *, generation: int = 0, **query: Unpack[Asked]) -> ViewPage:
        """See `ViewStore.find`."""
        selection = select(view, **query)

        async def page(connection: Any, target: Table) -> ViewPage:
            if not selection.total:
                return await target.page(connection, selection)
            try:  # two statements that see the same
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                return await target.page(connection, selection)
            finally:
                await roll_back(connection)

        return await self._on_table(view, generation, page)

    async def count(
        self,
        view: type[View],
        *,
        where: Where | None = None,
        matching: str = "",
        generation: int = 0,
    ) -> int:
        """See `ViewStore.count`."""
        selection = select(view, where=where, matching=matching)

        async def number(connection: Any, target: Table) -> int:
            sql, values = target.count(selection)
            return int(await connection.fetchval(sql, *values))

        return await self._on_table(view, generation, number)

    def sql(
        self, *tables: type[SqlTable], generations: Mapping[str, int] | None = None
    ) -> contextlib.AbstractAsyncContextManager[PostgresSql]:
        """See `ViewStore.sql`."""
        return reading(self._database, self._known, tables, generations or {})

    @contextlib.asynccontextmanager
    async def transaction(
        self,
        *,
        generations: Mapping[str, int] | None = None,
        synced: bool = False,  # noqa: ARG002  # the server syncs every commit
    ) -> AsyncIterator[PostgresViewTransaction]:
        """See `ViewStore.transaction`, and `PostgresViewTransaction` about several processes."""
        async with self._writing, self._database.borrowed() as connection:
            work = PostgresViewTransaction(
                self._database.name,
                connection,
                self._known,
                generations or {},
                doubts=self._doubts,
                steps=self._steps,
            )
            try:
                with translated(self._database.name, outcome="not stored"):
                    await finished(connection.execute("BEGIN"))
                yield work
                await work.end()
                await finished(self._commit(connection, work))
            except BaseException as error:
                await roll_back(connection)
                away = work.outage(error)
                if away is not None:
                    raise away from error
                raise

    async def now(self) -> float:
        """See `ViewStore.now`."""
        return await self._database.now() if self._clock is None else self._clock()

    async def changes(self) -> AsyncIterator[None]:
        """See `ViewStore.changes`."""
        wake = self._database.wake
        while not self._closed:
            ticket = wake.ticket()  # before the caller looks, so that nothing is missed
            yield
            await wake.wait(ticket)

    async def owner(self) -> str:
        """See `ViewStore.owner`."""
        return await self._database.read(lambda connection: owner(connection, _ROOM))

    async def settle_owner(self, service: str) -> str:
        """See `ViewStore.settle_owner`."""
        schema = self._database.place.schema
        return await self._write(lambda c: settle_owner(c, _ROOM, schema, service))

    async def close(self) -> None:
        """See `ViewStore.close`."""
        self._closed = True
        await self._database.close()

    def _now(self) -> float | None:
        return None if self._clock is None else self._clock()

    async def _on_table(
        self, view: type[View], generation: int, work: Callable[[Any, Table], Awaitable[T]]
    ) -> T:
        """Read from the table of a generation."""
        return await self._database.read(
            lambda connection: self._known.with_table(
                connection,
                view,
                lambda target: work(connection, target),
                generation=generation,
            )
        )

    async def _read(self, work: Callable[[Any], Awaitable[T]]) -> T:
        return await self._database.read(work)

    async def _read_whole(self, work: Callable[[Any], Awaitable[T]]) -> T:
        return await self._database.read_transaction(work)

    async def _write(self, work: Callable[[Any], Awaitable[T]]) -> T:

        async def transact() -> T:
            async with self._database.transaction() as connection:
                result = await work(connection)
            self._database.notify()
            return result

        async with self._writing:
            return await finished(transact())

    async def _change(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Write; tables that go are waited for, but never by somebody who holds some of them."""
        until = time.monotonic() + self._patience_s
        while True:
            try:
                return await self._write(work)
            except StoreUnavailable as error:
                busy = isinstance(error.__cause__, asyncpg.LockNotAvailableError)
                if not busy or time.monotonic() > until:
                    raise
            await asyncio.sleep(_AGAIN_S)

    async def _commit(self, connection: Any, work: PostgresViewTransaction) -> None:
        """Commit; when nobody can say what became of it, the claims that it moves on are lost.

        Whoever claims them anew reads their tokens anew.
        """
        proof = work.proof
        look = None if proof is None else functools.partial(segments_sql.outcome, proof=proof)
        try:
            with translated(self._database.name, outcome="not stored"):
                await self._database.commits.commit(connection, look)
        except StoreUnavailable as error:
            if error.outcome == "unknown":
                self._doubts.add(work.steps)
            raise
        if len(self._steps) > _STEPS_MAX:  # of former claims; without a count nothing is compared
            self._steps.clear()
        self._steps |= work.steps
        self._database.notify()
