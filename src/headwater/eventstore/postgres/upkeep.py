"""What administrators do to a log: look through snapshots, drop them, give events other tags."""

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from headwater._sql.postgres.database import Database
from headwater.eventstore.api import Snapshot
from headwater.eventstore.checks import check_retag, end_of_prefix
from headwater.eventstore.log_base import snapshot_pages
from headwater.eventstore.postgres.names import from_text, to_text, to_texts
from headwater.eventstore.postgres.read import SQL

_KEYS_AT_ONCE = 1000
_encode = msgspec.json.Encoder().encode
_texts = msgspec.json.Decoder(tuple[str, ...]).decode


def read_snapshots(
    database: Database, prefix: str, page_size: int
) -> AsyncIterator[tuple[Snapshot, ...]]:
    """See `StreamStore.read_snapshots`."""

    async def fetch(begin: str, limit: int) -> tuple[Snapshot, ...]:
        return await database.read(partial(_snapshots, prefix=prefix, begin=begin, limit=limit))

    return snapshot_pages(fetch, prefix, page_size)


async def _snapshots(connection: Any, prefix: str, begin: str, limit: int) -> tuple[Snapshot, ...]:
    rows = await connection.fetch(SQL["snapshots"], to_text(begin), _end(prefix), limit)
    return tuple([Snapshot(from_text(row[0]), row[1], from_text(row[2]), row[3]) for row in rows])


async def drop_snapshot(connection: Any, stream: str) -> bool:
    """Remove the snapshot of a stream; return whether there was one."""
    return _count(await connection.execute(SQL["drop_snapshot"], to_text(stream))) > 0


async def drop_snapshots(connection: Any, prefix: str) -> int:
    """Remove the snapshots of streams with a prefix; return how many there were."""
    return _count(await connection.execute(SQL["drop_snapshots"], to_text(prefix), _end(prefix)))


async def forget_keys(database: Database, until: int) -> int:
    """Forget the keys of outcomes up to a position, some at a time; return how many."""
    forgotten, count = 0, _KEYS_AT_ONCE
    while count == _KEYS_AT_ONCE:
        values = (until, _KEYS_AT_ONCE)
        count = _count(await database.repeat(lambda c: c.execute(SQL["forget_keys"], *values)))  # noqa: B023  # run at once
        forgotten += count
    return forgotten


async def retag(connection: Any, tags: Mapping[int, Sequence[str]]) -> int:
    """Give events other tags, inside a transaction; return how many had others.

    Raises:
        InvalidInput: there is no event at a position.
    """
    rows = await connection.fetch(SQL["tags"], sorted(tags))
    stored = {position: _texts(text) if text else () for position, text in rows}
    check_retag(tags, stored)
    wanted = {position: tuple(tags[position]) for position in stored}
    changed = [position for position, before in stored.items() if before != wanted[position]]
    removed = [(t, p) for p in changed for t in set(stored[p]) - set(wanted[p])]
    added = [(t, p) for p in changed for t in set(wanted[p]) - set(stored[p])]
    texts = [_encode(wanted[p]).decode() if wanted[p] else "" for p in changed]
    await connection.execute(SQL["set_tags"], changed, texts)
    for statement, pairs in (("remove_tags", removed), ("add_tags", added)):
        names = to_texts([tag for tag, _ in pairs])
        await connection.execute(SQL[statement], names, [position for _, position in pairs])
    return len(changed)


def _end(prefix: str) -> str | None:
    return end_of_prefix(to_text(prefix))


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
