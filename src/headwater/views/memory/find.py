"""Finding documents in memory: every one is looked at."""

from typing import Any

from headwater.views.api import ViewPage
from headwater.views.selection import Selection, cursor_after, order_key

Row = tuple[tuple[Any, ...], bytes]  # the key and the indexed values, the document
Table = dict[str, Row]


def matching(selection: Selection, table: Table) -> list[tuple[Any, str, bytes]]:
    """Return what matches: the value to order by, the key and the document of each."""
    columns = {name: n for n, name in enumerate((selection.kind.key, *selection.kind.indexes))}
    order = columns[selection.order_by]
    equal = [(columns[field], order_key(value)) for field, value in selection.equal]
    ranges = [
        (
            columns[field],
            None if least is None else order_key(least),
            None if most is None else order_key(most),
        )
        for field, least, most in selection.ranges
    ]
    return [
        (row[order], key, document)
        for key, (row, document) in table.items()
        if all(order_key(row[n]) == value for n, value in equal)
        and all(
            row[n] is not None
            and (least is None or order_key(row[n]) >= least)
            and (most is None or order_key(row[n]) <= most)
            for n, least, most in ranges
        )
    ]


def page_of(selection: Selection, table: Table) -> ViewPage:
    """Return a page of what matches, in order."""
    found = [
        ((order_key(value), key), value, doc) for value, key, doc in matching(selection, table)
    ]
    if selection.after is not None:
        last = (order_key(selection.after[0]), selection.after[1])
        found = [f for f in found if (f[0] < last if selection.descending else f[0] > last)]
    found.sort(key=lambda f: f[0], reverse=selection.descending)
    page = found[: selection.limit]
    items = [selection.kind.decode(document) for _, _, document in page]
    if len(found) <= selection.limit:
        return ViewPage(items)
    (_, key), value, _ = page[-1]
    return ViewPage(items, cursor_after(selection, value, key))
