"""Where the mark of a tag may stand, and which tags it gives."""

import dataclasses
import datetime as dt
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)

import msgspec
import pytest
from typing_extensions import TypeAliasType

from headwater.errors import DeclarationError, InvalidInput, Unstorable
from headwater.eventstore import NewEvent
from headwater.messages import (
    Command,
    Event,
    Tag,
    Target,
    canonical_text,
    message_type,
    new_metadata,
)
from headwater.messages.hints import marks_on
from tests.unit.messages.test_canonical_text import Colour, Level

T = TypeVar("T")
Email = NewType("Email", str)
Seat = Annotated[str, Tag("seat")]


class Line(msgspec.Struct):
    sku: Annotated[str, Tag("sku")]
    amount: int = 1


class Cat(msgspec.Struct, tag=True):
    paw: Annotated[str, Tag("paw")]


class Dog(msgspec.Struct, tag=True):
    tail: Annotated[int, Tag("tail")]


class Node(msgspec.Struct):
    name: Annotated[str, Tag("node")]
    inner: "list[Node]" = []


class Bare(msgspec.Struct):
    name: str
    inner: "list[Bare]" = []


class Box(msgspec.Struct, Generic[T]):
    item: T
    label: Annotated[T | None, Tag("label")] = None


class IntBox(Box[int]):
    pass


@dataclasses.dataclass
class Data:
    key: Annotated[str, Tag("data")]


class Pair(NamedTuple):
    left: Annotated[str, Tag("left")]
    right: int


class Maybe(TypedDict):
    this: Annotated[str, Tag("this")]
    that: NotRequired[Annotated[str, Tag("that")]]


def tags(hint: Any, *values: Any) -> list[tuple[str, ...]]:
    """Return the tags that an event has for values of its one field, ``it``."""
    cls: Any = type(Event)("Happened", (Event,), {"__annotations__": {"it": hint}})
    return [message_type(cls).tags_of(cls(value)) for value in values]


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (Annotated[str, Tag("email")] | None, "a@b", "email:a@b"),
        (Annotated[str | None, Tag("email")], "a@b", "email:a@b"),
        (Optional[Annotated[str, Tag("email")]], "a@b", "email:a@b"),  # noqa: UP045 - older code
        (Annotated[str, Tag("email")] | msgspec.UnsetType, "a@b", "email:a@b"),
        (Annotated[Annotated[str, Tag("in")], Tag("out")], "x", "in:x out:x"),
        (Annotated[Annotated[str, Tag("in")] | None, Tag("out")], "x", "out:x in:x"),
        (Annotated[Email, Tag("email")] | None, "a@b", "email:a@b"),
        (NewType("Marked", Annotated[str, Tag("m")]), "x", "m:x"),  # type: ignore[valid-newtype]  # may be
        (Final[Annotated[str, Tag("f")]], "x", "f:x"),
        (Annotated[str, Tag], "x", "it:x"),
        (Annotated[str, Tag()] | None, "x", "it:x"),
        (Annotated[Literal["a", "b"], Tag("l")], "a", "l:a"),
        (Annotated[str, Tag("s")] | Annotated[int, Tag("n")], "7", "s:7"),
        (Annotated[str, Tag("s")] | Annotated[int, Tag("n")], 7, "n:7"),
        (Annotated[str, Tag("s")] | int, 7, ""),
        (Annotated[str, Tag("s")] | Annotated[float, Tag("f")], 7, "f:7"),
        (Annotated[str, Tag("s")] | list[str], ["x"], ""),
        (Annotated[str | list[str], Tag("s")], ["x", "y"], "s:x s:y"),
        (Annotated[str | list[str], Tag("s")], "xy", "s:xy"),
        (list[Seat], ["1", "2"], "seat:1 seat:2"),
        (list[Seat] | None, ["1"], "seat:1"),
        (Annotated[list[str], Tag("seat")], ["2", "1", "2"], "seat:2 seat:1"),
        (Annotated[list[str] | None, Tag("seat")], [], ""),
        (Annotated[list[str | None], Tag("seat")], ["1", None], "seat:1"),
        (Annotated[list[list[int]], Tag("n")], [[1], [2, 3]], "n:1 n:2 n:3"),
        (Annotated[Sequence[str], Tag("seat")], ["1"], "seat:1"),
        (Annotated[tuple[str, ...], Tag("seat")], ("1", "2"), "seat:1 seat:2"),
        (tuple[Seat, Annotated[int, Tag("row")], str], ("a", 3, "z"), "seat:a row:3"),
        (Annotated[set[str], Tag("seat")], {"c", "a", "b"}, "seat:a seat:b seat:c"),
        (frozenset[Seat], frozenset("ba"), "seat:a seat:b"),
        (dict[Annotated[str, Tag("k")], Annotated[int, Tag("v")]], {"x": 1}, "k:x v:1"),
        (dict[str, Line], {"x": Line("s")}, "sku:s"),
        (Line, Line("s"), "sku:s"),
        (Line | None, Line("s"), "sku:s"),
        (list[Line], [Line("s"), Line("t")], "sku:s sku:t"),
        (list[Cat | Dog], [Dog(3), Cat("p")], "tail:3 paw:p"),
        (Node, Node("a", [Node("b", [Node("c")])]), "node:a node:b node:c"),
        (Box[Annotated[str, Tag("box")]], Box("x", "y"), "box:x label:y box:y"),
        (Box[int], Box(1, 2), "label:2"),
        (IntBox, IntBox(1, 2), "label:2"),
        (Data | None, Data("d"), "data:d"),
        (Pair, Pair("l", 1), "left:l"),
        (Maybe, {"this": "a"}, "this:a"),
        (Maybe, {"this": "a", "that": "b"}, "this:a that:b"),
        (Annotated[Decimal, Tag("d")], Decimal("1.00"), "d:1"),
        (Annotated[Colour, Tag("c")] | None, Colour.RED, "c:red"),
        (Annotated[list[Level], Tag("c")], [Level.LOW], "c:1"),
        (Annotated[bool, Tag("b")], True, "b:true"),
        (Annotated[uuid.UUID, Tag("u")], uuid.UUID(int=1), f"u:{uuid.UUID(int=1)}"),
        (Annotated[dt.date, Tag("d")], dt.date(2024, 1, 2), "d:2024-01-02"),
    ],
)
def test_marks_are_found_wherever_they_stand(hint: Any, value: Any, expected: str) -> None:
    """A mark counts inside unions, aliases, generics, collections and records; one tag per item."""
    assert tags(hint, value) == [tuple(expected.split())]


