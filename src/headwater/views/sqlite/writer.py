"""The one connection that writes views: small steps at once, large ones on a thread.

A live event makes a transaction of some small steps. Without a sync of the disk each takes some
microseconds; the way to another thread and back takes ten times that, of two processors.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Self, TypeVar

import apsw

from headwater._sql.sqlite.connection import (
    REFUSED,
    commit,
    connect,
    patience,
    roll_back,
    translate,
)
from headwater._sql.sqlite.database import Database
from headwater.errors import StoreUnavailable

T = TypeVar("T")

_ROWS_AT_ONCE_MAX = 64


class Writer:
    """Runs work on the connection; its caller sees to it that only one task does so at a time."""

    def __init__(
        self, database: Database, connection: apsw.Connection, busy_timeout_s: float
    ) -> None:
        """Take over a connection; use `open`."""
        self._database = database
        self._connection = connection
        self._closed = False
        self._synced = False
        here, wait = threading.get_ident(), patience(busy_timeout_s)
        # On the event loop's thread nothing waits for a lock: the writer's thread does.
        connection.set_busy_handler(
            lambda attempts: threading.get_ident() != here and wait(attempts)
        )
        database.log.watch(connection, wait=False)

    @classmethod
    async def open(cls, database: Database, *, busy_timeout_s: float) -> Self:
        """Open a connection.

        Views are computed from events, so commits need not be synced one by one: NORMAL.
        """
        connection = await asyncio.to_thread(
            connect, database.path, busy_timeout_s=busy_timeout_s, synchronous="NORMAL"
        )
        return cls(database, connection, busy_timeout_s)

    async def run(
        self, work: Callable[[apsw.Connection], T], *, rows: int = 1, waits: bool = False
    ) -> T:
        """Run work; whoever begins a transaction in it ends it.

        Args:
            work: what to run. It is run once more, on the thread, when another process holds the
                lock; that can happen at ``BEGIN`` only, so it must begin with that.
            rows: about how many rows it reads or writes.
            waits: it waits for the disk, so it must not run on the event loop.

        Cancellation: it is finished first.
        """
        if self._closed:
            reason = "it has been closed: open it again"
            store = str(self._database.path)
            raise StoreUnavailable(store=store, reason=reason, outcome="not stored")
        if self._database.log.long and not self._connection.in_transaction:
            await self._database.begin_log_anew()
        if rows <= _ROWS_AT_ONCE_MAX and not waits:
            try:
                return work(self._connection)
            except apsw.BusyError:
                pass
            except REFUSED as error:
                raise translate(error, self._database.path) from error
        return await _finished(self._database.submit(lambda _: work(self._connection)))

    async def transact(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run work in a transaction of its own."""

        def whole(connection: apsw.Connection) -> T:
            self.sync(connection, wanted=False)
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
            except BaseException:
                roll_back(connection)
                raise
            self.commit(connection)
            return result

        return await self.run(whole)

    def sync(self, connection: apsw.Connection, *, wanted: bool) -> None:
        """Say before a transaction whether its commit, and all before it, are to be on disk."""
        if wanted is not self._synced:
            connection.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._synced = wanted

    def commit(self, connection: apsw.Connection) -> None:
        """Commit and wake everybody; roll back when that fails. For use within `run`."""
        try:
            commit(connection)
        except BaseException:
            roll_back(connection)
            raise
        self._database.notify()

    async def close(self) -> None:
        """Close the connection, when its last work is done; an open transaction is rolled back."""
        self._closed = True
        await asyncio.to_thread(self._connection.close)


async def _finished(future: asyncio.Future[T]) -> T:
    """Wait for work on the thread to its end, even when cancelled meanwhile; then be cancelled.

    Nobody else may use the connection before, and it is bounded by the busy timeout.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # it was looked at
        raise cancelled
    return future.result()
