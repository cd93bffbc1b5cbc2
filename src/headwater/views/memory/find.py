"""Finding documents in memory: every one is looked at."""

from collections.abc import Callable
from typing import Any

from headwater.views.api import ViewPage
from headwater.views.selection import Between, Conditions, Selection, cursor_after, order_key

Row = tuple[tuple[Any, ...], bytes]  # the key, the indexed values and the words; the document
Table = dict[str, Row]


def matching_rows(selection: Selection, table: Table) -> list[tuple[Any, str, bytes]]:
    """Return what matches: the value to order by, the key and the document of each."""
    columns = {name: n for n, name in enumerate((selection.kind.key, *selection.kind.indexes))}
    order = columns[selection.order_by]
    tests = [_test(one, columns) for one in selection.alternatives]
    return [
        (row[order], key, document)
        for key, (row, document) in table.items()
        if any(test(row) for test in tests) and _has_words(selection, row)
    ]


def page_of(selection: Selection, table: Table) -> ViewPage:
    """Return a page of what matches, in order."""
    every = [
        ((order_key(value), key), value, doc) for value, key, doc in matching_rows(selection, table)
    ]
    found = every
    if selection.after is not None:
        last = (order_key(selection.after[0]), selection.after[1])
        found = [f for f in every if (f[0] < last if selection.descending else f[0] > last)]
    found.sort(key=lambda f: f[0], reverse=selection.descending)
    page = found[: selection.limit]
    items = [selection.kind.decode(document) for _, _, document in page]
    total = len(every) if selection.total else None
    if len(found) <= selection.limit:
        return ViewPage(items, total=total)
    (_, key), value, _ = page[-1]
    return ViewPage(items, cursor_after(selection, value, key), total)


def _test(conditions: Conditions, columns: dict[str, int]) -> Callable[[tuple[Any, ...]], bool]:
    equal = [(columns[field], {*map(order_key, values)}) for field, values in conditions.equal]
    between = [(columns[one.field], one) for one in conditions.between]
    return lambda row: (
        all(order_key(row[n]) in values for n, values in equal)
        and all(_is_within(row[n], one) for n, one in between)
    )


def _is_within(value: Any, bounds: Between) -> bool:
    return value is not None and all(
        (
            bounds.least is None or order_key(value) >= order_key(bounds.least),
            bounds.most is None or order_key(value) <= order_key(bounds.most),
            bounds.below is None or order_key(value) < order_key(bounds.below),
        )
    )


def _has_words(selection: Selection, row: tuple[Any, ...]) -> bool:
    if not selection.words:
        return True
    words = set(row[-1].split())
    return all(word.meets(words) for word in selection.words)
