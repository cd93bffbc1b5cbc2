"""One SQLite table per view type and generation: its statements, built once.

The columns are the key, one per index and the JSON document as text, all under their own names,
so that any SQL tool can read them. Index columns have no declared type, so that values are stored
and compared as they are.
"""

# ruff: noqa: S608  # names in SQL are identifiers of Python, quoted; values are bound

import functools
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

import apsw
import msgspec

from headwater.views.api import ViewPage
from headwater.views.model import View, ViewType, view_type
from headwater.views.selection import Conditions, Selection, cursor_after
from headwater.views.sqlite import full_text

Row = tuple[Any, ...]  # the key, the indexed values, the document

_ROWS_MAX = 256
_json = msgspec.json.Encoder().encode


class Table:
    """The statements for one view type in one generation; use `table`."""

    def __init__(self, kind: ViewType, generation: int) -> None:
        """Build the statements."""
        self.kind = kind
        name = self.name = table_name(kind.name, generation)
        key = f'"{kind.key}"'
        words = ['"~words"'] if kind.full_text else []
        columns = [f'"{column}"' for column in (kind.key, *kind.indexes)] + [*words, "document"]
        rest = ", ".join(columns[1:])
        self.create = [
            full_text.create(name, columns)
            if words
            else f'CREATE TABLE "{name}" ({key} TEXT PRIMARY KEY NOT NULL, {rest})',
            *(
                f'CREATE INDEX "{name}.{field}" ON "{name}" ("{field}", {key})'
                for field in kind.indexes
            ),
            *(full_text.keep(name) if words else ()),
        ]
        select = f'FROM "{name}" WHERE'
        self.get = f"SELECT document {select} {key} = ?"
        # One text for any number of keys stays in the statement cache, unlike IN (?, ?, ...).
        among = f"{select} {key} IN (SELECT value FROM json_each(?))"
        self._load = f"SELECT group_concat(document, ',') {among}"  # a row is a step: see `insert`
        self._load_each = f"SELECT document {among}"
        self.delete = f'DELETE FROM "{name}" WHERE {key} IN (SELECT value FROM json_each(?))'
        # An upsert, not REPLACE: indexes whose value is the same are not touched.
        self._save_begin = f'INSERT INTO "{name}" ({", ".join(columns)}) VALUES '
        self._save_row = f"({', '.join('?' * len(columns))})"
        self._save_end = f" ON CONFLICT ({key}) DO UPDATE SET " + ", ".join(
            f"{column} = excluded.{column}" for column in columns[1:]
        )
        self._decode_all = msgspec.json.Decoder(list[kind.cls]).decode  # type: ignore[name-defined]  # known here

    def load_many(self, connection: apsw.Connection, keys: Sequence[str]) -> dict[str, Any]:
        """Return the documents of those keys that exist."""
        wanted = (_json(list(keys)).decode(),)
        key_of = self.kind.key_of
        try:
            text = connection.execute(self._load, wanted).get
            documents = self._decode_all(f"[{text}]") if text else []
        except (msgspec.MsgspecError, apsw.TooBigError):  # find out which one, or take them singly
            rows: Any = connection.execute(self._load_each, wanted)
            documents = [self.kind.decode(document) for (document,) in rows]
        return {key_of(document): document for document in documents}

    def save_many(self, connection: apsw.Connection, rows: Sequence[Row]) -> None:
        """Insert or replace documents in few steps, as each step releases the interpreter lock.

        The numbers of rows are powers of two, so that few statements are to be cached.
        """
        done = 0
        while done < len(rows):
            size = min(_ROWS_MAX, 1 << ((len(rows) - done).bit_length() - 1))
            values = ", ".join(repeat(self._save_row, size))
            connection.execute(
                self._save_begin + values + self._save_end,
                tuple(chain.from_iterable(rows[done : done + size])),
            )
            done += size

    def delete_many(self, connection: apsw.Connection, keys: Sequence[str]) -> None:
        """Remove the documents of those keys that exist."""
        connection.execute(self.delete, (_json(list(keys)).decode(),))

    def find(self, connection: apsw.Connection, selection: Selection) -> ViewPage:
        """Return a page."""
        total = self.count(connection, selection) if selection.total else None
        fields = f'"{selection.order_by}", "{self.kind.key}", document'
        direction = "DESC" if selection.descending else "ASC"
        order = f'ORDER BY "{selection.order_by}" {direction}, "{self.kind.key}" {direction}'
        matching, values = self._matching(selection)
        rows: list[Any] = []
        for part, part_values in _after(selection):
            wanted = selection.limit + 1 - len(rows)
            if wanted:
                sql = (
                    f'SELECT {fields} FROM "{self.name}" WHERE {matching} AND {part} '
                    f"{order} LIMIT ?"
                )
                rows += connection.execute(sql, (*values, *part_values, wanted))
        page = rows[: selection.limit]
        items = [self.kind.decode(document) for _, _, document in page]
        if len(rows) <= selection.limit:
            return ViewPage(items, total=total)
        value, key, _ = page[-1]
        return ViewPage(items, cursor_after(selection, value, key), total)

    def count(self, connection: apsw.Connection, selection: Selection) -> int:
        """Return how many documents match."""
        matching, values = self._matching(selection)
        sql = f'SELECT count(*) FROM "{self.name}" WHERE {matching}'
        return int(connection.execute(sql, values).get)

    def _matching(self, selection: Selection) -> tuple[str, list[Any]]:
        """Return the condition of a query and its values."""
        parts = [_all_of(one) for one in selection.alternatives]
        text = parts[0][0] if len(parts) == 1 else _any_of([f"({part})" for part, _ in parts])
        values = [value for _, some in parts for value in some]
        if selection.words:
            text += f" AND {full_text.condition(self.name)}"
            values.append(full_text.asked(selection.words))
        return text, values


