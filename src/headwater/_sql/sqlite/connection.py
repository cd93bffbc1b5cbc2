"""One SQLite connection, set up the same way everywhere, and its errors in our terms."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import apsw

from headwater.errors import (
    DiskFull,
    HeadwaterError,
    InvalidInput,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
)

T = TypeVar("T")
Synchronous = Literal["FULL", "NORMAL"]

_CACHE_KIB = 16_384
_LOOK_AGAIN_S = 0.0005
LOG_PAGES = 8000
"""Copied back from this length on, 32 MB: a page that many commits change goes once, not often."""
LOG_BYTES_MAX = 64 * 1024 * 1024
"""The write-ahead log is not longer, unless one transaction or somebody's endless read is."""


FileId = tuple[int, int]
"""What tells a file from all others that were or will be at its path: device and inode."""


class Connection(apsw.Connection):
    """A connection that knows which file it has open, whatever is at its path by now.

    Attributes:
        file: which file it has open; None until that is known.
        make_room: is called before each commit, under the write lock; None: nothing is.
    """

    file: FileId | None = None
    make_room: Callable[[], None] | None = None


def file_of(connection: apsw.Connection) -> FileId | None:
    """Return which file a connection has open."""
    return connection.file if isinstance(connection, Connection) else None


def check_in_place(connection: apsw.Connection) -> None:
    """Refuse to go on with a file that others do not see; it takes a microsecond.

    Raises:
        StoreUnavailable: the file was removed, moved or replaced since it was opened.
    """
    opened = file_of(connection)
    if opened is not None:
        check_file(connection.filename, opened)


def check_file(path: str, opened: FileId) -> None:
    """As `check_in_place`, for the file that is opened."""
    if file_at(path) != opened:
        reason = (
            "its file was removed or replaced while it was in use, so what is stored now would be "
            "lost: put the right file in its place, then restart whoever uses it"
        )
        raise StoreUnavailable(store=path, reason=reason, outcome="not stored")


def file_at(path: str) -> FileId | None:
    """Return which file is at a path; None when there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  # for each commit, and Path takes twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(
    path: Path, *, busy_timeout_s: float = 5.0, synchronous: Synchronous = "FULL"
) -> Connection:
    """Open a connection; the file and its directories are made if missing.

    WAL, so that readers and the writer do not wait for each other; FULL by default, so that what
    is committed is on disk.

    Raises:
        StoreUnavailable: the file cannot be opened, or is locked for longer than the timeout.
        StoreCorrupt: the file is not a database.
        DiskFull: there is no room for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"directory {path.parent} cannot be made ({error}): correct the path"
        raise StoreUnavailable(store=str(path), reason=reason, outcome="not stored") from error
    with translated(path):
        connection = Connection(str(path), statementcachesize=200)
        try:
            _set_up(connection, busy_timeout_s, synchronous)
            connection.file = file_at(connection.filename)
        except BaseException:
            connection.close()
            raise
    return connection


def _set_up(connection: apsw.Connection, busy_timeout_s: float, synchronous: str) -> None:
    connection.set_busy_handler(patience(busy_timeout_s))
    # Changing to WAL needs an exclusive lock, for which SQLite does not use the busy timeout.
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            break
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
    for pragma in (
        f"synchronous = {synchronous}",
        "foreign_keys = ON",
        f"cache_size = -{_CACHE_KIB}",
        f"wal_autocheckpoint = {LOG_PAGES}",
        f"journal_size_limit = {LOG_BYTES_MAX}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def patience(timeout_s: float) -> Callable[[int], bool]:
    """Return a handler that looks every half millisecond whether a lock has become free.

    SQLite's own waits up to 100 ms between two looks, which between processes that write all the
    time let one starve for seconds: the other had the lock again within a millisecond.
    """
    deadline = 0.0

    def wait(attempts: int) -> bool:
        nonlocal deadline
        now = time.monotonic()
        if attempts == 0:
            deadline = now + timeout_s
        if now >= deadline:
            return False
        time.sleep(min(_LOOK_AGAIN_S, deadline - now))
        return True

    return wait


def transact(connection: apsw.Connection, work: Callable[[apsw.Connection], T]) -> T:
    """Run work in a transaction that holds the write lock from its start; roll back if it raises.

    Raises:
        StoreUnavailable: the commit itself failed, and it is unknown whether it was stored.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        commit(connection)
    except BaseException:
        roll_back(connection)
        raise
    return result


def commit(connection: apsw.Connection) -> None:
    """Commit; an I/O error here is the one case in which the outcome is unknown.

    Nothing is committed to a file that was removed or replaced, see `check_in_place`.

    Raises:
        StoreUnavailable: it is unknown whether the transaction was stored.
    """
    check_in_place(connection)
    if isinstance(connection, Connection) and connection.make_room is not None:
        connection.make_room()
    try:
        connection.execute("COMMIT")
    except apsw.IOError as error:
        failed = translate(error, Path(connection.filename))
        reason = str(failed.fields().get("reason", failed))
        store = connection.filename
        raise StoreUnavailable(store=store, reason=reason, outcome="unknown") from error


def roll_back(connection: apsw.Connection) -> None:
    """End an open transaction, if any, whatever state the file is in."""
    if connection.in_transaction:
        with contextlib.suppress(apsw.Error):
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise errors of SQLite within the block as errors of ours."""
    try:
        yield
    except REFUSED as error:
        raise translate(error, path) from error


REFUSED = (apsw.Error, UnicodeEncodeError, OverflowError)
"""What SQLite raises, and its driver for values that SQLite cannot hold."""


def translate(error: Exception, path: Path) -> HeadwaterError:
    """Return the error that a person should see instead of one of SQLite or its driver.

    Nothing was stored: the one case in which that is unknown is told by `commit`.
    """
    return _translate(error, str(path)).replaced(outcome="not stored")


def _translate(error: Exception, store: str) -> HeadwaterError:
    if isinstance(error, UnicodeEncodeError | OverflowError):
        return InvalidInput(reason=f"the database cannot take a value: {error}")
    if isinstance(error, apsw.NotADBError):
        reason = "the file is not a database: correct the path, or move the file away"
        return StoreCorrupt(store=store, reason=reason)
    if isinstance(error, apsw.CorruptError):
        reason = f"the file is damaged ({error}): restore it from a backup"
        return StoreCorrupt(store=store, reason=reason)
    if isinstance(error, apsw.FullError):
        return DiskFull(store=store)
    for kind, reason in _UNAVAILABLE:
        if isinstance(error, kind):
            return StoreUnavailable(store=store, reason=reason.format(error=error))
    return StoreError(store=store, reason=f"{type(error).__name__}: {error}")


_LOCKED = "the file is locked by another process ({error}): end that process, or retry later"
_UNAVAILABLE: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.BusyError, _LOCKED),
    (apsw.LockedError, _LOCKED),
    (apsw.CantOpenError, "the file cannot be opened ({error}): check its path and permissions"),
    (apsw.ReadOnlyError, "the file cannot be written ({error}): check its permissions"),
    (apsw.PermissionsError, "the file may not be used ({error}): check its permissions"),
    (apsw.AuthError, "the file may not be used ({error}): check its permissions"),
    (apsw.IOError, "reading or writing the file failed ({error}): check the disk"),
    (apsw.NoMemError, "there is not enough memory ({error}): free some, then retry"),
    (apsw.InterruptError, "the work on the file was interrupted ({error}): retry"),
    (apsw.ConnectionClosedError, "it has been closed: open it again"),
)
