"""A SQLite file that is only read: nothing is written, neither into it nor beside it."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Self, TypeVar

import apsw

from headwater._sql.sqlite.connection import FileId, check_file, file_at, patience, translated
from headwater._sql.sqlite.database import Work
from headwater._sql.sqlite.migrations import check_version
from headwater._sql.sqlite.wake import Wake
from headwater.errors import StoreUnavailable

T = TypeVar("T")

_ATTEMPTS = 100
_Stamp = tuple[int, int, int, int]


class ReadOnlyDatabase:
    """One SQLite file, for the tasks of one event loop; its reads run on threads, one at a time.

    While somebody has the file open it has a write-ahead log, and is read like any other. A file
    that nobody has open is read as it is: SQLite would make a log for it. What was read from it
    counts only if the file is the same afterwards, and still has no log.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float) -> None:
        """Prepare; use `open`."""
        self.path = path
        self.wake = Wake(path)
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._stamp: _Stamp | None = None
        self._file: FileId | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, path: str | Path, *, room: str, version: int, busy_timeout_s: float = 5.0
    ) -> Self:
        """Open a file that is there, with the tables of a room in a version.

        Raises:
            SchemaTooNew: the tables are of a newer version.
            StoreUnavailable: the file cannot be opened, or has no such tables.
            StoreCorrupt: it is not a database, or damaged.
        """
        database = cls(Path(path), busy_timeout_s=busy_timeout_s)
        try:
            await database.read(lambda reader: check_version(reader, room=room, expected=version))
        except BaseException:
            await database.close()
            raise
        return database

    async def read(self, work: Work[T]) -> T:
        """Run work on a reading connection; each statement sees the latest committed state.

        The work may be run again. Cancellation: it is finished and its result dropped.
        """
        return await asyncio.to_thread(self._read, work)

    async def read_here(self, work: Work[T]) -> T:
        """As `read`."""
        return await self.read(work)

    async def close(self) -> None:
        """Release everything. Twice is fine."""
        await asyncio.to_thread(self._close)
        self.wake.close()

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()

    def _read(self, work: Work[T]) -> T:
        with self._lock, translated(self.path):
            for _ in range(_ATTEMPTS):
                connection = self._current()
                try:
                    result = work(connection)
                except apsw.Error:
                    if self._is_same():
                        raise
                else:
                    if self._is_same():
                        return result
                self._drop()
        reason = "the file is changed all the time while it is read: retry later"
        raise StoreUnavailable(store=str(self.path), reason=reason, outcome="not stored")

    def _current(self) -> apsw.Connection:
        if self._closed:
            reason = "it has been closed: open it again"
            raise StoreUnavailable(store=str(self.path), reason=reason, outcome="not stored")
        if self._connection is None:
            self._stamp = _stamp(self.path)
            self._file = file_at(str(self.path))
            how = "mode=ro" if self._stamp is None else "mode=ro&immutable=1"
            self._connection = apsw.Connection(
                f"{self.path.absolute().as_uri()}?{how}",
                flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
                statementcachesize=200,
            )
            self._connection.set_busy_handler(patience(self._busy_timeout_s))
        return self._connection

    def _is_same(self) -> bool:
        """Whether the file is what the connection takes it for.

        Raises:
            StoreUnavailable: another file is in its place, or none.
        """
        if self._file is not None:
            check_file(str(self.path), self._file)
        return self._stamp is None or self._stamp == _stamp(self.path)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _stamp(path: Path) -> _Stamp | None:
    """Return what tells one state of a file from others; None when it has a log, or is away."""
    try:
        found = path.stat()
    except OSError:
        return None
    if os.path.exists(f"{path}-wal"):  # noqa: PTH110  # the name that SQLite gives it
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
