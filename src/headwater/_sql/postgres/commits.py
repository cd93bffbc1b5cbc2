"""Commits whose outcome is known, also when their answer is lost."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, TypeVar

import asyncpg

from headwater._sql.postgres.errors import LOST, is_lost, reason_of, translate
from headwater._sql.resources import statements
from headwater.errors import StoreError, StoreUnavailable, Unavailable
from headwater.messages import new_id

T = TypeVar("T")
Found = Literal["stored", "not stored", "in progress", "unknown"]
Look = Callable[[Any], Awaitable[Found]]

_PAUSE_S = 0.05
_ROLL_BACK_S_MAX = 5.0
_FORGOTTEN_MAX = 100  # marks removed at once

_SQL = statements("headwater._sql.postgres", "commits.sql")


class Commits:
    """Commits the transactions of one database, and finds out about those that were not answered.

    A transaction stores a mark beside its own changes, in the same message as the commit. When the
    answer is lost the mark is asked for; see ``commits_1.sql``. A mark whose commit was
    answered is removed with a later one.
    """

    def __init__(
        self,
        store: str,
        connection: Callable[[], AbstractAsyncContextManager[Any]],
        *,
        settle_timeout_s: float,
    ) -> None:
        """Ask on connections of a store, whose name is for messages, for so long."""
        self.closed = False
        self._store = store
        self._connection = connection
        self.settle_timeout_s = settle_timeout_s
        self._useless: list[str] = []
        self._first = True

    async def commit(self, connection: Any, look: Look | None = None) -> None:
        """Commit a transaction; it is stored when this returns, whatever became of the connection.

        Bounded in time. Not to be cancelled: see `finished`.

        Args:
            connection: in the transaction.
            look: tells on another connection what became of it, by something else that it has
                changed; then no mark is stored.

        Raises:
            StoreUnavailable: its outcome says whether it is known that nothing was stored.
            StoreError: a statement had failed before; nothing was stored.
            asyncpg.PostgresError: the commit was refused; nothing was stored.
        """
        if look is not None:
            await self._commit(connection, "COMMIT", look)
            return
        mark = new_id()
        useless, self._useless = self._useless[:_FORGOTTEN_MAX], self._useless[_FORGOTTEN_MAX:]
        try:
            await self._commit(connection, _marked(mark, useless, first=self._first), _ask(mark))
        except BaseException:
            self._useless += useless
            raise
        self._useless.append(mark)
        self._first = False

    async def _commit(self, connection: Any, statement: str, look: Look) -> None:
        try:
            status = await connection.execute(statement)
        except asyncpg.InFailedSQLTransactionError as error:
            raise self._failed() from error
        except (asyncpg.PostgresError, *LOST) as error:
            if not is_lost(error):
                raise
            abandon(connection)  # it may still be committing
            await self._settle(look, error)
        else:
            if status != "COMMIT":
                raise self._failed()

    async def _settle(self, look: Look, error: Exception) -> None:
        """Find out what became of a commit whose answer was lost; return if it was stored."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.settle_timeout_s
        found: Found = "in progress"
        while not self.closed and loop.time() < ends:
            try:
                async with self._connection() as other:
                    found = await look(other)
            except Unavailable:
                found = "in progress"
            except StoreError:
                break  # another database, which never heard of it
            if found != "in progress":
                break
            await asyncio.sleep(_PAUSE_S)
        if found == "stored":
            return
        if found == "not stored":
            raise translate(error, self._store, outcome="not stored") from error
        reason = reason_of(error, self._store)
        raise StoreUnavailable(store=self._store, reason=reason, outcome="unknown") from error

    def _failed(self) -> StoreError:
        reason = "the transaction failed before its end: nothing was stored"
        return StoreError(store=self._store, reason=reason, outcome="not stored")


def _marked(mark: str, useless: list[str], *, first: bool) -> str:
    """Return one message that stores a mark, removes others, and commits."""
    parts = [_SQL["mark"].format(mark=mark)]
    if useless:
        parts.append(_SQL["remove"].format(marks="', '".join(useless)))
    if first:
        parts.append(_SQL["forget_old"])
    return "; ".join([*parts, "COMMIT"])


def _ask(mark: str) -> Look:
    async def look(connection: Any) -> Found:
        stored = await connection.fetchval(_SQL["ask"], mark)
        return "stored" if stored else "not stored"

    return look


async def finished(work: Awaitable[T]) -> T:
    """Wait for work to its end, even when cancelled meanwhile; then be cancelled.

    Nobody else may use the connection before, and the work is bounded by its time limit.
    """
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # it was looked at
        raise cancelled
    return future.result()


async def roll_back(connection: Any) -> None:
    """End a transaction that may have begun; a statement that was cancelled ends first.

    Never fails: a connection that cannot do it is broken, and then the server does it.
    """
    try:
        if not connection.is_closed():
            await finished(connection.execute("ROLLBACK", timeout=_ROLL_BACK_S_MAX))
    except (asyncpg.PostgresError, *LOST):
        abandon(connection)


def abandon(connection: Any) -> None:
    """Break a connection, so that nobody uses it again."""
    with contextlib.suppress(asyncpg.InterfaceError):  # it is broken already
        connection.terminate()
