"""Queries for filters use the indexes, in order, without sorting or scanning the log."""

import random
from typing import Any

import apsw
import pytest

from headwater._sql.resources import script
from headwater.eventstore import EVERYTHING, EventFilter, FilterItem
from headwater.eventstore.sqlite.filter import _common, _Names, find_tagged, select_events

BOUNDS = {"low": 0, "high": 10, "limit": 5}


@pytest.fixture
def connection() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(script("headwater.eventstore.sqlite", "schema_1.sql"))
    return connection


def plan_of(connection: apsw.Connection, query: tuple[str, dict[str, str]]) -> list[str]:
    sql, parameters = query
    bounds = {name: value for name, value in BOUNDS.items() if f":{name}" in sql}
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", {**bounds, **parameters})
    return [row[3] for row in rows]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("filter", "index"),
    [
        (EVERYTHING, "events USING INTEGER PRIMARY KEY"),
        (EventFilter((FilterItem(("A",)),)), "events_by_type"),
        (EventFilter((FilterItem(("A", "B", "C")),)), "events_by_type"),
        (EventFilter((FilterItem((), ("x",)),)), "PRIMARY KEY (tag=? AND position"),
        (EventFilter((FilterItem((), ("x",)), FilterItem(("B",)))), "events_by_type"),
    ],
)
def test_plans(
    connection: apsw.Connection, filter: EventFilter, index: str, *, backwards: bool
) -> None:
    """Each term of a filter comes from its index in reading order; nothing else is looked at."""
    plan = plan_of(connection, select_events(filter, backwards=backwards))
    assert any(index in step for step in plan)
    assert not [step for step in plan if step.startswith("SCAN events") or "TEMP B-TREE" in step]


def test_filter_of_many_types(connection: apsw.Connection) -> None:
    """A filter with too many terms to merge goes over the range of positions once."""
    many = EventFilter(tuple(FilterItem((f"T{n}",), ("x",)) for n in range(500)))
    plan = plan_of(connection, select_events(many))
    assert any("events USING INTEGER PRIMARY KEY" in step for step in plan)
    assert not [step for step in plan if "TEMP B-TREE" in step]


COMMON, RARE = 60_000, 20


@pytest.fixture
def filled(connection: apsw.Connection) -> apsw.Connection:
    """Give a store of many events with one tag, some of them of a rarer type and with more tags."""
    events: list[tuple[int, int, str]] = []
    tagged: list[tuple[str, int]] = []
    for position in range(1, COMMON + 1):
        rare = position % (COMMON // RARE) == 0
        kind = "Rare" if rare else "Common"
        events.append((position, position, kind))
        tags = ["common"] + ["rare"] * rare + ["first" if position <= COMMON // 2 else "second"]
        tagged.extend((tag, position) for tag in tags)
    with connection:
        connection.executemany(
            "INSERT INTO events VALUES (?, 's', ?, ?, 1, 0, '', x'', x'')", events
        )
        connection.executemany("INSERT INTO event_tags VALUES (?, ?)", tagged)
    return connection


def steps_of(
    connection: apsw.Connection, query: tuple[str, dict[str, str]]
) -> tuple[list[Any], int]:
    """Return the rows of a query over the whole log, and the steps of SQLite's machine for it."""
    sql, parameters = query
    bounds = {"low": 0, "high": COMMON, "limit": COMMON}
    statuses: list[int] = []

    def note(event: dict[str, Any]) -> None:
        statuses.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])

    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, note)
    used = {name: value for name, value in bounds.items() if f":{name}" in sql}
    rows = connection.execute(sql, {**used, **parameters}).fetchall()
    connection.trace_v2(0)
    return rows, sum(statuses)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("item", "matching"),
    [
        (FilterItem((), ("common", "rare")), RARE),
        (FilterItem((), ("rare", "common")), RARE),
        (FilterItem(("Rare",), ("common",)), RARE),
        (FilterItem(("Absent", "Rare"), ("first", "common")), RARE // 2),
        (FilterItem((), ("first", "second")), 0),
        (FilterItem((), ("common", "absent")), 0),
        (FilterItem(("Absent",), ("common",)), 0),
    ],
)
def test_rarest_part_sets_the_cost(
    filled: apsw.Connection, item: FilterItem, matching: int, *, backwards: bool
) -> None:
    """What several tags, or tags and types, have in common is found without their other events."""
    rows, steps = steps_of(filled, select_events(EventFilter((item,)), backwards=backwards))
    assert len(rows) == matching
    assert [row[0] for row in rows] == sorted([row[0] for row in rows], reverse=backwards)
    assert steps < 3 * COMMON  # of which looking at all of them takes several each
    finding = find_tagged(item)
    found = finding.run(filled, low=0, high=COMMON)
    assert found == (min(row[0] for row in rows) if rows else None)
    for query in (finding.near, finding.far):
        assert steps_of(filled, (query, finding.parameters))[1] < COMMON / 20


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("near", [1, 7, 4096])
def test_where_leaping_begins_does_not_show(
    connection: apsw.Connection, near: int, *, backwards: bool
) -> None:
    """What is found one by one and what is found by leaping are one answer, in order, cut alike."""
    chance = random.Random(near)
    log: list[tuple[str, set[str]]] = []
    for position in range(1, 120):
        kind, tags = chance.choice("ABC"), {tag for tag in "xyz" if chance.random() < 0.5}
        log.append((kind, tags))
        row = (position, position, kind)
        connection.execute("INSERT INTO events VALUES (?, 's', ?, ?, 1, 0, '', x'', x'')", row)
        rows = [(tag, position) for tag in tags]
        connection.executemany("INSERT INTO event_tags VALUES (?, ?)", rows)
    for _ in range(100):
        types = tuple(chance.sample("ABCD", chance.randint(0, 3)))
        item = FilterItem(types, tuple(chance.sample("xyz", chance.randint(1, 3))))
        low, high, limit = (
            chance.randint(0, 60),
            chance.randint(50, 130),
            chance.choice((1, 5, 500)),
        )
        matching = [
            number
            for number, (kind, tags) in enumerate(log, start=1)
            if low < number <= high and (not types or kind in types) and tags.issuperset(item.tags)
        ]
        names = _Names()
        sql = _common(item, names, near=near, limit=":limit", backwards=backwards)
        values = {"low": low, "high": high, "limit": limit, **names.values}
        found = [row[0] for row in connection.execute(sql, values)]
        assert found == (matching[::-1] if backwards else matching)[:limit]
