"""Filters as SQL: by tag first, because tags are selective and types are not."""
# ruff: noqa: S608  # texts are made of constants and parameter numbers; values are bound

from functools import lru_cache

from headwater.eventstore.api import EventFilter, FilterItem
from headwater.eventstore.postgres_names import to_text

_TERMS_MAX = 64
_BOUNDS = 3  # $1: low (exclusive), $2: high (inclusive), $3: limit
COLUMNS = "position, stream, version, type, type_version, time, tags, data, metadata"


@lru_cache(maxsize=512)
def select_events(filter: EventFilter, *, backwards: bool = False) -> tuple[str, tuple[str, ...]]:
    """Return a query for the events of a filter in reading order, and its parameters from $4.

    A filter of many items falls back to looking at every event of the range.
    """
    order = "DESC" if backwards else "ASC"
    if not filter.items or FilterItem() in filter.items:
        return _whole("", order), ()
    names = _Names()
    terms = [term for item in filter.items for term in _terms(item, names)]
    if len(terms) > _TERMS_MAX:
        names = _Names()
        wanted = " OR ".join(f"({_test(item, names)})" for item in filter.items)
        return _whole(f"AND ({wanted})", order), names.values
    end = f"ORDER BY position {order} LIMIT $3"
    found = " UNION ".join(f"({term} {end})" for term in terms)
    # Materialized: the positions come from narrow indexes, before any event is looked at.
    return (
        f"WITH chosen AS MATERIALIZED (SELECT position FROM ({found}) AS found {end}) "
        f"SELECT {COLUMNS} FROM chosen JOIN events USING (position) ORDER BY position {order}"
    ), names.values


def _whole(condition: str, order: str) -> str:
    return (
        f"SELECT {COLUMNS} FROM events AS t WHERE position > $1 AND position <= $2 {condition} "
        f"ORDER BY position {order} LIMIT $3"
    )


class _Names:
    """Hands out parameter numbers, one per distinct value."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self._known)

    def of(self, value: str) -> str:
        text = to_text(value)
        if text not in self._known:
            self._known[text] = f"${_BOUNDS + 1 + len(self._known)}::text"
        return self._known[text]


def _terms(item: FilterItem, names: _Names) -> list[str]:
    """Return queries for positions whose union is what the item matches."""
    if not item.tags:
        return [
            f"SELECT position FROM events WHERE type = {names.of(kind)} "
            "AND position > $1 AND position <= $2"
            for kind in dict.fromkeys(item.types)
        ]
    first, *others = dict.fromkeys(item.tags)
    tests = "".join(f" AND {test}" for test in _tests(others, item.types, names))
    tagged = f"tag = {names.of(first)} AND position > $1 AND position <= $2"
    return [f"SELECT position FROM event_tags AS t WHERE {tagged}{tests}"]


def _tests(tags: list[str], types: tuple[str, ...], names: _Names) -> list[str]:
    """Return expressions over the position of ``t``; looked up one by one, not joined."""
    tests = [
        f"(SELECT true FROM event_tags AS x WHERE x.tag = {names.of(tag)} "
        "AND x.position = t.position)"
        for tag in tags
    ]
    if types:
        kinds = ", ".join(names.of(kind) for kind in dict.fromkeys(types))
        tests.append(f"(SELECT type FROM events AS e WHERE e.position = t.position) IN ({kinds})")
    return tests


def _test(item: FilterItem, names: _Names) -> str:
    """Return an expression over one row of events, for filters with too many terms."""
    return " AND ".join(_tests(list(item.tags), item.types, names))
