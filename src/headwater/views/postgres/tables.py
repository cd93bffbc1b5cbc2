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
from headwater.views.model import View, ViewType, view_type
from headwater.views.postgres.columns import (
    ANYTHING,
    NOTHING,
    Column,
    Words,
    column,
    escape,
    escape_all,
    unescape,
)
from headwater.views.selection import Conditions, Selection, cursor_after

Row = tuple[Any, ...]  # the key, the indexed values, the document

_NAME_BYTES_MAX = 63
_TAKEN = frozenset({"cmax", "cmin", "ctid", "oid", "tableoid", "xmax", "xmin"})
_WORDS = "~words"
_FILL_PERCENT = 80  # room in each page for new versions of its rows, which then touch no index


class Table:
    """The statements for one view type in one generation; use `table`."""

    def __init__(self, kind: ViewType, generation: int) -> None:
        """Build the statements."""
        self.kind = kind
        self.generation = generation
        self.name = table_name(kind.name, generation)
        self.columns: dict[str, Column] = {
            kind.key: Column(f"{kind.name}.{kind.key}"),
            **{name: column(f"{kind.name}.{name}", kind.scalars[name]) for name in kind.indexes},
            **({_WORDS: Words(f"{kind.name}.{_WORDS}")} if kind.full_text else {}),
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
            *(
                f"CREATE INDEX {_quoted(f'view_{kind.name}_{generation}.{_WORDS}')} "
                f"ON {self.name} USING gin ({self._sql_names[_WORDS]})"
                for _ in kind.full_text[:1]
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
        rows = self._given(names)
        setting = ", ".join(f"{name} = given.{name}" for name in names[1:])
        self.insert = f"INSERT INTO {self.name} ({', '.join(names)}) SELECT * FROM {rows} AS given"
        self.update = (
            f"UPDATE {self.name} AS kept SET {setting} "
            f"FROM {rows} AS given ({', '.join(names)}) WHERE kept.{key} = given.{key}"
        )
        self.upsert = f"{self.insert} ON CONFLICT ({key}) DO UPDATE SET " + ", ".join(
            f"{name} = excluded.{name}" for name in names[1:]
        )

    def _given(self, names: Sequence[str]) -> str:
        """Return the rows that are given as an array for each column."""
        arrays = [*(one.array for one in self.columns.values()), "text[]"]
        given = ", ".join(f"${n}::{array}" for n, array in enumerate(arrays, 1))
        if not self.kind.full_text:
            return f"unnest({given})"
        made = [one.stored(self._sql_names[name]) for name, one in self.columns.items()]
        raw = f"unnest({given}) AS raw ({', '.join(names)})"
        return f"(SELECT {', '.join(made)}, document FROM {raw})"  # the words become a vector

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

    async def page(self, connection: Any, selection: Selection) -> ViewPage:
        """Return a page; with its total, in a transaction in which all reads see the same."""
        sql, values = self.find(selection)
        rows = await connection.fetch(sql, *values)
        total: int | None = None
        if selection.total:
            counting, counted = self.count(selection)
            total = await connection.fetchval(counting, *counted)
        page = rows[: selection.limit]
        items = [self.kind.decode(document) for _, _, document in page]
        if len(rows) <= selection.limit:
            return ViewPage(items, total=total)
        value, key, _ = page[-1]
        value = self.columns[selection.order_by].to_cursor(value)
        return ViewPage(items, cursor_after(selection, value, key), total)

    def count(self, selection: Selection) -> tuple[str, list[Any]]:
        """Return the statement that counts what matches, and its values."""
        values: list[Any] = []
        matching = self._matching(selection, values)
        return f"SELECT count(*) FROM {self.name} WHERE {matching}", values

    def _matching(self, selection: Selection, values: list[Any]) -> str:
        """Return the condition of a query; its values are added to ``values``."""
        matching = _any_of([self._all_of(one, values) for one in selection.alternatives])
        if not selection.words:
            return matching
        words = (f"'{word.text}'{':*' if word.prefix else ''}" for word in selection.words)
        values.append(" & ".join(words))
        return f"{matching} AND {self._sql_names[_WORDS]} @@ ${len(values)}::text::tsquery"

    def _all_of(self, conditions: Conditions, values: list[Any]) -> str:
        parts = ["true"]
        parts += [self._among(field, among, values) for field, among in conditions.equal]
        for one in conditions.between:
            column = self.columns[one.field]
            if one.least is one.most is one.below is None:
                parts.append(self._compare(one.field, "", ANYTHING, values))
            for sign, bound, to in (
                (">=", one.least, column.least),
                ("<=", one.most, column.most),
                ("<", one.below, column.most),
            ):
                if bound is not None:
                    parts.append(self._compare(one.field, sign, to(bound), values))
        return " AND ".join(parts)

    def _among(self, field: str, among: Sequence[Any], values: list[Any]) -> str:
        name, column = self._sql_names[field], self.columns[field]
        bound = [column.equal(value) for value in among if value is not None]
        some = [value for value in bound if value is not NOTHING]
        either = [f"{name} IS NULL"] if None in among else []
        if len(some) == 1:
            either.append(self._compare(field, "=", some[0], values))
        elif some:
            values.append(some)
            either.append(f"{name} = ANY(${len(values)}::{column.array})")
        return _any_of(either)

    def _compare(self, field: str, sign: str, value: Any, values: list[Any]) -> str:
        if value is NOTHING:
            return "false"
        if value is ANYTHING:
            return f"{self._sql_names[field]} IS NOT NULL"
        values.append(value)
        return f"{self._sql_names[field]} {sign} ${len(values)}"

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


def _any_of(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({' OR '.join(f'({p})' for p in parts) or 'false'})"


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
