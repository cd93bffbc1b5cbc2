"""A SQLite database whose blocking calls run on threads of its own, never on the event loop.

One thread with one connection writes, a few others read; `Database.wake` tells everybody on the
same file, in any process, when something was committed.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self, TypeVar

import apsw

from headwater._sql.resources import script, statements
from headwater._sql.sqlite.connection import (
    REFUSED,
    Connection,
    FileId,
    Synchronous,
    check_file,
    check_in_place,
    commit,
    connect,
    file_of,
    roll_back,
    transact,
    translate,
)
from headwater._sql.sqlite.log import LogKeeper
from headwater._sql.sqlite.migrations import migrate
from headwater._sql.sqlite.wake import Wake
from headwater.errors import HeadwaterError, StoreUnavailable

T = TypeVar("T")
Work = Callable[[apsw.Connection], T]


class Database:
    """One SQLite file, for the tasks of one event loop.

    Work is a function that takes the connection; it runs on a thread and returns plain values
    (no cursors). Errors of SQLite arrive as errors of ours; others arrive as they are.
    """

    def __init__(
        self, path: Path, *, readers: int, busy_timeout_s: float, synchronous: Synchronous
    ) -> None:
        """Prepare; use `open`."""
        self.path = path
        self.wake = Wake(path)
        self._loop = asyncio.get_running_loop()

        self._file: FileId | None = None

        def connection() -> Connection:
            if self._file is not None:  # a new connection would make a new file
                check_file(str(path), self._file)
            return connect(path, busy_timeout_s=busy_timeout_s, synchronous=synchronous)

        def writing() -> Connection:
            opened = connection()
            self.log.watch(opened, wait=True)
            if synchronous == "FULL":  # else no commit waits for the disk
                opened.make_room = functools.partial(self.log.make_room, opened.filename_wal)
            return opened

        self._copier = _Workers(f"log {path.name}", path, connection, threads=1)
        self.log = LogKeeper(str(path), lambda work: self._copier.post(self._loop, work))
        self._writer = _Workers(f"write {path.name}", path, writing, threads=1)
        self._readers = _Workers(f"read {path.name}", path, connection, threads=readers)
        self._here: apsw.Connection | None = None
        self._thread = threading.get_ident()
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        room: str,
        migrations: Sequence[str],
        readers: int = 2,
        busy_timeout_s: float = 5.0,
        synchronous: Synchronous = "FULL",
    ) -> Self:
        """Open or make the file and bring the tables of a room to the present version.

        Args:
            path: the file; its directories are made if missing.
            room: whose tables; rooms that share a file have separate versions.
            migrations: scripts, each leading to the next version.
            readers: how many threads, each with a connection of its own, read.
            busy_timeout_s: how long to wait for a lock that another process holds.
            synchronous: FULL: committed is on disk. NORMAL: the last commits may be lost, not
                torn, when the machine (not the process) dies.

        Raises:
            SchemaTooNew, StoreUnavailable, StoreCorrupt, DiskFull: nothing was changed.
        """
        database = cls(
            Path(path), readers=readers, busy_timeout_s=busy_timeout_s, synchronous=synchronous
        )
        try:
            await database.run(lambda writer: migrate(writer, room=room, scripts=migrations))
            database._file = await database.run(file_of)
            database._here = await asyncio.to_thread(_connect_here, database.path)
        except BaseException:
            await database.close()
            raise
        return database

    async def read(self, work: Work[T]) -> T:
        """Run work on a reading connection; each statement sees the latest committed state.

        Cancellation: the work is finished and its result dropped.
        """
        return await self._readers.submit(self._loop, lambda c: _in_place(c, work))

    async def read_here(self, work: Work[T]) -> T:
        """Run a small read (some rows) on the thread of the event loop.

        A point read takes about 5 µs, the way to another thread and back ten times that
        (`benchmarks/bench_views.py` measures both). Readers of a WAL file wait for nobody but a
        process that is recovering or truncating it; then a reader thread does the waiting.
        """
        try:
            if self._here is None or self._closing is not None:
                raise apsw.ConnectionClosedError
            return work(self._here)
        except apsw.BusyError:
            return await self.read(work)
        except REFUSED as error:
            raise translate(error, self.path) from error

    async def read_transaction(self, work: Work[T]) -> T:
        """Run work on a reading connection; all its statements see the same committed state."""
        return await self.read(lambda connection: _snapshot(connection, work))

    async def write(self, work: Work[T]) -> T:
        """Run work in one transaction, commit it, and wake everybody; roll back if it raises.

        Ordering: in the order of the calls. Durable when it returns.
        Cancellation: the work is carried out wholly or not at all.

        Raises:
            DiskFull: nothing was stored.
            StoreUnavailable: nothing was stored, or (as its outcome says) it is unknown.
        """

        def job(connection: apsw.Connection) -> T:
            result = transact(connection, work)
            self.notify()
            return result

        return await self.run(job)

    async def run(self, work: Work[T]) -> T:
        """Run work on the writing connection without a transaction around it.

        For transactions that span several calls; whoever begins one ends it (`commit`,
        `roll_back`), keeps other writers out meanwhile, and calls `notify` after the commit.
        """
        return await self.submit(work)

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        """As `run`, taking its place in the order at once instead of when it is awaited."""
        return self._writer.submit(self._loop, work)

    def post(self, work: Work[None]) -> None:
        """As `submit`, for work that tells of its end and its errors itself: one wake-up less."""
        self._writer.post(self._loop, work)

    def notify(self) -> None:
        """Wake everybody on this file after a commit: this process and others. Any thread."""
        if threading.get_ident() == self._thread:
            self.wake.fire()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits here
                self._loop.call_soon_threadsafe(self.wake.fire)
        self.wake.notify_others()

    async def begin_log_anew(self) -> None:
        """Have the write-ahead log begun anew, by whoever holds off its writers meanwhile."""
        with contextlib.suppress(HeadwaterError):  # it stays long, and writing tells of the disk
            await self._copier.submit(self._loop, self.log.begin_anew)

    async def close(self) -> None:
        """Finish what was queued, then release everything. Twice is fine."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await asyncio.gather(self._writer.stop(), self._readers.stop(), self._copier.stop())
        if self._here is not None:
            self._here.close()
        self.wake.close()


