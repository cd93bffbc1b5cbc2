"""Which service the tables of a room belong to, kept in the file itself."""

import apsw

_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE name = 'headwater_owners'"
_TABLE = "CREATE TABLE IF NOT EXISTS headwater_owners (room TEXT PRIMARY KEY, service TEXT)"
_OWNER = "SELECT service FROM headwater_owners WHERE room = ?"
_SET = "INSERT OR IGNORE INTO headwater_owners VALUES (?, ?)"


def owner(connection: apsw.Connection, room: str) -> str:
    """Return the service that a room belongs to; empty when that was never settled."""
    if not connection.execute(_HAS_TABLE).get:
        return ""
    return str(connection.execute(_OWNER, (room,)).get or "")


def settle_owner(connection: apsw.Connection, room: str, service: str) -> str:
    """Let a room belong to a service, if it has none, within a transaction; return its owner."""
    connection.execute(_TABLE)
    connection.execute(_SET, (room, service))
    return owner(connection, room)
