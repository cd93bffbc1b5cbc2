"""Copying a store: events and keys of another one stored as they are, and keys read in pages."""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from headwater.eventstore.api import Appended, StoredEvent, StoredKey
from headwater.eventstore.checks import check_epoch, check_import, new_keys
from headwater.eventstore.sqlite.batch import stored_outcomes
from headwater.eventstore.sqlite.known import ROWS_MAX, SQL, Known, insert
from headwater.eventstore.times import runs_of

_encode = msgspec.json.Encoder().encode
_texts = msgspec.json.Decoder(tuple[str, ...]).decode
_numbers = msgspec.json.Decoder(tuple[int, ...]).decode


def store_as_is(
    connection: apsw.Connection,
    known: Known,
    events: Sequence[StoredEvent],
    keys: Sequence[StoredKey],
    epoch: str,
) -> None:
    """Check and store events and keys; inside a transaction. ``known`` is to be forgotten then.

    Raises:
        ImportRefused: nothing may be stored of it.
    """
    known.refresh(connection)
    present = str(connection.execute(SQL["epoch"]).get)
    empty = not known.head and not connection.execute(SQL["has_keys"]).get
    check_epoch(epoch, stored=present, empty=empty)
    if epoch != present:
        connection.execute(SQL["replace_epoch"], (epoch,))
    known.learn(connection, streams=[event.stream for event in events], tags=(), types=())
    check_import(events, head=known.head, time=known.time, versions=known.versions)
    stored: dict[str, tuple[Appended, str]] = {}
    for start in range(0, len(keys), ROWS_MAX):
        names = [key.key for key in keys[start : start + ROWS_MAX]]
        stored.update(stored_outcomes(connection, names))
    rows: list[Any] = []
    tags: list[Any] = []
    for event in events:
        rows += _row(event)
        for tag in dict.fromkeys(event.tags):
            tags += (tag, event.position)
    connection.executemany(SQL["add_run"], runs_of(events, known.time))
    insert(connection, "insert_events", 9, rows)
    insert(connection, "insert_tags", 2, tags)
    insert(connection, "insert_keys", 7, [v for key in new_keys(keys, stored) for v in _key(key)])


def _row(event: StoredEvent) -> tuple[Any, ...]:
    return (
        event.position,
        event.stream,
        event.version,
        event.type,
        event.type_version,
        event.time,
        _encode(event.tags).decode() if event.tags else "",
        event.data,
        event.metadata,
    )


def _key(key: StoredKey) -> tuple[Any, ...]:
    outcome = key.outcome
    return (
        key.key,
        key.fingerprint,
        outcome.first,
        outcome.last,
        outcome.time,
        _encode(outcome.streams).decode(),
        _encode(outcome.versions).decode(),
    )


def keys_page(
    connection: apsw.Connection, begin: str, since: int, limit: int
) -> tuple[StoredKey, ...]:
    """Return the first keys from ``begin`` on, of outcomes from position ``since`` on."""
    return tuple(
        [
            StoredKey(
                key, fingerprint, Appended(first, last, time, _texts(streams), _numbers(versions))
            )
            for key, fingerprint, first, last, time, streams, versions in connection.execute(
                SQL["keys"], (begin, since, limit)
            )
        ]
    )