def _connect_here(path: Path) -> apsw.Connection:
    connection = connect(path)
    connection.execute("PRAGMA query_only = ON")
    connection.set_busy_timeout(0)
    return connection


def _in_place(connection: apsw.Connection, work: Work[T]) -> T:
    check_in_place(connection)
    return work(connection)


def _snapshot(connection: apsw.Connection, work: Work[T]) -> T:
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        roll_back(connection)


class _Job:
    """Work, and the future that gets its result, if there is one."""

    __slots__ = ("_future", "_loop", "_work")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any] | None, work: Work[Any]
    ) -> None:
        self._loop, self._future, self._work = loop, future, work

    def run(self, connection: apsw.Connection, path: Path) -> None:
        try:
            result = self._work(connection)
        except REFUSED as error:
            failed = translate(error, path)
            failed.__cause__ = error
            self.fail(failed)
        except Exception as error:  # noqa: BLE001  # belongs to whoever awaits the work
            self.fail(error)
        else:
            self._deliver(result, None)

    def fail(self, error: Exception) -> None:
        self._deliver(None, error)

    def _deliver(self, result: Any, error: Exception | None) -> None:
        if self._future is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(_settle, self._future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class _Workers:
    """Threads that take jobs from one queue, each with its own connection, opened when needed."""

    def __init__(
        self, name: str, path: Path, connection: Callable[[], apsw.Connection], *, threads: int
    ) -> None:
        self._path = path
        self._connect = connection
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"headwater {name} {n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, loop: asyncio.AbstractEventLoop, work: Work[T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = loop.create_future()
        if self._stopped:
            reason = "it has been closed: open it again"
            closed = StoreUnavailable(store=str(self._path), reason=reason, outcome="not stored")
            future.set_exception(closed)
        else:
            self._jobs.put(_Job(loop, future, work))
        return future

    def post(self, loop: asyncio.AbstractEventLoop, work: Work[None]) -> None:
        self._jobs.put(_Job(loop, None, work))

    async def stop(self) -> None:
        self._stopped = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _serve(self) -> None:
        connection: apsw.Connection | None = None
        while (job := self._jobs.get()) is not None:
            if connection is None:
                try:
                    connection = self._connect()
                except Exception as error:  # noqa: BLE001  # belongs to whoever awaits the work
                    job.fail(error)
                    continue
            job.run(connection, self._path)
            del job  # an idle thread must not keep the last result alive
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                connection.close()


__all__ = [
    "Database",
    "commit",
    "connect",
    "migrate",
    "roll_back",
    "script",
    "statements",
    "transact",
    "translate",
]
