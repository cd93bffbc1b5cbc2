"""Filters as SQL: what an item asks for comes from indexes alone, and costs as its rarest part.

An item with several tags, or tags and types, is an intersection of indexes. Of its first tag some
events are looked at one by one, which is fastest while many of them match. From there on the
search leaps: each tag in turn, and the types, name their first position from the last one named
on, and where a whole round names the same position all of them agree. A round moves on past an
event of each, so there are no more rounds than events of the rarest (and one more for each match).
"""
# ruff: noqa: S608  # texts are made of constants and parameter names; values are bound

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import apsw

from headwater.eventstore.api import EventFilter, FilterItem
from headwater.eventstore.checks import grouped

_TERMS_MAX = 64
_POSITION_MAX = 2**63 - 1
_NEAR_PAGE, _NEAR_ONE = 4096, 64  # events looked at one by one: for a page, for one position
TOO_MANY = -1
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
    terms = [term for item in filter.items for term in _terms(item, names, backwards=backwards)]
    if len(terms) > _TERMS_MAX:
        names = _Names()
        wanted = _any_of([f"({_test(*group, names)})" for group in grouped(filter.items)])
        return f"{whole} AND ({wanted}) {end}", names.values
    # Each term comes in order of its index, and a compound with ORDER BY merges them lazily; of
    # those that leap, there are no more than the limit to be sorted.
    found = " UNION ".join(terms)
    chosen = f"SELECT position FROM ({found} ORDER BY position {order} LIMIT :limit)"
    joined = f"({chosen}) CROSS JOIN events USING (position)"
    return f"SELECT {COLUMNS} FROM {joined} ORDER BY position {order}", names.values


class Finding(NamedTuple):
    """Queries for the first position of a range that an item with tags matches.

    The caller adds ``:low`` (exclusive) and ``:high`` (inclusive) to the parameters, and asks
    ``near`` first, which gives nothing, a position, or `TOO_MANY`: then ``far`` is to be asked.
    In one statement SQLite would prepare for leaping whether it is needed or not, which takes
    longer than to look at some events.
    """

    near: str
    far: str
    parameters: dict[str, str]

    def run(self, connection: apsw.Connection, *, low: int, high: int) -> int | None:
        """Return the position, if any."""
        parameters = {"low": low, "high": high, **self.parameters}
        found: int | None = connection.execute(self.near, parameters).get
        if found == TOO_MANY:
            found = connection.execute(self.far, parameters).get
        return found


def find_tagged(item: FilterItem) -> Finding:
    """Return what finds the first event of an item with tags.

    Conditions differ by what they name; the queries are made once for so many tags and types.
    """
    tags, types = tuple(dict.fromkeys(item.tags)), tuple(dict.fromkeys(item.types))
    near, far, places = _finding(len(tags), len(types))
    named = tags + types
    return Finding(near, far, {name: named[int(place)] for name, place in places.items()})


@lru_cache(maxsize=512)
def _finding(tags: int, types: int) -> Finding:
    """Return the queries for so many tags and types, with their numbers as parameters."""
    numbers = tuple(map(str, range(tags + types)))
    item = FilterItem(types=numbers[tags:], tags=numbers[:tags])
    names = _Names()
    tagged = f"t.tag = {names.of(item.tags[0])} AND t.position > :low AND t.position <= :high"
    last = f"SELECT position FROM event_tags AS t WHERE {tagged} LIMIT 1 OFFSET {_NEAR_ONE - 1}"
    one_by_one = f"SELECT min(t.position) FROM event_tags AS t{_joins(item, names)} WHERE {tagged}"
    near = f"SELECT CASE WHEN ({last}) IS NULL THEN ({one_by_one}) ELSE {TOO_MANY} END"
    far = f"{_leap(item, names, ':low + 1', backwards=False)} LIMIT 1"
    return Finding(near, far, names.values)


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


def _terms(item: FilterItem, names: _Names, *, backwards: bool) -> list[str]:
    """Return queries for positions whose union is what the item matches, each in reading order."""
    within = "AND position > :low AND position <= :high"
    if not item.tags:
        return [
            f"SELECT position FROM events WHERE type = {names.of(kind)} {within}"
            for kind in dict.fromkeys(item.types)
        ]
    if len(set(item.tags)) == 1 and not item.types:
        tag = names.of(item.tags[0])
        return [f"SELECT position FROM event_tags WHERE tag = {tag} {within}"]
    common = _common(item, names, near=_NEAR_PAGE, limit=":limit", backwards=backwards)
    return [f"SELECT position FROM ({common})"]


