"""One PostgreSQL table per view type and generation: its statements, built once.

The columns are the key, one per index with the type that its field declares, and the JSON
document as text, all under their own names, so that any SQL tool can read them.
"""

# ruff: noqa: S608  # names in SQL are identifiers of Python, quoted; values are bound

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

from headwater.errors import InvalidInput
from headwater.views.api import ViewPage
from headwater.views.model import View, ViewType, index_kinds, view_type
from headwater.views.postgres.columns import (
    ANYTHING,
    NOTHING,
    Column,
    column,
    escape,
    escape_all,
    unescape,
)
from headwater.views.selection import Selection, cursor_after

Row = tuple[Any, ...]  # the key, the indexed values, the document

_NAME_BYTES_MAX = 63
_TAKEN = frozenset({"cmax", "cmin", "ctid", "oid", "tableoid", "xmax", "xmin"})
_FILL_PERCENT = 80  # room in each page for new versions of its rows, which then touch no index


class Table:
    """The statements for one view type in one generation; use `table`."""

    def __init__(self, kind: ViewType, generation: int) -> None:
        """Build the statements."""
        self.kind = kind
        self.generation = generation
        self.name = table_name(kind.name, generation)
        kinds = index_kinds(kind.cls)
        self.columns: dict[str, Column] = {
            kind.key: Column(f"{kind.name}.{kind.key}"),
            **{name: column(f"{kind.name}.{name}", kinds[name]) for name in kind.indexes},
        }
        self._sql_names = {name: _column_name(name) for name in self.columns}
        key = self._sql_names[kind.key]
        names = [*self._sql_names.values(), "document"]
        types = [one.sql for one in self.columns.values()]
        self.create = [
            f"CREATE TABLE {self.name} ({key} {types[0]} PRIMARY KEY, "
            + "".join(f"{n} {t}, " for n, t in zip(names[1:-1], types[1:], strict=True))
            + f"document text NOT NULL) WITH (fillfactor = {_FILL_PERCENT})",
            *(
                f"CREATE INDEX {_quoted(f'view_{kind.name}_{generation}.{field}')} "
                f"ON {self.name} ({self._sql_names[field]} NULLS FIRST, {key})"
                for field in kind.indexes
            ),
        ]
        self.get = f"SELECT document FROM {self.name} WHERE {key} = $1"
        self.load = f"SELECT {key}, document FROM {self.name} WHERE {key} = ANY($1::text[])"
        # In order of the key, as everywhere, so that two transactions do not wait for each other.
        self.load_locked = f"{self.load} ORDER BY {key} FOR NO KEY UPDATE"
        self.delete = (
            f"DELETE FROM {self.name} WHERE {key} IN (SELECT {key} FROM {self.name} "
            f"WHERE {key} = ANY($1::text[]) ORDER BY {key} FOR UPDATE)"
        )
        arrays = [*(one.array for one in self.columns.values()), "text[]"]
        given = ", ".join(f"${n}::{array}" for n, array in enumerate(arrays, 1))
        setting = ", ".join(f"{name} = given.{name}" for name in names[1:])
        self.insert = f"INSERT INTO {self.name} ({', '.join(names)}) SELECT * FROM unnest({given})"
        self.update = (
            f"UPDATE {self.name} AS kept SET {setting} "
            f"FROM unnest({given}) AS given ({', '.join(names)}) WHERE kept.{key} = given.{key}"
        )
        self.upsert = f"{self.insert} ON CONFLICT ({key}) DO UPDATE SET " + ", ".join(
            f"{name} = excluded.{name}" for name in names[1:]
        )

    def arrays(self, rows: Sequence[Row]) -> list[list[Any]]:
        """Return what to bind to `insert`, `update` and `upsert`: an array for each column.

        Raises:
            InvalidInput: a value is not of a kind that its field declares.
        """
        *stored, documents = (list(values) for values in zip(*rows, strict=True))
        columns = self.columns.values()
        arrays = [one.store(values) for one, values in zip(columns, stored, strict=True)]
        return [*arrays, documents]

    def documents(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Return what `load` found."""
        decode = self.kind.decode
        return {unescape(key): decode(document) for key, document in rows}

    def find(self, selection: Selection) -> tuple[str, list[Any]]:
        """Return the statement for a page and one document more, and its values.

        One statement, so that it sees one state of the table. NULL comes first and compares with
        nothing, so crossing from it to the values (or back) takes two parts; an OR instead would
        keep PostgreSQL from seeking in the index.
        """
        values: list[Any] = []
        matching = self._matching(selection, values)
        field, key = self._sql_names[selection.order_by], self._sql_names[self.kind.key]
        direction = "DESC NULLS LAST" if selection.descending else "ASC NULLS FIRST"
        order = f"ORDER BY 1 {direction}, 2 {direction}"
        after = self._after(selection, values)
        values.append(selection.limit + 1)
        limit = f"{order} LIMIT ${len(values)}"
        head = f"SELECT {field} AS sort_value, {key} AS sort_key, document FROM {self.name}"
        parts = [f"{head} WHERE {matching} AND {part} {limit}" for part in after]
        if len(parts) == 1:
            return parts[0], values
        both = " UNION ALL ".join(f"({part})" for part in parts)
        return f"SELECT * FROM ({both}) AS both_parts {limit}", values

    def page(self, selection: Selection, rows: Sequence[Any]) -> ViewPage:
        """Return the page of what `find` found."""
        page = rows[: selection.limit]
        items = [self.kind.decode(document) for _, _, document in page]
        if len(rows) <= selection.limit:
            return ViewPage(items)
        value, key, _ = page[-1]
        value = self.columns[selection.order_by].to_cursor(value)
        return ViewPage(items, cursor_after(selection, value, key))

    def count(self, selection: Selection) -> tuple[str, list[Any]]:
        """Return the statement that counts what matches, and its values."""
        values: list[Any] = []
        matching = self._matching(selection, values)
        return f"SELECT count(*) FROM {self.name} WHERE {matching}", values

    def _matching(self, selection: Selection, values: list[Any]) -> str:
        """Return the condition of a query; its values are added to ``values``."""
        parts = ["true"]

        def compare(field: str, sign: str, value: Any) -> None:
            name = self._sql_names[field]
            if value is NOTHING:
                parts.append("false")
            elif value is ANYTHING:
                parts.append(f"{name} IS NOT NULL")
            else:
                values.append(value)
                parts.append(f"{name} {sign} ${len(values)}")

        for field, value in selection.equal:
            if value is None:
                parts.append(f"{self._sql_names[field]} IS NULL")
            else:
                compare(field, "=", self.columns[field].equal(value))
        for field, least, most in selection.ranges:
            if least is None and most is None:
                compare(field, "", ANYTHING)
            if least is not None:
                compare(field, ">=", self.columns[field].least(least))
            if most is not None:
                compare(field, "<=", self.columns[field].most(most))
        return " AND ".join(parts)

    def _after(self, selection: Selection, values: list[Any]) -> list[str]:
        """Return the conditions for what follows the cursor, in order."""
        if selection.after is None:
            return ["true"]
        value, key = selection.after
        name, key_name = self._sql_names[selection.order_by], self._sql_names[self.kind.key]
        sign = "<" if selection.descending else ">"
        values.append(self.columns[self.kind.key].from_cursor(key))
        behind_key = f"{key_name} {sign} ${len(values)}"
        if selection.order_by == self.kind.key:
            return [behind_key]
        if value is None:
            nulls = f"{name} IS NULL AND {behind_key}"
            return [nulls] if selection.descending else [nulls, f"{name} IS NOT NULL"]
        key_number = len(values)
        values.append(self.columns[selection.order_by].from_cursor(value))
        behind = f"({name}, {key_name}) {sign} (${len(values)}, ${key_number})"
        return [behind, f"{name} IS NULL"] if selection.descending else [behind]


def rows_of(kind: ViewType, views: Sequence[View]) -> list[Row]:
    """Return the rows of documents by key, each key once, the last one of it.

    Raises:
        Unstorable: one would not come back as the same document.
    """
    rows: dict[str, Row] = {}
    for view in views:
        row, document = kind.stored(view)
        rows[row[0]] = (*row, document.decode())
    return [rows[key] for key in sorted(rows)]


@functools.cache
def table(view: type[View], generation: int) -> Table:
    """Return the statements for a view type in a generation."""
    return Table(view_type(view), generation)


def table_name(view: str, generation: int) -> str:
    """Return the quoted name of a view type's table; the number keeps it off our own ones."""
    return _quoted(f"view_{view}_{generation}")


def too_long(view: str) -> InvalidInput:
    """Return the error for a value that no index of PostgreSQL can hold."""
    return InvalidInput(
        reason=f"{view}: a key or an indexed text is longer than an index of PostgreSQL can hold "
        "(about 2,700 bytes): shorten it, or do not declare the field Index"
    )


def _column_name(field: str) -> str:
    return _quoted(f"{field}~" if field in _TAKEN else field)


def _quoted(name: str) -> str:
    """Return an identifier; one that PostgreSQL would cut off ends in a digest instead."""
    raw = name.encode()
    if len(raw) > _NAME_BYTES_MAX:
        digest = hashlib.blake2b(raw, digest_size=5).hexdigest()
        kept = raw[: _NAME_BYTES_MAX - len(digest) - 1].decode(errors="ignore")
        name = f"{kept}~{digest}"
    return f'"{name}"'


__all__ = [
    "Row",
    "Table",
    "escape",
    "escape_all",
    "rows_of",
    "table",
    "table_name",
    "too_long",
]
