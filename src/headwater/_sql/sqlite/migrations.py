"""Versioned, forward-only schema changes that several processes may start at once."""

from collections.abc import Sequence
from pathlib import Path

import apsw

from headwater._sql.resources import not_there
from headwater._sql.sqlite.connection import transact, translated
from headwater.errors import SchemaTooNew, StoreUnavailable

_TABLE = "CREATE TABLE IF NOT EXISTS headwater_schema (room TEXT PRIMARY KEY, version INTEGER)"
_VERSION = "SELECT version FROM headwater_schema WHERE room = ?"
_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE name = 'headwater_schema'"
_SET = "INSERT OR REPLACE INTO headwater_schema VALUES (?, ?)"


def migrate(connection: apsw.Connection, *, room: str, scripts: Sequence[str]) -> None:
    """Bring a room's tables to version ``len(scripts)``; each script leads to the next version.

    Atomic: all missing scripts in one transaction. Rooms that share a file have their own
    versions.

    Raises:
        SchemaTooNew: the file was written by a newer version; nothing was changed.
        StoreUnavailable, StoreCorrupt, DiskFull: as the file is; nothing was changed.
    """
    path = Path(connection.filename)
    with translated(path):
        if not (
            connection.execute(_HAS_TABLE).get
            and _version(connection, room, len(scripts)) == len(scripts)
        ):
            transact(connection, lambda inside: _upgrade(inside, room, scripts))


def check_version(connection: apsw.Connection, *, room: str, expected: int) -> None:
    """Check that a file, which is only read, has a room's tables in the present version.

    Raises:
        SchemaTooNew: the file was written by a newer version.
        StoreUnavailable: it has no such tables, or older ones.
    """
    has_table = connection.execute(_HAS_TABLE).get
    actual = _version(connection, room, expected) if has_table else 0
    if actual != expected:
        reason = not_there(room, actual, expected)
        raise StoreUnavailable(store=connection.filename, reason=reason, outcome="not stored")


def _upgrade(connection: apsw.Connection, room: str, scripts: Sequence[str]) -> None:
    connection.execute(_TABLE)
    present = _version(connection, room, len(scripts))
    for text in scripts[present:]:
        connection.execute(text)
    connection.execute(_SET, (room, len(scripts)))


def _version(connection: apsw.Connection, room: str, expected: int) -> int:
    version = connection.execute(_VERSION, (room,)).get or 0
    if version > expected:
        raise SchemaTooNew(store=connection.filename, actual=version, expected=expected)
    return int(version)
