"""Verdicts on changed events: each is compared with what decoding does, both ways."""

import datetime as dt
import decimal
import enum
import types
import uuid
from typing import Annotated, Any, Literal

import msgspec
import pytest

from headwater.errors import EventUnreadable
from headwater.messages import Event, Upcast, message_type, upcaster, wire
from headwater.messages.codec import EventCodec
from headwater.operations.event_schemas import event_schemas
from headwater.operations.made_up import documents
from headwater.operations.schemas import Change, ReleasedEvent, compare_events


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Wider(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Circle(msgspec.Struct, tag="circle"):
    radius: int


class Square(msgspec.Struct, tag="square"):
    side: int


class Inner(msgspec.Struct):
    n: int


class InnerMore(msgspec.Struct):
    n: int
    m: int = 0


class InnerNeeds(msgspec.Struct):
    n: int
    m: int


class Tree(msgspec.Struct):
    name: str
    children: list["Tree"] = []


def event(*fields: Any, version: int = 1, name: str = "Changed", **options: Any) -> type[Event]:
    """Return a class of events with these fields."""
    space: dict[str, Any] = {"__annotations__": {each[0]: each[1] for each in fields}}
    space |= {each[0]: each[2] for each in fields if len(each) > 2}
    made = types.new_class(name, (Event,), options, lambda body: body.update(space))
    return wire(name, version=version)(made)


def released(*classes: type[Event]) -> dict[str, ReleasedEvent]:
    """Return the release of the versions of one event."""
    kinds = [message_type(each) for each in classes]
    versions = {}
    for kind in kinds:
        [schema], components = event_schemas([kind.cls], template="#/$defs/{name}")
        versions[str(kind.version)] = {**schema, "$defs": components}
    return {kinds[-1].name: ReleasedEvent(kinds[-1].version, versions)}


def verdict(old: type[Event], *new: type[Event]) -> Change:
    [change] = [c for c in compare_events(new, released(old)) if c.changes != ("new",)]
    return change


def reads(reader: type[Event], writer: type[Event]) -> bool:
    """Whether a class really reads all that is made up of another one's schema."""
    codec, kind = EventCodec([reader]), message_type(writer)
    [was] = released(writer).values()
    for document in documents(was.versions[str(kind.version)]):
        try:
            codec.decode(kind.name, kind.version, msgspec.json.encode(document))
        except EventUnreadable:
            return False
    return True


A = ("a", int)
TEXT = ("text", str)
SHORT, LONG = Annotated[str, msgspec.Meta(max_length=3)], Annotated[str, msgspec.Meta(max_length=9)]
TABLE: dict[str, tuple[list[Any], list[Any], str]] = {
    "nothing": ([A], [A], "full"),
    "added optional": ([A], [A, ("b", int, 0)], "full"),
    "added required": ([A], [A, TEXT], "forward"),
    "removed required": ([A, TEXT], [A], "backward"),
    "removed optional": ([A, ("b", int, 0)], [A], "full"),
    "renamed": ([A, TEXT], [A, ("label", str)], "broken"),
    "type changed": ([A], [("a", str)], "broken"),
    "integer to number": ([A], [("a", float)], "backward"),
    "number to integer": ([("a", float)], [A], "forward"),
    "nullable": ([A], [("a", int | None)], "backward"),
    "not nullable": ([("a", int | None)], [A], "forward"),
    "either": ([A], [("a", int | str)], "backward"),
    "default given": ([A], [("a", int, 0)], "backward"),
    "default taken": ([("a", int, 0)], [A], "forward"),
    "enum widened": ([("a", Colour)], [("a", Wider)], "backward"),
    "enum narrowed": ([("a", Wider)], [("a", Colour)], "forward"),
    "enum to text": ([("a", Colour)], [("a", str)], "backward"),
    "literal widened": ([("a", Literal["x"])], [("a", Literal["x", "y"])], "backward"),
    "literal number": ([("a", Literal[1])], [A], "backward"),
    "text to time": ([("a", str)], [("a", dt.datetime)], "forward"),
    "time to text": ([("a", dt.datetime)], [("a", str)], "backward"),
    "times in a list": ([("a", list[str])], [("a", list[dt.datetime])], "forward"),
    "text to date": ([("a", str)], [("a", dt.date)], "forward"),
    "text to uuid": ([("a", str)], [("a", uuid.UUID)], "forward"),
    "decimal to text": ([("a", decimal.Decimal)], [("a", str)], "backward"),
    "longer": ([("a", SHORT)], [("a", LONG)], "backward"),
    "list of": ([("a", list[int])], [("a", list[str])], "broken"),
    "list to set": ([("a", list[int])], [("a", set[int])], "full"),
    "list to tuple": ([("a", list[int])], [("a", tuple[int, int])], "forward"),
    "one to list": ([A], [("a", list[int])], "broken"),
    "mapping of": ([("a", dict[str, int])], [("a", dict[str, float])], "backward"),
    "anything": ([A], [("a", Any)], "backward"),
    "member added": ([("a", Circle)], [("a", Circle | Square)], "backward"),
    "member removed": ([("a", Circle | Square)], [("a", Circle)], "forward"),
    "inside optional": ([("a", Inner)], [("a", InnerMore)], "full"),
    "inside required": ([("a", Inner)], [("a", InnerNeeds)], "forward"),
    "inside a list": ([("a", list[Inner])], [("a", list[InnerNeeds])], "forward"),
    "within itself": ([("a", Tree)], [("a", Tree), ("b", int, 1)], "full"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_verdict_is_what_decoding_does(name: str) -> None:
    """The verdict on a change says what each program makes of the other one's documents."""
    before, after, expected = TABLE[name]
    old, new = event(*before), event(*after)
    change = verdict(old, new)
    assert change.verdict == expected
    assert (change.verdict in ("full", "backward")) == reads(new, old)
    assert (change.verdict in ("full", "forward")) == reads(old, new)
    assert bool(change.reasons) == (expected != "full")


def test_what_forbids_others() -> None:
    """A class that forbids unknown fields reads nothing that has one more."""
    old, new = event(A, forbid_unknown_fields=True), event(A, ("b", int, 0))
    assert verdict(old, new).verdict == "backward"
    assert not reads(old, new)
    assert verdict(new, old).verdict == "forward"


def test_arrays() -> None:
    """A class that is stored as an array is compared place by place."""
    old = event(A, TEXT, array_like=True)
    for fields in ([A, TEXT, ("c", int, 0)], [A, ("c", int, 0)], [A], [TEXT, A]):
        new = event(*fields, array_like=True)
        change = verdict(old, new)
        assert (change.verdict in ("full", "backward")) == reads(new, old), fields
        assert (change.verdict in ("full", "forward")) == reads(old, new), fields
    assert verdict(event(A), event(A, array_like=True)).verdict == "broken"


def test_changes_are_told() -> None:
    """Each change is told with its place, and each reason says whom it concerns."""
    old = event(A, TEXT, ("inner", Inner))
    change = verdict(old, event(("a", str), ("inner", InnerNeeds), ("c", int, 0)))
    assert change.changes == (
        "a: integer → string",
        "text: removed",
        "inner.m: added, required, integer",
        "c: added, optional, integer",
    )
    assert change.reasons == (
        "what was stored: a: takes string, gets integer",
        "what was stored: inner.m: needed, and not always there",
        "a reader that was released: text: needed, and not always there",
        "a reader that was released: a: takes integer, gets string",
    )


def test_a_version_with_an_upcaster_is_backward() -> None:
    """What was stored is lifted; a released program parks what is of a later version."""
    old, new = event(A), event(TEXT, version=2)
    upcaster(new, from_version=1)(lambda content: {"text": str(content["a"])})
    change = verdict(old, new)
    assert (change.verdict, change.doubts) == ("backward", ())
    assert reads(new, old)
    assert not reads(old, new)
    assert change.changes[0] == "version 1 → 2"


def test_an_upcaster_that_makes_something_else_is_broken() -> None:
    """The upcasters are carried out: what they make must fit the class."""
    old, new = event(A), event(TEXT, version=2)
    upcaster(new, from_version=1)(lambda content: {"text": content["a"]})
    change = verdict(old, new)
    assert change.verdict == "broken"
    assert "Expected `str`, got `int`" in change.reasons[0]


def test_a_version_without_an_upcaster_is_broken() -> None:
    """What was stored at the version before cannot be read."""
    change = verdict(event(A), event(A, version=2))
    assert change.verdict == "broken"
    assert "add @upcaster(Changed, from_version=1)" in change.reasons[0]


def test_an_upcaster_that_takes_no_made_up_content_leaves_a_doubt() -> None:
    """It is believed, and it is told that it could not be tried."""
    old, new = event(TEXT), event(A, version=2)
    upcaster(new, from_version=1)(lambda content: {"a": int(content["text"])})
    change = verdict(old, new)
    assert change.verdict == "backward"
    assert "its upcaster from version 1 raised ValueError" in change.doubts[0]


def test_older_versions_count() -> None:
    """What was stored before the last release is read, too."""
    first, second, third = event(A), event(TEXT, version=2), event(("c", str), version=3)
    upcaster(third, from_version=1)(lambda content: {"text": content["a"]})  # a number
    upcaster(third, from_version=2)(lambda content: {"c": content["text"]})
    [change] = compare_events([third], released(second))
    assert change.verdict == "backward"
    [change] = compare_events([third], released(first, second))
    assert change.verdict == "broken"
    assert "of version 1" in change.reasons[0]


def test_other_names() -> None:
    """Who keeps the old name as an alias reads what was stored; without it that is broken."""
    old, new = event(A, name="Old"), event(A, name="New")
    assert {c.event: c.verdict for c in compare_events([new], released(old))} == {
        "Old": "broken",
        "New": "full",
    }
    wire("New", aliases=["Old"])(new)
    assert verdict(old, new).verdict == "backward"
    assert verdict(event(A), event(A)).verdict == "full"


def test_an_event_that_has_become_others() -> None:
    """An event that no program stores any more is read as what it has become."""
    old, other = event(A, name="Whole"), event(A, name="Half")
    gone = event(name="Whole", version=2)
    upcaster(gone, from_version=1, into=[other])(
        lambda content: [Upcast(other, 1, {"a": content["a"]})] * 2
    )
    assert verdict(old, other).verdict == "backward"


def test_a_lower_version_is_broken() -> None:
    """A program of an older version does not read what was released."""
    assert verdict(event(A, version=2), event(A)).verdict == "broken"


KINDS: dict[str, tuple[Any, list[Any]]] = {
    "int": (int, [0, -5, 2**40]),
    "natural": (Annotated[int, msgspec.Meta(ge=0)], [0, 3]),
    "str": (str, ["", "x", "3"]),
    "float": (float, [1.5, 2.0]),
    "bool": (bool, [True]),
    "datetime": (dt.datetime, [dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]),
    "date": (dt.date, [dt.date(2020, 1, 1)]),
    "time": (dt.time, [dt.time(1)]),
    "duration": (dt.timedelta, [dt.timedelta(1)]),
    "uuid": (uuid.UUID, [uuid.UUID(int=1)]),
    "decimal": (decimal.Decimal, [decimal.Decimal("1.5")]),
    "bytes": (bytes, [b"ab", b""]),
    "enum": (Colour, list(Colour)),
    "int enum": (Level, list(Level)),
    "literal": (Literal["a", "b", "c"], ["a", "c"]),
    "list": (list[int], [[1], []]),
    "list of texts": (list[str], [["x"], []]),
    "set": (set[int], [{1}]),
    "pair": (tuple[int, int], [(1, 2)]),
    "tuple": (tuple[int, ...], [(1, 2, 3), ()]),
    "mapping": (dict[str, int], [{"x": 1}]),
    "mapping by number": (dict[int, int], [{1: 1}]),
    "mapping by date": (dict[dt.date, int], [{dt.date(2020, 1, 1): 1}]),
    "mapping by enum": (dict[Colour, int], [{Colour.RED: 1}]),
    "nullable": (int | None, [None, 1]),
    "either": (int | str, [1, "x"]),
    "any": (Any, [1, "x", None]),
}


@pytest.mark.parametrize("before", KINDS)
def test_what_is_said_to_be_read_is(before: str) -> None:
    """Of each two types: contents that one writes are read by the other, if that is said."""
    old_kind, old_values = KINDS[before]
    for after, (new_kind, new_values) in KINDS.items():
        old, new = event(("a", old_kind)), event(("a", new_kind))
        found = verdict(old, new).verdict
        if found in {"full", "backward"}:
            assert all(_is_read(old, value, new) for value in old_values), f"{before} by {after}"
        if found in {"full", "forward"}:
            assert all(_is_read(new, value, old) for value in new_values), f"{after} by {before}"


def _is_read(writer: type[Event], value: Any, reader: type[Event]) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(writer(value)), type=reader)
    except msgspec.ValidationError:
        return False
    return True
