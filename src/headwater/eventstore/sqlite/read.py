"""Pages of events, each fetched in one step and decoded in one go."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Self

import apsw
import msgspec

from headwater.eventstore.api import EventFilter, StoredEvent
from headwater.eventstore.log_base import Found
from headwater.eventstore.sqlite.filter import COLUMNS, select_events
from headwater.eventstore.sqlite.known import SQL

_rows = msgspec.json.Decoder(list[tuple[int, str, int, str, int, int, str, int, int]]).decode
_tags = msgspec.json.Decoder(tuple[str, ...]).decode


def _stream_query(order: str) -> str:
    selected = (
        f"SELECT {COLUMNS} FROM events WHERE stream = :stream "  # noqa: S608  # constants only
        f"AND version > :low AND version <= :high ORDER BY version {order} LIMIT :limit"
    )
    head = SQL["version"].replace("?", ":stream")
    return SQL["page"].format(head=head, selected=selected)


_STREAM_FORWARDS = _stream_query("ASC")
_STREAM_BACKWARDS = _stream_query("DESC")


class PageQuery:
    """Fetches pages of the log, or of one stream, by number: position or version."""

    def __init__(
        self, sql: str, parameters: dict[str, str], number: Callable[[StoredEvent], int]
    ) -> None:
        self._sql = sql
        self._parameters = parameters
        self.number = number

    @classmethod
    def of_log(cls, filter: EventFilter, *, backwards: bool = False) -> Self:
        """Return the query for what a filter selects of the log."""
        selected, parameters = select_events(filter, backwards=backwards)
        sql = SQL["page"].format(head=SQL["head"], selected=selected)
        return cls(sql, parameters, attrgetter("position"))

    @classmethod
    def of_stream(cls, stream: str, *, backwards: bool = False) -> Self:
        """Return the query for one stream."""
        sql = _STREAM_BACKWARDS if backwards else _STREAM_FORWARDS
        return cls(sql, {"stream": stream}, attrgetter("version"))

    def fetch(self, connection: apsw.Connection, low: int, high: int, limit: int) -> Found:
        """Fetch at most ``limit`` events with a number above ``low`` and up to ``high``."""
        values: dict[str, Any] = {"low": low, "high": high, "limit": limit, **self._parameters}
        try:
            row = connection.execute(self._sql, values).fetchone()
        except apsw.TooBigError:  # the page would be larger than SQLite allows for one value
            if limit == 1:
                raise
            return self.fetch(connection, low, high, max(1, limit // 16))
        numbers, data, metadata, head = row or (None, b"", b"", 0)
        events = _decode(numbers, data, metadata) if numbers else ()
        return Found(events, head, len(events) == limit)


def _decode(numbers: str, data: bytes, metadata: bytes) -> tuple[StoredEvent, ...]:
    events: list[StoredEvent] = []
    append, start, meta_start = events.append, 0, 0
    for position, stream, version, kind, kind_version, time, tags, length, meta_length in _rows(
        f"[{numbers}]"
    ):
        end, meta_end = start + length, meta_start + meta_length
        append(
            StoredEvent(
                position,
                stream,
                version,
                kind,
                kind_version,
                time,
                _tags(tags) if tags else (),
                data[start:end],
                metadata[meta_start:meta_end],
            )
        )
        start, meta_start = end, meta_end
    return tuple(events)
