"""One transaction of the SQLite view store; every step runs on the thread of the writer."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import apsw

from headwater._sql.sqlite import Database
from headwater.errors import ClaimLost, StoreError
from headwater.views.api import Segment, ViewPage
from headwater.views.model import View, view_type
from headwater.views.selection import select
from headwater.views.sqlite_generations import Generations
from headwater.views.sqlite_segments import advance
from headwater.views.sqlite_tables import Table

V = TypeVar("V", bound=View)
T = TypeVar("T")


class SQLiteViewTransaction:
    """A `ViewTransaction`; `SQLiteViewStore.transaction` begins and ends it."""

    def __init__(
        self, database: Database, known: Generations, generations: Mapping[str, int]
    ) -> None:
        """Take part in the transaction that was begun on the database's writer."""
        self._database = database
        self._known = known
        self._generations = generations
        self._lost: ClaimLost | None = None
        self._ended = False

    async def load(self, view: type[V], keys: Sequence[str]) -> dict[str, V]:
        """See `ViewTransaction.load`."""
        return await self._on_table(view, lambda inside, table: table.load_many(inside, keys))

    async def save(self, views: Sequence[View]) -> None:
        """See `ViewTransaction.save`."""
        by_type: dict[type[View], list[View]] = {}
        for view in views:
            by_type.setdefault(type(view), []).append(view)
        for kind, group in by_type.items():
            await self._on_table(kind, functools.partial(_save, views=group))

    async def delete(self, view: type[View], keys: Sequence[str]) -> None:
        """See `ViewTransaction.delete`."""
        await self._on_table(view, lambda inside, table: table.delete_many(inside, keys))

    async def find(
        self,
        view: type[V],
        *,
        where: Mapping[str, Any] | None = None,
        order_by: str = "",
        descending: bool = False,
        limit: int = 100,
        cursor: str = "",
    ) -> ViewPage:
        """See `ViewTransaction.find`."""
        selection = select(
            view,
            where=where,
            order_by=order_by,
            descending=descending,
            limit=limit,
            cursor=cursor,
        )
        return await self._on_table(view, lambda inside, table: table.find(inside, selection))

    async def advance(self, segments: Sequence[Segment], token: str) -> None:
        """See `ViewTransaction.advance`."""
        try:
            await self._run(lambda inside: advance(inside, segments, token))
        except ClaimLost as error:
            self._lost = error
            raise

    def end(self) -> None:
        """Refuse further steps.

        Raises:
            ClaimLost: `advance` failed, even if the caller went on.
        """
        self._ended = True
        if self._lost is not None:
            raise self._lost

    async def _on_table(self, view: type[View], work: Callable[[apsw.Connection, Table], T]) -> T:
        generation = self._generations.get(view_type(view).name)
        return await self._run(
            lambda inside: self._known.with_table(
                inside, view, lambda table: work(inside, table), generation=generation
            )
        )

    async def _run(self, work: Callable[[apsw.Connection], T]) -> T:
        def step(writer: apsw.Connection) -> T:
            # A full disk can end a transaction; what followed would be committed by itself.
            if self._ended or not writer.in_transaction:
                reason = "the transaction has ended: use it only inside its block"
                raise StoreError(store=str(self._database.path), reason=reason)
            return work(writer)

        return await self._database.run(step)


def _save(connection: apsw.Connection, table: Table, *, views: Sequence[View]) -> None:
    connection.executemany(table.save, table.rows(views))
