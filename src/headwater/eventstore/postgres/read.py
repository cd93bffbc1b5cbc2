"""Pages of events: one query for each, decoded in one go."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Self

import msgspec

from headwater._sql.resources import statements
from headwater.eventstore.api import EventFilter, FilterItem, StoredEvent
from headwater.eventstore.log_base import Found
from headwater.eventstore.postgres.filter import COLUMNS, select_events
from headwater.eventstore.postgres.names import from_text, to_text

SQL = statements("headwater.eventstore.postgres", "statements.sql")

_tags = msgspec.json.Decoder(tuple[str, ...]).decode


def _stream_query(order: str) -> str:
    return (
        f"SELECT {COLUMNS} FROM events WHERE stream = $4 "  # noqa: S608  # constants only
        f"AND version > $1 AND version <= $2 ORDER BY version {order} LIMIT $3"
    )


_STREAM_FORWARDS = _stream_query("ASC")
_STREAM_BACKWARDS = _stream_query("DESC")


class PageQuery:
    """Fetches pages of the log, or of one stream, by number: position or version."""

    def __init__(
        self,
        sql: str,
        parameters: tuple[str, ...],
        head: tuple[str, ...],
        number: Callable[[StoredEvent], int],
        *,
        dense: bool,
        order: str = "ASC",
    ) -> None:
        self._sql = sql
        page = f"h LEFT JOIN ({sql}) AS x ON true ORDER BY x.position {order}"
        self._with_head = f"WITH h AS MATERIALIZED ({SQL['head']}) SELECT h.head, x.* FROM {page}"  # noqa: S608  # constants only
        self._parameters = parameters
        self._head = head
        self._dense = dense
        self.number = number

    @classmethod
    def of_log(cls, filter: EventFilter, *, backwards: bool = False) -> Self:
        """Return the query for what a filter selects of the log."""
        sql, parameters = select_events(filter, backwards=backwards)
        dense = not backwards and (not filter.items or FilterItem() in filter.items)
        order = "DESC" if backwards else "ASC"
        head = (SQL["head"],)
        return cls(sql, parameters, head, attrgetter("position"), dense=dense, order=order)

    @classmethod
    def of_stream(cls, stream: str, *, backwards: bool = False) -> Self:
        """Return the query for one stream."""
        sql = _STREAM_BACKWARDS if backwards else _STREAM_FORWARDS
        name = to_text(stream)
        head = (SQL["version"], name)
        return cls(sql, (name,), head, attrgetter("version"), dense=not backwards)

    async def head(self, connection: Any) -> int:
        """Return the log's last position, or the stream's version."""
        number: int = await connection.fetchval(*self._head)
        return number

    async def fetch(self, connection: Any, low: int, high: int, limit: int) -> Found:
        """Fetch at most ``limit`` events with a number above ``low`` and up to ``high``.

        Where numbers are dense, an incomplete page tells by itself where the end is.
        """
        rows = await connection.fetch(self._sql, low, high, limit, *self._parameters)
        events = decode(rows)
        full = len(events) == limit
        head = None
        if self._dense and not full:
            head = self.number(events[-1]) if events else low
        return Found(events, head, full)

    async def fetch_with_head(self, connection: Any, low: int, high: int, limit: int) -> Found:
        """As `fetch`, with the head that the same moment had."""
        if self._dense:
            found = await self.fetch(connection, low, high, limit)
            if found.head is not None:
                return found
            # What was stored in between belongs to this reading: it began before it was asked.
            return Found(found.events, await self.head(connection), found.full)
        if self._head[1:]:
            head = await self.head(connection)
            found = await self.fetch(connection, low, min(high, head), limit)
            return Found(found.events, head, found.full)
        rows = await connection.fetch(self._with_head, low, high, limit, *self._parameters)
        head = rows[0][0]
        events = decode([row[1:] for row in rows]) if rows[0][1] is not None else ()
        return Found(events, head, len(events) == limit)


def decode(rows: Sequence[Any]) -> tuple[StoredEvent, ...]:
    """Return events from rows of `COLUMNS`."""
    if not rows:
        return ()
    return tuple(
        [
            StoredEvent(
                position,
                stream if "\1" not in stream else from_text(stream),
                version,
                kind if "\1" not in kind else from_text(kind),
                kind_version,
                time,
                _tags(tags) if tags else (),
                data,
                metadata,
            )
            for position, stream, version, kind, kind_version, time, tags, data, metadata in rows
        ]
    )
