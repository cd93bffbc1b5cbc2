"""One transaction of the PostgreSQL view store."""

from collections import ChainMap
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import NoneType
from typing import Any, TypeVar, Unpack

import asyncpg

from headwater._sql.postgres.commits import finished
from headwater._sql.postgres.errors import translate
from headwater.errors import (
    ClaimLost,
    HeadwaterError,
    InvalidInput,
    StoreError,
    StoreUnavailable,
    Unavailable,
)
from headwater.messages import Textual
from headwater.views.api import Segment, ViewPage
from headwater.views.author_sql import outage, torn
from headwater.views.checks import check_whole, missing
from headwater.views.doubts import Claim, Doubts, claim_of
from headwater.views.model import View, key_texts, view_type
from headwater.views.postgres.generations import Generations
from headwater.views.postgres.segments import Proof, advance, lock, lock_segments, replace
from headwater.views.postgres.sql import DRIVER_ERRORS, PostgresSql, explain, names_of
from headwater.views.postgres.tables import Row, Table, escape_all, rows_of, table, too_long
from headwater.views.selection import Asked, select
from headwater.views.sql_tables import SqlTable

V = TypeVar("V", bound=View)
T = TypeVar("T")

_GUARD = "INSERT INTO view_guards (number) VALUES (pg_current_xact_id()) RETURNING number::text"
_IS_OURS = "SELECT 1 WHERE pg_current_xact_id_if_assigned() = $1::text::xid8"
_UNGUARD = "DELETE FROM view_guards WHERE number = $1::text::xid8 RETURNING 1"


