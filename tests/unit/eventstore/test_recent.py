"""The last events that a store has stored itself."""

from headwater.eventstore import Appended, NewEvent, StreamWrite
from headwater.eventstore.recent import Recent


def add(recent: Recent, first: int, count: int = 1, size: int = 2) -> None:
    """Let events of a stream be stored."""
    events = [NewEvent("T", 1, b"x" * size, b"") for _ in range(count)]
    last = first + count - 1
    recent.add([StreamWrite("s", events)], Appended(first, last, 7, ("s",), (last,)))


def positions(recent: Recent, after: int, limit: int = 9) -> list[int]:
    """Return which events follow."""
    return [event.position for event in recent.after(after, limit)]


def test_a_row_is_known_from_any_place_in_it() -> None:
    """Who lacks an event before it, or has all of it, gets nothing."""
    recent = Recent()
    assert positions(recent, 0) == []
    add(recent, 4, 3)
    add(recent, 7)
    assert [positions(recent, n) for n in (2, 3, 5, 6, 7, 8)] == [
        [], [4, 5, 6, 7], [6, 7], [7], [], []
    ]  # fmt: skip
    assert positions(recent, 3, limit=2) == [4, 5]


def test_a_gap_begins_a_new_row() -> None:
    """What others stored in between is read, so what was before it is not given."""
    recent = Recent()
    add(recent, 1, 2)
    add(recent, 4)
    assert positions(recent, 0) == []
    assert positions(recent, 2) == []
    assert positions(recent, 3) == [4]


def test_it_is_bounded() -> None:
    """By number and by size; even one event that is too large is not kept."""
    recent = Recent()
    add(recent, 1, 1500)
    assert positions(recent, 499, limit=1) == []
    assert positions(recent, 500, limit=1) == [501]
    add(recent, 1501, 3, size=2 << 20)
    assert positions(recent, 1500) == []
    assert positions(recent, 1501) == [1502, 1503]
    add(recent, 1504, size=5 << 20)
    assert positions(recent, 1503) == []
    add(recent, 1505)
    assert positions(recent, 1504) == [1505]
