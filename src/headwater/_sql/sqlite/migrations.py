"""Versioned, forward-only schema changes that several processes may start at once."""

from collections.abc import Sequence
from pathlib import Path

import apsw

from headwater._sql.sqlite.connection import transact, translated
from headwater.errors import SchemaTooNew

_TABLE = "CREATE TABLE IF NOT EXISTS headwater_schema (room TEXT PRIMARY KEY, version INTEGER)"
_VERSION = "SELECT version FROM headwater_schema WHERE room = ?"
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
        has_table = "SELECT 1 FROM sqlite_master WHERE name = 'headwater_schema'"
        if not (
            connection.execute(has_table).get
            and _version(connection, room, scripts) == len(scripts)
        ):
            transact(connection, lambda inside: _upgrade(inside, room, scripts))


def _upgrade(connection: apsw.Connection, room: str, scripts: Sequence[str]) -> None:
    connection.execute(_TABLE)
    present = _version(connection, room, scripts)
    for text in scripts[present:]:
        connection.execute(text)
    connection.execute(_SET, (room, len(scripts)))


def _version(connection: apsw.Connection, room: str, scripts: Sequence[str]) -> int:
    version = connection.execute(_VERSION, (room,)).get or 0
    if version > len(scripts):
        raise SchemaTooNew(store=connection.filename, actual=version, expected=len(scripts))
    return int(version)
