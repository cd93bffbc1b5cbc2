"""Views in a SQLite file that the processes of one machine share.

Reads go to connections of their own and see what is committed; all writes go through one
connection, one transaction at a time. Between processes SQLite's write lock does the same.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

import apsw

from headwater._sql.resources import script
from headwater._sql.sqlite import clock as sqlite_clock
from headwater._sql.sqlite.database import Database
from headwater._sql.sqlite.owner import owner, settle_owner
from headwater._sql.sqlite.wake import Pace
from headwater.errors import StoreUnavailable
from headwater.messages import Textual
from headwater.views.api import ViewPage
from headwater.views.conditions import Where
from headwater.views.doubts import Doubts
from headwater.views.exclusive import Exclusive
from headwater.views.model import View, key_text, key_texts
from headwater.views.selection import Asked, select
from headwater.views.sql_store import SqlViewStore
from headwater.views.sql_tables import SqlTable
from headwater.views.sqlite import generations as generations_sql
from headwater.views.sqlite import segments as segments_sql
from headwater.views.sqlite.generations import Generations
from headwater.views.sqlite.sql import Readers, SQLiteSql
from headwater.views.sqlite.tables import Table
from headwater.views.sqlite.transaction import SQLiteViewTransaction
from headwater.views.sqlite.writer import Writer

V = TypeVar("V", bound=View)
T = TypeVar("T")

_ROOM = "views"
_MIGRATIONS = ("schema_1.sql",)
_DIRECT_KEYS_MAX = 20


class SQLiteViewStore(SqlViewStore):
    """A `ViewStore` in one file; use `open`."""

    generations_sql = generations_sql
    segments_sql = segments_sql

    def __init__(
        self,
        database: Database,
        writer: Writer,
        clock: Callable[[], float],
    ) -> None:
        """Take over an open database; use `open`."""
        self._database = database
        self._writer = writer
        self._clock = clock
        self._known = Generations()
        self._sql = Readers(database, self._known)
        self._writing = Exclusive(str(database.path))
        self._doubts = Doubts()
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        clock: Callable[[], float] | None = None,
        busy_timeout_s: float = 10.0,
    ) -> Self:
        """Open the store in a file, which is made if missing.

        Args:
            path: the file.
            clock: tells when leases end, seconds since 1970 UTC; the same for all who share it.
                None: that of the file, see `headwater._sql.sqlite.clock`.
            busy_timeout_s: how long to wait while another process writes.

        Raises:
            SchemaTooNew, StoreUnavailable, StoreCorrupt, DiskFull: nothing was changed.
        """
        database = await Database.open(
            path,
            room=_ROOM,
            migrations=[script("headwater.views.sqlite", name) for name in _MIGRATIONS],
            busy_timeout_s=busy_timeout_s,
        )
        try:
            ticks = clock if clock is not None else await database.write(sqlite_clock.settled)
            writer = await Writer.open(database, busy_timeout_s=busy_timeout_s)
        except BaseException:
            await database.close()
            raise
        return cls(database, writer, ticks)

    async def get(self, view: type[V], key: Textual, *, generation: int = 0) -> V | None:
        """See `ViewStore.get`."""
        text = key_text(key)

        def point(connection: apsw.Connection, table: Table) -> Any:
            document = connection.execute(table.get, (text,)).get
            return None if document is None else table.kind.decode(document)

        found: V | None = await self._database.read_here(
            lambda c: self._known.with_table(
                c, view, lambda table: point(c, table), generation=generation
            )
        )
        return found

    async def get_many(
        self, view: type[V], keys: Sequence[Textual], *, generation: int = 0
    ) -> dict[str, V]:
        """See `ViewStore.get_many`."""
        texts = key_texts(keys)

        def work(connection: apsw.Connection) -> dict[str, V]:
            return self._known.with_table(
                connection,
                view,
                lambda table: table.load_many(connection, texts),
                generation=generation,
            )

        if len(keys) <= _DIRECT_KEYS_MAX:
            return await self._database.read_here(work)
        return await self._database.read(work)

    async def find(self, view: type[V], *, generation: int = 0, **query: Unpack[Asked]) -> ViewPage:
        """See `ViewStore.find`."""
        selection = select(view, **query)
        return await self._database.read_transaction(
            lambda reader: self._known.with_table(
                reader,
                view,
                lambda table: table.find(reader, selection),
                generation=generation,
            )
        )

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
        return await self._database.read(
            lambda reader: self._known.with_table(
                reader,
                view,
                lambda table: table.count(reader, selection),
                generation=generation,
            )
        )

    def sql(
        self, *tables: type[SqlTable], generations: Mapping[str, int] | None = None
    ) -> contextlib.AbstractAsyncContextManager[SQLiteSql]:
        """See `ViewStore.sql`."""
        return self._sql.transaction(tables, generations or {})

    @contextlib.asynccontextmanager
    async def transaction(
        self, *, generations: Mapping[str, int] | None = None, synced: bool = False
    ) -> AsyncIterator[SQLiteViewTransaction]:
        """See `ViewStore.transaction`."""
        async with self._writing:
            work = SQLiteViewTransaction(
                self._writer,
                self._known,
                generations or {},
                doubts=self._doubts,
                store=str(self._database.path),
                synced=synced,
            )
            try:
                yield work
                await work.commit()
            except BaseException as error:
                with contextlib.suppress(StoreUnavailable):  # closed: nothing to roll back
                    await work.roll_back()
                away = work.outage(error)
                if away is not None:
                    raise away from error
                raise

    async def now(self) -> float:
        """See `ViewStore.now`."""
        return self._clock()

    async def changes(self) -> AsyncIterator[None]:
        """See `ViewStore.changes`."""
        wake = self._database.wake
        pace = Pace()
        while not self._closed:
            ticket = wake.ticket()  # before the caller looks, so that nothing is missed
            yield
            await wake.wait(ticket)
            await pace.keep()

    async def owner(self) -> str:
        """See `ViewStore.owner`."""
        return await self._database.read(lambda reader: owner(reader, _ROOM))

    async def settle_owner(self, service: str) -> str:
        """See `ViewStore.settle_owner`."""
        return await self._write(lambda writer: settle_owner(writer, _ROOM, service))

    async def close(self) -> None:
        """See `ViewStore.close`."""
        self._closed = True
        await self._database.close()
        await self._writer.close()
        self._sql.close()

    def _now(self) -> float:
        return self._clock()

    async def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        return await self._database.read_here(work)

    async def _read_whole(self, work: Callable[[apsw.Connection], T]) -> T:
        return await self._database.read_transaction(work)

    async def _write(self, work: Callable[[apsw.Connection], T]) -> T:
        async with self._writing:
            return await self._writer.transact(work)
