"""What administrators do to a log: look through snapshots, drop them, give events other tags."""

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial

import apsw
import msgspec

from headwater._sql.sqlite.database import Database, transact
from headwater.eventstore.api import Snapshot
from headwater.eventstore.checks import check_retag, end_of_prefix
from headwater.eventstore.log_base import snapshot_pages
from headwater.eventstore.sqlite.known import SQL

_KEYS_AT_ONCE = 1000  # so that appends come in between

_encode = msgspec.json.Encoder().encode
_texts = msgspec.json.Decoder(tuple[str, ...]).decode


def read_snapshots(
    database: Database, prefix: str, page_size: int
) -> AsyncIterator[tuple[Snapshot, ...]]:
    """See `StreamStore.read_snapshots`."""

    async def fetch(begin: str, limit: int) -> tuple[Snapshot, ...]:
        return await database.read(partial(_snapshots, prefix=prefix, begin=begin, limit=limit))

    return snapshot_pages(fetch, prefix, page_size)


def _snapshots(
    connection: apsw.Connection, prefix: str, begin: str, limit: int
) -> tuple[Snapshot, ...]:
    values = {"begin": begin, "end": end_of_prefix(prefix), "limit": limit}
    return tuple([Snapshot(*row) for row in connection.execute(SQL["snapshots"], values)])


def probe(connection: apsw.Connection) -> None:
    """Do what an append does, take it back, and store something of no meaning."""
    transact(connection, lambda inside: inside.execute(SQL["probe"]).fetchall())


def drop_snapshot(connection: apsw.Connection, stream: str) -> bool:
    """Remove the snapshot of a stream; return whether there was one."""
    connection.execute(SQL["drop_snapshot"], (stream,)).fetchall()
    return bool(connection.changes())


def drop_snapshots(connection: apsw.Connection, prefix: str) -> int:
    """Remove the snapshots of streams with a prefix; return how many there were."""
    values = {"begin": prefix, "end": end_of_prefix(prefix)}
    connection.execute(SQL["drop_snapshots"], values).fetchall()
    return connection.changes()


async def forget_keys(database: Database, until: int) -> int:
    """Forget the keys of outcomes up to a position, some at a time; return how many."""

    def some(connection: apsw.Connection) -> int:
        values = {"position": until, "limit": _KEYS_AT_ONCE}
        connection.execute(SQL["forget_keys"], values).fetchall()
        return connection.changes()

    forgotten = 0
    while count := await database.write(some):
        forgotten += count
    return forgotten


def retag(connection: apsw.Connection, tags: Mapping[int, Sequence[str]]) -> int:
    """Give events other tags, inside a transaction; return how many had others.

    Raises:
        InvalidInput: there is no event at a position.
    """
    changed = 0
    for position in sorted(tags):
        stored = connection.execute(SQL["tags"], (position,)).get
        check_retag({position: tags[position]}, () if stored is None else (position,))
        before, after = _texts(stored) if stored else (), tuple(tags[position])
        if before == after:
            continue
        changed += 1
        text = _encode(after).decode() if after else ""
        connection.execute(SQL["set_tags"], (text, position))
        for tag in set(before) - set(after):
            connection.execute(SQL["remove_tag"], (tag, position))
        for tag in set(after) - set(before):
            connection.execute(SQL["add_tag"], (tag, position))
    return changed
