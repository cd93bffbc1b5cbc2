"""Copying a store: events and keys of another one stored as they are, and keys read in pages."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from headwater._sql.postgres.database import Database
from headwater.errors import InvalidInput
from headwater.eventstore.api import StoredEvent, StoredKey
from headwater.eventstore.checks import check_epoch, check_import, new_keys
from headwater.eventstore.postgres.append import outcome_of, stored_outcomes
from headwater.eventstore.postgres.names import WRONG, from_text, to_text, to_texts
from headwater.eventstore.postgres.read import SQL
from headwater.eventstore.times import runs_of

_encode = msgspec.json.Encoder().encode
_EVENT = (
    *("position", "version", "time", "type_version", "stream", "type", "tags", "data"),
    "metadata",
)
_KEY = ("key", "fingerprint", "first", "last", "time", "streams", "versions")
_SCANNED = 20_000


async def import_events(
    database: Database, events: Sequence[StoredEvent], keys: Sequence[StoredKey], epoch: str
) -> None:
    """See `EventStore.import_events`."""
    async with database.transaction() as connection:
        with storable("imported"):
            await _store_as_is(connection, events, keys, epoch)


@contextlib.contextmanager
def storable(what: str) -> Iterator[None]:
    """Turn what the driver says of values that it cannot store into an error of ours.

    Raises:
        InvalidInput: a value cannot be stored; ``what`` was to be done with it.
    """
    try:
        yield
    except WRONG as error:
        raise InvalidInput(reason=f"what was to be {what} cannot be stored: {error}") from error


async def _store_as_is(
    connection: Any, events: Sequence[StoredEvent], keys: Sequence[StoredKey], epoch: str
) -> None:
    await connection.execute(SQL["lock"])
    present, head, time, empty = await connection.fetchrow(SQL["import_state"])
    check_epoch(epoch, stored=present, empty=empty)
    if epoch != present:
        await connection.execute(SQL["replace_epoch"], epoch)
    if events:
        streams = list(dict.fromkeys([event.stream for event in events]))
        numbers = await connection.fetchval(SQL["versions"], to_texts(streams))
        versions = dict(zip(streams, numbers, strict=True))
        check_import(events, head=head, time=time, versions=versions)
        if runs := runs_of(events, time):
            await connection.execute(SQL["add_runs"], *map(list, zip(*runs, strict=True)))
        await _copy(connection, "events", _EVENT, _rows(events))
        await _copy(connection, "event_tags", ("tag", "position"), _tags(events))
    if keys:
        stored = await stored_outcomes(connection, [key.key for key in keys])
        await _copy(connection, "event_keys", _KEY, _keys(new_keys(keys, stored)))


async def _copy(
    connection: Any, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    if rows:
        await connection.copy_records_to_table(table, records=rows, columns=columns)


def _rows(events: Sequence[StoredEvent]) -> list[tuple[Any, ...]]:
    return [
        (
            event.position,
            event.version,
            event.time,
            event.type_version,
            to_text(event.stream),
            to_text(event.type),
            _encode(event.tags).decode() if event.tags else "",
            event.data,
            event.metadata,
        )
        for event in events
    ]


def _tags(events: Sequence[StoredEvent]) -> list[tuple[Any, ...]]:
    return [(to_text(tag), event.position) for event in events for tag in dict.fromkeys(event.tags)]


def _keys(keys: Sequence[StoredKey]) -> list[tuple[Any, ...]]:
    return [
        (
            to_text(key.key),
            to_text(key.fingerprint),
            key.outcome.first,
            key.outcome.last,
            key.outcome.time,
            to_texts(key.outcome.streams),
            list(key.outcome.versions),
        )
        for key in keys
    ]


async def keys_page(
    connection: Any, begin: str, since: int, limit: int
) -> tuple[list[StoredKey], str | None]:
    """Look through some keys from ``begin`` on, in a bounded time.

    Returns:
        Those of outcomes from position ``since`` on, and where to begin next; None at the end.
    """
    size = max(limit, _SCANNED) if since else limit
    rows = await connection.fetch(SQL["keys"], to_text(begin), size, since)
    found = [
        StoredKey(from_text(row["key"]), from_text(row["fingerprint"]), outcome_of(row))
        for row in rows
        if row["last"] >= since
    ]
    ended = not rows or rows[-1]["scanned"] < size
    return found, None if ended else from_text(rows[-1]["key"]) + "\0"