def rows_of(kind: ViewType, views: Sequence[View]) -> list[Row]:
    """Return what `Table.save_many` stores.

    Raises:
        Unstorable: one would not come back as the same document.
    """
    stored = map(kind.stored, views)
    return [(*row, document.decode()) for row, document in stored]


@functools.cache
def table(view: type[View], generation: int) -> Table:
    """Return the statements for a view type in a generation."""
    return Table(view_type(view), generation)


def table_name(view: str, generation: int) -> str:
    """Return the name of a view type's table; the number at the end keeps it off our own ones."""
    return f"view_{view}_{generation}"


def _all_of(conditions: Conditions) -> tuple[str, list[Any]]:
    """Return the text of conditions, and its values."""
    parts, values = ["true"], []
    for field, among in conditions.equal:
        some = [value for value in among if value is not None]
        either = [f'"{field}" IS NULL'] if len(some) < len(among) else []
        if some:
            marks = ", ".join("?" * len(some))
            either.append(f'"{field}" IN ({marks})' if len(some) > 1 else f'"{field}" = ?')
            values += some
        parts.append(_any_of(either))
    for one in conditions.between:
        if one.least is one.most is one.below is None:
            parts.append(f'"{one.field}" IS NOT NULL')
        for sign, bound in (">=", one.least), ("<=", one.most), ("<", one.below):
            if bound is not None:
                parts.append(f'"{one.field}" {sign} ?')
                values.append(bound)
    return " AND ".join(parts), values


def _any_of(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({' OR '.join(parts) or 'false'})"


def _after(selection: Selection) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the conditions for what follows the cursor, in order.

    NULL comes first and compares with nothing, so crossing from it to the values (or back) takes
    a second statement; an OR instead would keep SQLite from seeking in the index.
    """
    if selection.after is None:
        return [("true", ())]
    value, key = selection.after
    field, key_field = f'"{selection.order_by}"', f'"{selection.kind.key}"'
    sign = "<" if selection.descending else ">"
    if selection.order_by == selection.kind.key:
        return [(f"{key_field} {sign} ?", (key,))]
    if value is None:
        nulls = (f"{field} IS NULL AND {key_field} {sign} ?", (key,))
        return [nulls] if selection.descending else [nulls, (f"{field} IS NOT NULL", ())]
    values = (f"({field}, {key_field}) {sign} (?, ?)", (value, key))
    return [values, (f"{field} IS NULL", ())] if selection.descending else [values]