def _common(
    item: FilterItem, names: _Names, *, near: int, limit: str, backwards: bool = False
) -> str:
    """Return a query for the positions that all tags, and one of the types, have in common."""
    order = "DESC" if backwards else "ASC"
    of_first = (
        f"SELECT position FROM event_tags WHERE tag = {names.of(item.tags[0])} "
        f"AND position > :low AND position <= :high ORDER BY position {order}"
    )
    near_ones = f"{of_first} LIMIT {near}"
    one_by_one = f"SELECT t.position AS position FROM ({near_ones}) AS t{_joins(item, names)}"
    seen = f"({of_first} LIMIT 1 OFFSET {near - 1})"  # the last of them, if there are as many
    begin = f"ifnull({seen} - 1, :low)" if backwards else f"ifnull({seen}, :high) + 1"
    leaping = _leap(item, names, begin, backwards=backwards)
    return (
        f"SELECT position FROM ({one_by_one} LIMIT {limit}) "
        f"UNION ALL SELECT position FROM ({leaping} LIMIT {limit}) LIMIT {limit}"
    )


def _joins(item: FilterItem, names: _Names) -> str:
    """Return joins that leave those rows of ``t`` that have the other tags and one of the types."""
    _, *others = dict.fromkeys(item.tags)
    joins = "".join(
        f" CROSS JOIN event_tags AS t{n} ON t{n}.tag = {names.of(tag)} "
        f"AND t{n}.position = t.position"
        for n, tag in enumerate(others)
    )
    if item.types:
        kinds = ", ".join(names.of(kind) for kind in dict.fromkeys(item.types))
        joins += f" CROSS JOIN events AS e ON e.position = t.position AND e.type IN ({kinds})"
    return joins


def _leap(item: FilterItem, names: _Names, begin: str, *, backwards: bool) -> str:
    """Return a query for those positions from one on, found by leaping.

    Each row of ``leap`` is a round: where the one before ended, and this one. Equal means that
    all agree; the next round then begins one further.
    """
    nearest, ahead, step = ("max", "<=", "-") if backwards else ("min", ">=", "+")
    going_on = "> :low" if backwards else "<= :high"

    def first(where: str, start: str) -> str:
        return f"(SELECT {nearest}(position) FROM {where} AND position {ahead} {start})"

    end = f"leap.position {step} (leap.position = leap.before)"
    kinds = [
        first(f"events WHERE type = {names.of(kind)}", end) for kind in dict.fromkeys(item.types)
    ]
    if len(kinds) > 1:
        nothing = "0" if backwards else str(_POSITION_MAX)
        end = f"{nearest}({', '.join(f'ifnull({kind}, {nothing})' for kind in kinds)})"
    elif kinds:
        (end,) = kinds
    for tag in dict.fromkeys(item.tags):
        end = first(f"event_tags WHERE tag = {names.of(tag)}", end)
    return (
        f"WITH RECURSIVE leap (before, position) AS (VALUES (-1, {begin}) UNION ALL "
        f"SELECT position, {end} FROM leap WHERE position {going_on}) "
        "SELECT position FROM leap WHERE position = before"
    )


def _any_of(tests: list[str]) -> str:
    """Return the disjunction of tests as a balanced tree, because SQLite limits its depth."""
    if len(tests) == 1:
        return tests[0]
    half = len(tests) // 2
    return f"({_any_of(tests[:half])} OR {_any_of(tests[half:])})"


def _test(types: Sequence[str], tags: Sequence[Sequence[str]], names: _Names) -> str:
    """Return an expression over one row of events, for filters with too many terms to merge."""
    tests = [
        f"EXISTS (SELECT 1 FROM event_tags AS t WHERE t.tag IN ({', '.join(map(names.of, one_of))})"
        " AND t.position = events.position)"
        for one_of in tags
    ]
    if types:
        # The plus keeps the index on types out: the range of positions is the better one.
        tests.append(f"+type IN ({', '.join(map(names.of, types))})")
    return " AND ".join(tests)