@pytest.mark.parametrize(
    "hint",
    [
        Annotated[str, Tag("email")] | None,
        Annotated[str | None, Tag("email")],
        Annotated[str, Tag("email")] | msgspec.UnsetType | None,
        list[Seat] | None,
        Annotated[list[str] | None, Tag("seat")],
        dict[str, Line] | None,
        Line | None,
        Annotated[str, Tag("s")] | Annotated[int, Tag("n")] | None,
    ],
)
def test_none_gives_no_tag(hint: Any) -> None:
    """What is not there gives no tag, in whichever way that is said."""
    assert tags(hint, None, msgspec.UNSET) == [(), ()]


def test_aliases_of_later_pythons() -> None:
    """Marks are found behind `type` statements, also generic ones."""
    alias = TypeAliasType("alias", Annotated[str, Tag("a")])
    generic = TypeAliasType("generic", Annotated[T, Tag("g")], type_params=(T,))
    assert [mark.name for mark in marks_on(alias | None, Tag)] == ["a"]
    assert [mark.name for mark in marks_on(generic[int], Tag)] == ["g"]
    assert tags(list[alias], ["x"]) == [("a:x",)]  # type: ignore[valid-type]  # an alias
    assert tags(generic[int], 7) == [("g:7",)]


def test_marks_of_generic_bases() -> None:
    """A mark is inherited, also from a generic base, with what its parameter is bound to."""

    class About(Event, Generic[T]):
        subject: Annotated[T, Tag("subject")]

    class AboutMany(About[list[int]]):
        more: Annotated[str, Tag("more")] = "m"

    kind = message_type(AboutMany)
    assert kind.tags_of(AboutMany([1, 2])) == ("subject:1", "subject:2", "more:m")
    with pytest.raises(DeclarationError, match=r"About\.subject: the tag 'subject' stands on Any"):
        message_type(About)


