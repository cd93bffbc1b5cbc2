"""Filters as SQL: what an item asks for comes from indexes alone, and costs as its rarest part.

An item with several tags, or tags and types, is an intersection of indexes: see the function
``matching_positions``.
"""
# ruff: noqa: S608  # texts are made of constants and parameter numbers; values are bound

from collections.abc import Sequence
from functools import lru_cache

from headwater.eventstore.api import EventFilter, FilterItem
from headwater.eventstore.checks import grouped
from headwater.eventstore.postgres.names import to_text

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
    terms = [term for item in filter.items for term in _terms(item, names, backwards=backwards)]
    if len(terms) > _TERMS_MAX:
        names = _Names()
        wanted = " OR ".join(f"({_test(*group, names)})" for group in grouped(filter.items))
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


def _terms(item: FilterItem, names: _Names, *, backwards: bool) -> list[str]:
    """Return queries for positions whose union is what the item matches."""
    within = "AND position > $1 AND position <= $2"
    kinds = [names.of(kind) for kind in dict.fromkeys(item.types)]
    tags = [names.of(tag) for tag in dict.fromkeys(item.tags)]
    if not tags:
        return [f"SELECT position FROM events WHERE type = {kind} {within}" for kind in kinds]
    if len(tags) == 1 and not kinds:
        return [f"SELECT position FROM event_tags WHERE tag = {tags[0]} {within}"]
    types = f"ARRAY[{', '.join(kinds)}]" if kinds else "NULL"
    arguments = f"ARRAY[{', '.join(tags)}], {types}, $1, $2, $3, {backwards}"
    return [f"SELECT position FROM matching_positions({arguments}) AS f (position)"]


def _test(types: Sequence[str], tags: Sequence[Sequence[str]], names: _Names) -> str:
    """Return an expression over one row of events, for filters with too many terms."""
    tests = [
        f"(SELECT true FROM event_tags AS x WHERE x.tag IN ({', '.join(map(names.of, one_of))}) "
        "AND x.position = t.position LIMIT 1)"
        for one_of in tags
    ]
    if types:
        kinds = ", ".join(map(names.of, dict.fromkeys(types)))
        # Looked up by position, which keeps the index on types out: the range is the better one.
        tests.append(f"(SELECT type FROM events AS e WHERE e.position = t.position) IN ({kinds})")
    return " AND ".join(tests)
