"""Filters as SQL: by tag first, because tags are selective and types are not."""
# ruff: noqa: S608  # texts are made of constants and parameter names; values are bound

from functools import lru_cache

from headwater.eventstore.api import EventFilter, FilterItem

_TERMS_MAX = 64
COLUMNS = "position, stream, version, type, type_version, time, tags, data, metadata"


@lru_cache(maxsize=512)
def select_events(filter: EventFilter, *, backwards: bool = False) -> tuple[str, dict[str, str]]:
    """Return a query for the events of a filter in reading order, and its named parameters.

    The caller adds ``:low`` (exclusive) and ``:high`` (inclusive), which bound the positions, and
    ``:limit``. A filter of many items falls back to looking at every event of the range.
    """
    order = "DESC" if backwards else "ASC"
    whole = f"SELECT {COLUMNS} FROM events WHERE position > :low AND position <= :high"
    end = f"ORDER BY position {order} LIMIT :limit"
    names = _Names()
    if not filter.items or FilterItem() in filter.items:
        return f"{whole} {end}", {}
    terms = [term for item in filter.items for term in _terms(item, names)]
    if len(terms) > _TERMS_MAX:
        names = _Names()
        wanted = " OR ".join(f"({_test(item, names)})" for item in filter.items)
        return f"{whole} AND ({wanted}) {end}", names.values
    # Each term comes in order of its index, and a compound with ORDER BY merges them lazily.
    found = " UNION ".join(terms)
    chosen = f"SELECT position FROM ({found} ORDER BY position {order} LIMIT :limit)"
    joined = f"({chosen}) CROSS JOIN events USING (position)"
    return f"SELECT {COLUMNS} FROM {joined} ORDER BY position {order}", names.values


@lru_cache(maxsize=512)
def find_tagged(item: FilterItem) -> tuple[str, dict[str, str]]:
    """Return a query for the first position of a range that an item with tags matches, if any."""
    names = _Names()
    (term,) = _terms(item, names)
    return f"SELECT min(position) FROM ({term})", names.values


class _Names:
    """Hands out parameter names, one per distinct value."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._known: dict[str, str] = {}

    def of(self, value: str) -> str:
        name = self._known.get(value)
        if name is None:
            name = self._known[value] = f"p{len(self.values)}"
            self.values[name] = value
        return f":{name}"


def _terms(item: FilterItem, names: _Names) -> list[str]:
    """Return queries for positions whose union is what the item matches, each in index order."""
    if not item.tags:
        return [
            f"SELECT position FROM events WHERE type = {names.of(kind)} "
            "AND position > :low AND position <= :high"
            for kind in dict.fromkeys(item.types)
        ]
    first, *others = dict.fromkeys(item.tags)
    joins = "".join(
        f" CROSS JOIN event_tags AS t{n} ON t{n}.tag = {names.of(tag)} "
        f"AND t{n}.position = t.position"
        for n, tag in enumerate(others)
    )
    if item.types:
        kinds = ", ".join(names.of(kind) for kind in dict.fromkeys(item.types))
        joins += f" CROSS JOIN events AS e ON e.position = t.position AND e.type IN ({kinds})"
    tagged = f"t.tag = {names.of(first)} AND t.position > :low AND t.position <= :high"
    return [f"SELECT t.position AS position FROM event_tags AS t{joins} WHERE {tagged}"]


def _test(item: FilterItem, names: _Names) -> str:
    """Return an expression over one row of events, for filters with too many terms to merge."""
    tests = [
        f"EXISTS (SELECT 1 FROM event_tags AS t WHERE t.tag = {names.of(tag)} "
        "AND t.position = events.position)"
        for tag in item.tags
    ]
    if item.types:
        # The plus keeps the index on types out: the range of positions is the better one.
        tests.append(f"+type IN ({', '.join(names.of(kind) for kind in item.types)})")
    return " AND ".join(tests)