class PostgresViewTransaction:
    """A `ViewTransaction`; `PostgresViewStore.transaction` begins and ends it.

    Transactions of several processes overlap. What `load` returned is locked until the end, and
    a key that it did not find can be stored by one of them only; the others fail with
    `StoreUnavailable` and try again. So read, change, save loses no update. What `find` returned
    is not locked: load it before changing it if others may change it, too.

    Attributes:
        steps: for the claims whose tokens it sets how many steps they have made with it.
        proof: what will show that it was stored, once it has set a token.
    """

    def __init__(
        self,
        store: str,
        connection: Any,
        known: Generations,
        generations: Mapping[str, int],
        *,
        doubts: Doubts,
        steps: dict[Claim, int],
    ) -> None:
        """Take part in the transaction that was begun on a connection.

        Args:
            store: the store's name in messages.
            connection: in a transaction that nobody else uses.
            known: the active generations.
            generations: those to work on instead.
            doubts: claims whose last commit may or may not have been stored.
            steps: how many steps claims have made, as far as it is known.
        """
        self._store = store
        self._connection = connection
        self._known = known
        self._generations = generations
        self._doubts = doubts
        self._kept: dict[str, set[str]] = {}  # by table: keys locked by us
        self._absent: dict[str, set[str]] = {}  # by table: keys that were not there
        self._failed: HeadwaterError | None = None
        self._ended = False
        self._count = 0
        self._steps_before = steps
        self._own: dict[type[SqlTable], str] = {}  # tables that are held, and their names
        self._number: str | None = None  # of the transaction, once an author uses SQL
        self._lent = False
        self.steps: dict[Claim, int] = {}
        self.proof: Proof | None = None

    async def load(self, view: type[V], keys: Sequence[Textual]) -> dict[str, V]:
        """See `ViewTransaction.load`. Locks what exists."""
        texts = key_texts(keys)
        wanted = escape_all(texts)

        async def step(target: Table) -> dict[str, V]:
            rows = await self._connection.fetch(target.load_locked, wanted)
            found = target.documents(rows)
            self._kept.setdefault(target.name, set()).update(found)
            self._absent.setdefault(target.name, set()).update(
                text for text in texts if text not in found
            )
            return found

        return await self._on_table(view, step) if texts else {}

    async def save(self, views: Sequence[View]) -> None:
        """See `ViewTransaction.save`.

        Raises:
            StoreUnavailable: another process has stored a document that `load` did not find.
        """
        by_type: dict[type[View], list[View]] = {}
        for view in views:
            by_type.setdefault(type(view), []).append(view)
        found = {kind: rows_of(view_type(kind), group) for kind, group in by_type.items()}
        for kind, rows in found.items():
            await self._save(kind, rows)

    async def _save(self, view: type[View], rows: Sequence[Row]) -> None:
        async def step(target: Table) -> None:
            kept = self._kept.setdefault(target.name, set())
            absent = self._absent.setdefault(target.name, set())
            # New ones first: who waits for whom then follows the order of the keys.
            parts: dict[str, list[Row]] = {target.insert: []}
            for row in rows:
                sql = target.update if row[0] in kept else target.upsert
                parts.setdefault(target.insert if row[0] in absent else sql, []).append(row)
            bound = [(sql, target.arrays(part)) for sql, part in parts.items() if part]
            for sql, arrays in bound:
                await self._connection.execute(sql, *arrays)
            keys = [row[0] for row in rows]
            kept.update(keys)
            absent.difference_update(keys)

        await self._on_table(view, step)

    async def delete(self, view: type[View], keys: Sequence[Textual]) -> None:
        """See `ViewTransaction.delete`."""
        texts = key_texts(keys)
        doomed = escape_all(texts)

        async def step(target: Table) -> None:
            await self._connection.execute(target.delete, doomed)
            for known in (self._kept, self._absent):
                known.get(target.name, set()).difference_update(texts)

        await self._on_table(view, step)

    async def find(self, view: type[V], **query: Unpack[Asked]) -> ViewPage:
        """See `ViewTransaction.find`."""
        selection = select(view, **query)
        return await self._on_table(view, lambda table: table.page(self._connection, selection))

    async def sql(self, *tables: type[SqlTable]) -> PostgresSql:
        """See `ViewTransaction.sql`."""

        async def work() -> dict[type[SqlTable], str]:
            if self._number is None:
                self._number = await self._connection.fetchval(_GUARD)
            return await names_of(self._connection, self._known, unknown, self._generations)

        unknown = [table for table in tables if table not in self._own]
        if unknown or self._number is None:
            self._own |= await self._run_sql(work)
        names = {table: self._own[table] for table in tables}
        return PostgresSql(names, self._connection, self._lend, self._run_sql)

    async def check(self) -> None:
        """See `ViewTransaction.check`."""
        if self._failed is not None:
            raise self._failed
        if self._lent:
            await self._check_ours(_IS_OURS)

    async def advance(self, segments: Sequence[Segment], token: str) -> None:
        """See `ViewTransaction.advance`."""
        if not segments:
            return
        known = ChainMap(self.steps, self._steps_before)
        try:
            self._doubts.check(segments)
            moved = await self._step(lambda: advance(self._connection, segments, token, known))
        except ClaimLost as error:
            self._failed = error
            raise
        self.steps |= moved
        first = claim_of(segments[0])
        self.proof = Proof(*first, moved[first])

    async def segments(self, processor: str, *, generation: int) -> list[Segment]:
        """See `ViewTransaction.segments`."""

        async def work() -> list[Segment]:
            await lock(self._connection)
            return await lock_segments(self._connection, processor, generation)

        return await self._step(work)

    async def replace_segments(self, segments: Sequence[Segment]) -> None:
        """See `ViewTransaction.replace_segments`."""
        check_whole(segments)

        async def work() -> None:
            await lock(self._connection)
            await replace(self._connection, segments)

        try:
            await self._step(work)
        except ClaimLost as error:
            self._failed = error
            raise
        self.proof = None  # of a segment that is not there any more

    async def end(self) -> None:
        """Refuse further steps.

        Raises:
            HeadwaterError: a step failed, even if the caller went on.
            StoreError: somebody else has ended the transaction.
        """
        self._ended = True
        if self._failed is not None:
            raise self._failed
        if self._number is not None:
            await self._check_ours(_UNGUARD)

    def outage(self, error: BaseException) -> Unavailable | None:
        """Return what an error of an author's SQL says of the database; None: nothing."""
        if self._number is None:
            return None
        return outage(error, DRIVER_ERRORS, lambda seen: explain(seen, self._store))

    async def _check_ours(self, statement: str) -> None:
        """Refuse to go on in another transaction than the one that was begun here.

        It has its number as long as nobody ends it; and after a statement that failed it can only
        be rolled back.
        """
        try:
            found = await finished(self._connection.fetchval(statement, self._number))
        except asyncpg.InFailedSQLTransactionError:
            found = None
        except DRIVER_ERRORS as error:
            raise translate(error, self._store, outcome="not stored") from error
        if found is None:
            self._failed = torn(self._store)
            raise self._failed

    def _lend(self) -> None:
        """Let an author have the connection; what it does there is not seen here."""
        self._check_open()
        self._lent = True

    async def _on_table(self, view: type[View], work: Callable[[Table], Awaitable[T]]) -> T:
        chosen = self._generations.get(view_type(view).name, 0)
        first = not self._count
        if chosen:
            target = table(view, chosen)
        else:
            target = await self._step(lambda: self._known.find(self._connection, view))
        try:
            return await self._step(lambda: work(target))
        except asyncpg.UndefinedTableError as error:
            fresh = None if chosen else await self._retarget(view, target)
            if fresh is not None and first:
                return await self._step(lambda: work(fresh))
            self._failed = missing(target.kind.name, target.generation)
            if fresh is not None:
                reason = f"another generation of {target.kind.name} was activated: begin again"
                self._failed = StoreUnavailable(
                    store=self._store, reason=reason, outcome="not stored"
                )
            raise self._failed from error

    async def _retarget(self, view: type[View], target: Table) -> Table | None:
        """Begin again, and return the table that is the active one by now, if it is another."""

        async def work() -> Table:
            await self._connection.execute("ROLLBACK")
            fresh = await self._known.find(self._connection, view, anew=True)
            await self._connection.execute("BEGIN")
            return fresh

        fresh = await self._step(work)
        return None if fresh is target else fresh

    async def _run_sql(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run SQL of an author; what fails is not gone on from."""
        self._check_open()
        self._count += 1
        try:
            return await finished(work())
        except HeadwaterError as error:
            self._failed = error
            raise
        except DRIVER_ERRORS as error:
            self._failed = explain(error, self._store)
            raise self._failed from error

    def _check_open(self) -> None:
        if self._ended or not isinstance(self._failed, (ClaimLost, NoneType)):
            reason = "the transaction has ended: use it only inside its block"
            raise StoreError(store=self._store, reason=reason, outcome="not stored")
        if self._lent and not self._connection.is_in_transaction():
            self._failed = torn(self._store)
            raise self._failed

    async def _step(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run one step to its end, even when cancelled meanwhile.

        Raises:
            asyncpg.UndefinedTableError: as it is; all else of the driver as an error of ours.
        """
        self._check_open()
        self._count += 1
        try:
            return await finished(work())
        except asyncpg.UndefinedTableError:
            raise
        except DRIVER_ERRORS as error:
            self._failed = _explain(error, self._store)
            raise self._failed from error


def _explain(error: Exception, store: str) -> HeadwaterError:
    if isinstance(error, asyncpg.UniqueViolationError):
        reason = f"another process has stored the same document meanwhile ({error}): begin again"
        return StoreUnavailable(store=store, reason=reason, outcome="not stored")
    if isinstance(error, asyncpg.ProgramLimitExceededError):
        return too_long(str(error))
    if isinstance(error, asyncpg.DataError):
        return InvalidInput(reason=f"a value cannot be stored: {error}")
    return translate(error, store, outcome="not stored")
