"""One transaction of the SQLite view store: begun with its first step, written with its last."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, Unpack

import apsw

from headwater._sql.sqlite.connection import REFUSED, roll_back, translate
from headwater.errors import (
    ClaimLost,
    HeadwaterError,
    StoreError,
    StoreUnavailable,
    Unavailable,
)
from headwater.messages import Textual
from headwater.views.api import Segment, ViewPage
from headwater.views.author_sql import outage, torn
from headwater.views.checks import check_whole
from headwater.views.doubts import Doubts, claim_of
from headwater.views.model import View, key_texts, view_type
from headwater.views.selection import Asked, select
from headwater.views.sql_tables import SqlTable
from headwater.views.sqlite import segments as segments_sql
from headwater.views.sqlite.generations import Generations
from headwater.views.sqlite.sql import SQLiteSql, names_of
from headwater.views.sqlite.tables import Row, Table, rows_of
from headwater.views.sqlite.writer import Writer

V = TypeVar("V", bound=View)
T = TypeVar("T")

_BUFFERED_ROWS_MAX = 256
_OURS = "headwater_sql"  # a savepoint: there as long as the transaction is the one we began


class SQLiteViewTransaction:
    """A `ViewTransaction`; `SQLiteViewStore.transaction` ends it.

    What is saved and deleted is kept here until something is read, or much has come together, or
    the transaction is committed.
    """

    def __init__(
        self,
        writer: Writer,
        known: Generations,
        generations: Mapping[str, int],
        *,
        doubts: Doubts,
        store: str,
        synced: bool,
    ) -> None:
        """Do nothing yet."""
        self._writer = writer
        self._known = known
        self._generations = generations
        self._doubts = doubts
        self._store = store
        self._synced = synced
        self._buffer: dict[type[View], dict[str, Row | None]] = {}
        self._buffered = 0
        self._begun = False
        self._failed: HeadwaterError | None = None
        self._has_sql = False
        self._lent = False
        self._own: dict[type[SqlTable], str] = {}  # what tables are called
        self._moved: list[Segment] = []
        self._ended = False

    async def load(self, view: type[V], keys: Sequence[Textual]) -> dict[str, V]:
        """See `ViewTransaction.load`."""
        wanted = key_texts(keys)
        return await self._on_table(
            view, lambda inside, table: table.load_many(inside, wanted), rows=len(wanted)
        )

    async def save(self, views: Sequence[View]) -> None:
        """See `ViewTransaction.save`."""
        by_type: dict[type[View], list[View]] = {}
        for view in views:
            by_type.setdefault(type(view), []).append(view)
        found = {kind: rows_of(view_type(kind), group) for kind, group in by_type.items()}
        for kind, rows in found.items():
            await self._write(kind, {row[0]: row for row in rows})

    async def delete(self, view: type[View], keys: Sequence[Textual]) -> None:
        """See `ViewTransaction.delete`."""
        await self._write(view, dict.fromkeys(key_texts(keys)))

    async def find(self, view: type[V], **query: Unpack[Asked]) -> ViewPage:
        """See `ViewTransaction.find`."""
        selection = select(view, **query)
        return await self._on_table(
            view, lambda inside, table: table.find(inside, selection), rows=selection.limit
        )

    async def sql(self, *tables: type[SqlTable]) -> SQLiteSql:
        """See `ViewTransaction.sql`."""

        def step(connection: apsw.Connection) -> SQLiteSql:
            if not self._has_sql:
                connection.execute(f"SAVEPOINT {_OURS}")
                connection.set_commit_hook(self._refuse)
                self._has_sql = True
            unknown = [table for table in tables if table not in self._own]
            self._own |= names_of(connection, self._known, unknown, self._generations)
            names = {table: self._own[table] for table in tables}
            return SQLiteSql(names, connection, self._lend, self._run_sql)

        return await self._run_sql(step)

    async def check(self) -> None:
        """See `ViewTransaction.check`."""
        if self._failed is not None:
            raise self._failed
        if self._lent:
            await self._run_sql(self._check_ours)

    async def advance(self, segments: Sequence[Segment], token: str) -> None:
        """See `ViewTransaction.advance`."""

        def step(connection: apsw.Connection) -> None:
            self._flush(connection)  # errors come in the order of the calls
            self._doubts.check(segments)
            segments_sql.advance(connection, segments, token)

        try:
            await self._run(step, rows=1 + self._buffered)
        except ClaimLost as error:
            self._failed = error
            raise
        self._moved += segments

    async def segments(self, processor: str, *, generation: int) -> list[Segment]:
        """See `ViewTransaction.segments`."""
        return await self._run(lambda c: segments_sql.of_generation(c, processor, generation))

    async def replace_segments(self, segments: Sequence[Segment]) -> None:
        """See `ViewTransaction.replace_segments`."""
        check_whole(segments)
        try:
            await self._run(lambda c: segments_sql.replace(c, segments), rows=len(segments))
        except ClaimLost as error:
            self._failed = error
            raise

    async def commit(self) -> None:
        """Write what is left, and commit.

        Raises:
            ClaimLost: `advance` failed, even if the caller went on; or what else did.
            StoreError: somebody else has ended the transaction.
            StoreUnavailable: if its outcome is unknown, the claims that were used count as lost.
        """
        if self._failed is not None:
            raise self._failed

        def last(connection: apsw.Connection) -> None:
            self._flush(connection)
            self._ended = True
            if self._has_sql:
                self._check_ours(connection)
                connection.set_commit_hook(None)
            self._writer.commit(connection)

        if self._begun or self._buffered:
            try:
                await self._run(last, rows=self._buffered, waits=self._synced)
            except StoreUnavailable as error:
                if error.outcome == "unknown":
                    self._doubts.add(map(claim_of, self._moved))
                raise
        self._ended = True

    async def roll_back(self) -> None:
        """Undo everything."""
        self._ended = True
        if self._begun:
            await self._writer.run(self._undo)

    def outage(self, error: BaseException) -> Unavailable | None:
        """Return what an error of an author's SQL says of the file; None: nothing."""
        if not self._has_sql:
            return None
        return outage(error, REFUSED, lambda seen: translate(seen, Path(self._store)))

    def _undo(self, connection: apsw.Connection) -> None:
        roll_back(connection)
        if self._has_sql:
            connection.set_commit_hook(None)

    def _check_ours(self, connection: apsw.Connection) -> None:
        """Refuse to go on if what `sql` began is not there: somebody has ended the transaction."""
        try:
            connection.execute(f"RELEASE {_OURS}; SAVEPOINT {_OURS}")
        except apsw.SQLError as error:
            raise torn(self._store) from error

    def _refuse(self) -> bool:
        """Let nobody commit but the store."""
        raise torn(self._store)

    def _lend(self) -> None:
        """Let an author have the connection; what it does there is not seen here."""
        self._check_open()
        self._lent = True

    async def _run_sql(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run SQL of an author, on what was saved before; what fails is not gone on from."""

        def step(connection: apsw.Connection) -> T:
            self._flush(connection)
            return work(connection)

        if self._failed is not None:
            raise self._failed
        try:
            return await self._run(step, rows=1 + self._buffered)
        except HeadwaterError as error:
            self._failed = error
            raise

    async def _write(self, view: type[View], rows: Mapping[str, Row | None]) -> None:
        self._check_open()
        self._buffer.setdefault(view, {}).update(rows)
        self._buffered += len(rows)
        if self._buffered > _BUFFERED_ROWS_MAX:
            await self._run(self._flush, rows=self._buffered)

    async def _on_table(
        self, view: type[View], work: Callable[[apsw.Connection, Table], T], *, rows: int
    ) -> T:
        def step(connection: apsw.Connection) -> T:
            if view in self._buffer:
                self._flush(connection)
            return self._with_table(connection, view, lambda table: work(connection, table))

        return await self._run(step, rows=rows + self._buffered)

    def _with_table(
        self, connection: apsw.Connection, view: type[View], work: Callable[[Table], T]
    ) -> T:
        generation = self._generations.get(view_type(view).name)
        return self._known.with_table(connection, view, work, generation=generation)

    def _flush(self, connection: apsw.Connection) -> None:
        for view, rows in self._buffer.items():
            self._with_table(connection, view, partial(_write, connection, rows))
        self._buffer, self._buffered = {}, 0

    async def _run(
        self, work: Callable[[apsw.Connection], T], *, rows: int = 1, waits: bool = False
    ) -> T:
        def step(connection: apsw.Connection) -> T:
            if not self._begun:
                self._writer.sync(connection, wanted=self._synced)
                connection.execute("BEGIN IMMEDIATE")
                self._begun = True
            elif not connection.in_transaction:  # a full disk can end it
                raise torn(self._store) if self._has_sql else self._over()
            return work(connection)

        self._check_open()
        return await self._writer.run(step, rows=rows, waits=waits)

    def _check_open(self) -> None:
        if self._ended:
            raise self._over()

    def _over(self) -> StoreError:
        reason = "the transaction has ended: use it only inside its block"
        return StoreError(store=self._store, reason=reason, outcome="not stored")


def _write(connection: apsw.Connection, rows: Mapping[str, Row | None], table: Table) -> None:
    saved = [row for row in rows.values() if row is not None]
    deleted = [key for key, row in rows.items() if row is None]
    if saved:
        table.save_many(connection, saved)
    if deleted:
        table.delete_many(connection, deleted)