def test_without_marks_nothing_is_looked_for() -> None:
    """A class without a tag has no reader, however its types refer to one another."""

    class Plain(Event):
        node: Bare
        text: str = ""

    assert message_type(Plain).tags is None
    assert message_type(Plain).tags_of(Plain(Bare("x"))) == ()


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (Annotated[Line, Tag("t")], "stands on Line, .* mark what is inside Line"),
        (Annotated[list[Line] | None, Tag("t")], "stands on Line"),
        (Annotated[dict[str, str], Tag("t")], "stands on dict, .* mark what is inside dict"),
        (Annotated[Any, Tag("t")], "stands on Any, .* declare another type"),
        (Annotated[object, Tag("t")], "stands on object"),
        (Annotated[list, Tag("t")], "stands on Any"),
        (Annotated[msgspec.Raw, Tag("t")], "stands on Raw"),
        (Annotated[str, Tag("t")] | Annotated[dict[str, int], Tag("t")], "stands on dict"),
        (Annotated[bool | int, Tag("t")], "truth values and numbers, which can be equal"),
        (Annotated[Literal[True, 2], Tag("t")], "truth values and numbers, which can be equal"),
    ],
)
def test_what_gives_no_tag_is_refused(hint: Any, said: str) -> None:
    """A tag on what has no one text is refused where the class is declared, with the remedy."""
    for base in (Event, Command):
        with pytest.raises(DeclarationError, match=rf"Wrong\.it: the tag 't' .*{said}"):
            type(base)("Wrong", (base,), {"__annotations__": {"it": hint}})


def test_declared_further_down() -> None:
    """A class whose types are declared later is checked when it is used for the first time."""

    class Early(Event):
        it: 'Annotated["Later", Tag("t")]'  # noqa: F821 - not known yet

    globals()["Later"] = Line
    try:
        with pytest.raises(DeclarationError, match=r"Early\.it: the tag 't' stands on Line"):
            message_type(Early)
    finally:
        del globals()["Later"]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Annotated[Decimal, Tag("t")], Decimal("NaN")),
        (Annotated[float, Tag("t")], float("inf")),
        (Annotated[str, Tag("t")], ["no", "text"]),
        (Annotated[list[str], Tag("t")], "text"),
        (Annotated[str, Tag("s")] | Annotated[int, Tag("n")], 1.5),
    ],
)
def test_a_value_without_a_tag_is_refused(hint: Any, value: Any) -> None:
    """A value that can have no tag is refused before it is stored, naming field and value."""
    cls: Any = type(Event)("Happened", (Event,), {"__annotations__": {"it": hint}})
    with pytest.raises(InvalidInput, match=r"Happened\.it is .*, of which no tag can be made"):
        message_type(cls).tags_of(cls(value))
    with pytest.raises((InvalidInput, Unstorable)):
        NewEvent.of(cls(value), new_metadata())


def test_equal_values_have_equal_tags() -> None:
    """Values that are equal have one tag, whatever they look like."""
    noon = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC)
    later = noon.astimezone(dt.timezone(dt.timedelta(hours=2)))
    assert len(set(tags(Annotated[Decimal, Tag], Decimal("1.0"), Decimal(1), Decimal("1.00")))) == 1
    assert len(set(tags(Annotated[dt.datetime, Tag], noon, later))) == 1
    assert len(set(tags(Annotated[float | int, Tag], 1, 1.0, True))) == 2


def test_a_tag_to_read_by() -> None:
    """`Tag.of` makes the tag of a value, as an event has it."""
    assert Tag("due").of(Decimal("2.50")) == "due:2.5"
    assert tags(Annotated[Decimal, Tag("due")], Decimal("2.5")) == [("due:2.5",)]
    with pytest.raises(InvalidInput, match="no canonical text"):
        Tag("due").of([])  # type: ignore[arg-type]  # the fault
    assert canonical_text("x") == "x"


class Optionally(Command):
    amount: int
    account: Annotated[int, Target] | None = None


def test_the_target_is_marked_inside_a_union_too() -> None:
    """The mark of the target counts inside a union; None is no target."""
    assert message_type(Optionally).target_of(Optionally(5, 42)) == "42"
    assert message_type(Optionally).target_of(Optionally(5)) == ""
