"""Queries for filters use the indexes, in order, without sorting or scanning the log."""

import apsw
import pytest

from headwater._sql.resources import script
from headwater.eventstore import EVERYTHING, EventFilter, FilterItem
from headwater.eventstore.sqlite_filter import find_tagged, select_events

BOUNDS = {"low": 0, "high": 10, "limit": 5}


@pytest.fixture
def connection() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(script("headwater.eventstore", "sqlite_schema_1.sql"))
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
        (EventFilter((FilterItem((), ("x", "y")),)), "PRIMARY KEY (tag=? AND position"),
        (EventFilter((FilterItem(("A",), ("x",)), FilterItem(("B",)))), "events_by_type"),
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


def test_condition_selects_by_tag(connection: apsw.Connection) -> None:
    """A condition looks into the index on tags first, then at the types of what it found."""
    plan = plan_of(connection, find_tagged(FilterItem(("A",), ("x", "y"))))
    searches = [step for step in plan if step.startswith("SEARCH")]
    assert "tag=? AND position>?" in searches[0]
    assert not [step for step in plan if step.startswith("SCAN events")]
