"""What the writing thread knows about the log, so that most verdicts need no query."""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import apsw
import msgspec

from headwater._sql.resources import statements

SQL = statements("headwater.eventstore.sqlite", "statements.sql")

ROWS_MAX = 512
_NAMES_MAX = 200_000
_integers = msgspec.json.Decoder(list[int]).decode
_texts: dict[tuple[str, int], str] = {}


def many(statement: str, columns: int, rows: int) -> str:
    """Return a statement of `SQL` with ``{rows}`` replaced by that many rows of parameters."""
    text = _texts.get((statement, rows))
    if text is None:
        row = f"({', '.join(repeat('?', columns))})"
        text = SQL[statement].replace("{rows}", ", ".join(repeat(row, rows)))
        _texts[statement, rows] = text
    return text


def fitting(rows: int) -> int:
    """Return the power of two, up to `ROWS_MAX`, that fits rows best: few statements to cache."""
    return min(ROWS_MAX, 1 << (rows - 1).bit_length())


def insert(connection: apsw.Connection, statement: str, columns: int, values: list[Any]) -> None:
    """Insert rows, given as one flat list, in as few steps as possible.

    Each step of SQLite releases the interpreter lock; taking it back from a busy event loop
    costs milliseconds, so a step per row (``executemany``) would be slower under load.
    """
    total = len(values) // columns
    done = 0
    while done < total:
        rows = min(total - done, ROWS_MAX)
        size = fitting(rows)
        part = values[done * columns : (done + rows) * columns]
        part.extend(repeat(None, (size - rows) * columns))
        connection.execute(many(statement, columns, size), part)
        done += rows


class Known:
    """The head, and for some streams, tags and types how far they go; right inside a transaction.

    Valid as long as nobody else commits, which `refresh` finds out.
    """

    def __init__(self) -> None:
        self.head = 0
        self.time = 0
        self.versions: dict[str, int] = {}
        self.last_of_tags: dict[str, int] = {}
        self.last_of_types: dict[str, int] = {}
        self._data_version: int | None = None

    def forget(self) -> None:
        """Drop everything: a transaction was rolled back."""
        self._data_version = None
        self._drop_names()

    def _drop_names(self) -> None:
        self.versions.clear()
        self.last_of_tags.clear()
        self.last_of_types.clear()

    def refresh(self, connection: apsw.Connection) -> None:
        """Call after a transaction has begun: drop what another connection may have changed."""
        present = connection.execute("PRAGMA data_version").get
        if present != self._data_version:
            self._drop_names()
            row = connection.execute(SQL["last_event"]).fetchone()
            self.head, self.time = row or (0, 0)
            self._data_version = present
        elif len(self.versions) + len(self.last_of_tags) > _NAMES_MAX:
            self._drop_names()

    def learn(
        self,
        connection: apsw.Connection,
        *,
        streams: Iterable[str],
        tags: Iterable[str],
        types: Iterable[str],
    ) -> None:
        """Look up names that are not known yet: one query for each kind, not for each name."""
        _learn(connection, "versions", self.versions, streams)
        _learn(connection, "last_of_tags", self.last_of_tags, tags)
        _learn(connection, "last_of_types", self.last_of_types, types)


def _learn(
    connection: apsw.Connection, statement: str, known: dict[str, int], names: Iterable[str]
) -> None:
    missing = [name for name in dict.fromkeys(names) if name not in known]
    for start in range(0, len(missing), ROWS_MAX):
        part = missing[start : start + ROWS_MAX]
        known.update(zip(part, look_up(connection, statement, part), strict=False))


def look_up(connection: apsw.Connection, statement: str, names: Sequence[str]) -> list[int]:
    """Return one number for each name (and some for the rows that fill up)."""
    size = fitting(len(names))
    values = [*names, *repeat(None, size - len(names))]
    return _integers(connection.execute(many(statement, 1, size), values).get)
