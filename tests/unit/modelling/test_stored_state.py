"""The stored form of states: what a declaration tells, and what comes back."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import DeclarationError
from headwater.modelling import Aggregate, DecisionModel, Saga
from headwater.modelling.state import EventSourced, StateType, aggregate_type
from headwater.modelling.stored_state import NotStorable, StateForm

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Shape(msgspec.Struct):
    name: str = ""


class Round(Shape):
    radius: int = 0


class Plain(Shape):
    """Adds nothing."""


class Frozen(msgspec.Struct, frozen=True):
    name: str = ""


class Tagged(msgspec.Struct, tag=True):
    size: float = 0


class Other(msgspec.Struct, tag=True):
    sizes: Sequence[float] = ()


class Node(msgspec.Struct):
    value: Any = None
    children: "list[Node]" = []


class Box(msgspec.Struct, Generic[T]):
    content: T | None = None
    more: Sequence[T] = ()


@dataclasses.dataclass
class Data:
    ratio: float = 0
    seen: dict[Level, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class MoreData(Data):
    extra: int = 0


class Pair(NamedTuple):
    left: float
    right: str


class Keyed(TypedDict, total=False):
    ratio: float
    name: str


class WithoutEquality(msgspec.Struct, eq=False):
    name: str = ""


def state_class(kind: Any) -> Any:
    """Make a class of states with one field of a type."""

    class Held(EventSourced):
        held: kind = None

    return Held


def form_of(kind: Any) -> tuple[Any, StateForm]:
    cls = state_class(kind)
    return cls, StateForm(cls)


# at declaration -------------------------------------------------------------------------------


REFUSED = [
    (dict[tuple[int, int], str], "keys of type tuple"),
    (dict[tuple[int, ...], str], "keys of type tuple"),
    (dict[None, str], "keys of type none"),
    (dict[str | None, str], "keys of type none"),
    (dict[bool, str], "keys of type bool"),
    (dict[Frozen, str], "keys of type Frozen"),
    (dict[Pair, str], "keys of type Pair"),
    (dict[frozenset[int], str], "keys of type frozenset"),
    (dict[Annotated[bool, msgspec.Meta(title="x")], str], "keys of type bool"),
    (dict[int | str, str], "numbers and text as keys"),
    (dict[Level | bytes, str], "numbers and text as keys"),
    (dict[Literal[1, "1"], str], "numbers and text as keys"),
    (dict[decimal.Decimal | int, str], "numbers and text as keys"),
    (list[dict[str, dict[bool, int]]], "keys of type bool"),
    (dict[str, Box[dict[bool, int]]], "keys of type bool"),
    (tuple[int, dict[bool, int]] | None, "keys of type bool"),
    (Mapping[tuple[int, int], int], "keys of type tuple"),
    (collections.deque[int], "deque has no form"),
    (list[complex], "complex has no form"),
    (object, "object has no form"),
    (Shape | Round, "multiple Struct types"),
    (Data | Shape, "more than one dict-like type"),
    (dt.date | str, "more than one str-like type"),
    (list[int] | tuple[int, ...], "more than one array-like"),
    (Mixed, "all str or all int"),
]


@pytest.mark.parametrize(("kind", "problem"), REFUSED, ids=lambda each: str(each)[:60])
def test_what_can_be_seen_is_refused_at_declaration(kind: Any, problem: str) -> None:
    """A field whose type has no stored form is refused, with its name, the reason and a remedy."""

    class Seats(Aggregate):
        held: kind = None

    class Booking(DecisionModel):
        held: kind = None

    with pytest.raises(DeclarationError, match=problem) as error:
        aggregate_type(Seats)
    assert str(error.value).startswith("Seats: field 'held' cannot be stored: ")
    assert "set snapshot_every = 0 (and snapshot_load_ms = 0)" in str(error.value)
    with pytest.raises(DeclarationError, match=problem) as error:

        class Seating(Saga):
            held: kind = None

    assert "the state of a saga is stored after each step" in str(error.value)
    assert StateType(Booking).form is None


@pytest.mark.parametrize("kind", [kind for kind, _ in REFUSED], ids=lambda each: str(each)[:60])
def test_what_is_never_stored_may_be_anything(kind: Any) -> None:
    """An aggregate that takes no snapshots may have fields of any type."""

    class Seats(Aggregate):
        snapshot_every: ClassVar[int] = 0
        held: kind = None

    assert aggregate_type(Seats).form is None
    assert aggregate_type(Seats).fingerprint == ""

    class Slow(Seats):
        snapshot_load_ms: ClassVar[float] = 10

    with pytest.raises(DeclarationError, match="field 'held' cannot be stored"):
        aggregate_type(Slow)


# what comes back ------------------------------------------------------------------------------


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SHAPES = st.builds(Shape, st.text())

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: NUMBERS | st.integers(-9, 9),
    decimal.Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bytes: st.binary(),
    dt.datetime: st.datetimes(timezones=st.just(dt.UTC)) | st.datetimes(),
    Colour: st.sampled_from(Colour),
    Level | None: st.none() | st.sampled_from(Level),
    Literal["a", 1]: st.sampled_from(["a", 1]),
    dict[int, list[str]]: st.dictionaries(st.integers(), st.lists(st.text())),
    dict[Level, tuple[float, str]]: st.dictionaries(
        st.sampled_from(Level), st.tuples(st.integers(0, 3), st.text())
    ),
    dict[int | float, int]: st.dictionaries(NUMBERS, st.integers()),
    dict[uuid.UUID, Shape]: st.dictionaries(st.uuids(), SHAPES),
    Mapping[str, int]: st.dictionaries(st.text(), st.integers()),
    list[tuple[int, ...]]: st.lists(st.tuples(st.integers(), st.integers())),
    Sequence[float]: st.lists(NUMBERS) | st.tuples(st.integers(0, 9)),
    set[str]: st.sets(st.text()),
    frozenset[tuple[int, int]]: st.frozensets(st.tuples(st.integers(), st.integers())),
    AbstractSet[int]: st.sets(st.integers()) | st.frozensets(st.integers()),
    Shape | None: st.none() | SHAPES,
    int | dict[str, Shape]: st.integers() | st.dictionaries(st.text(), SHAPES),
    float | list[Shape] | None: st.none() | st.integers(0, 9) | st.lists(SHAPES),
    str | tuple[int, Shape]: st.text() | st.tuples(st.integers(), SHAPES),
    bool | set[str]: st.booleans() | st.sets(st.text()),
    str | Keyed: st.text() | st.builds(lambda n: {"ratio": n}, st.integers(0, 9)),
    Tagged | Other: st.builds(Tagged, NUMBERS) | st.builds(Other, st.lists(NUMBERS)),
    Node: st.builds(lambda inner: Node(inner, [Node(inner)]), JSON),
    Box[int]: st.builds(lambda n: Box(n, [n]), st.integers()),
    Data: st.builds(Data, st.integers(0, 9), st.dictionaries(st.just(Level.LOW), st.integers())),
    Pair: st.builds(Pair, st.integers(0, 9), st.text()),
    Keyed: st.just({}) | st.builds(lambda n: {"ratio": n}, st.integers(0, 9)),
    Any: JSON,
    dict: st.dictionaries(st.text(), JSON),
}


@pytest.mark.parametrize("kind", VALUES, ids=lambda each: str(each)[:60])
def test_values_of_the_declared_type_are_stored(kind: Any) -> None:
    """A state whose field holds what it declares is stored, and comes back the same."""
    cls, form = form_of(kind)

    @given(VALUES[kind])
    def check(value: Any) -> None:
        assert form.decode(form.encode(cls(held=value))).held == (
            list(value) if kind == Sequence[float] else value
        )

    check()


def test_a_struct_without_equality_is_stored() -> None:
    """A state is compared by what is in it, whether its structs can compare themselves or not."""
    cls, form = form_of(WithoutEquality)
    assert form.decode(form.encode(cls(held=WithoutEquality("x")))).held.name == "x"


class CountingDict(dict[str, int]):
    pass


DIFFERENT = [
    (Shape | None, Round("x", 5), "would come back as Shape"),
    (Shape | None, Plain("x"), "would come back as Shape"),
    (list[Shape], [Shape(), Round()], "would come back as"),
    (dict[str, Shape], {"a": Round()}, "would come back as"),
    (tuple[Shape, int], (Round(), 1), "would come back as"),
    (Box[Shape], Box(Round("x")), "would come back as Box"),
    (Data, MoreData(), "would come back as Data"),
    (dict[str, int], collections.defaultdict(int, a=1), "would come back as {'a': 1}"),
    (dict[str, int], CountingDict(a=1), "would come back as {'a': 1}"),
    (dict[str, dict[str, int]], {"a": collections.Counter("a")}, "would come back as"),
    (list[int], (1, 2), r"would come back as \[1, 2\]"),
    (int | dict[str, int], collections.defaultdict(int, a=1), "would come back as"),
    (int | list[Shape], [Round()], "would come back as"),
    (None | Shape | int, Round(), "would come back as"),
    (list[str] | None, ("a",), "would come back as"),
    (set[int], frozenset([1]), "would come back as"),
    (Any, (1, 2), r"would come back as \[1, 2\]"),
    (Any, {1: "a"}, "would come back as {'1': 'a'}"),
    (Any, Level.LOW, "would come back as 1"),
    (Any, dt.date(2026, 1, 2), "would come back as '2026-01-02'"),
    (Any, Shape("x"), "would come back as {'name': 'x'}"),
    (Any, float("nan"), "would come back as None"),
    (Any, [1, {"a": {2}}], "would come back as"),
    (list[Any], [Colour.RED], "would come back as"),
    (dict, {True: 1}, "because of held = {True: 1}"),
    (dict, {(1, 2): 1}, r"because of held = \{\(1, 2\): 1\}: Only dicts"),
    (Any, {None: 1}, "because of held = {None: 1}"),
    (Any, 5j, "because of held = 5j: Encoding objects of type complex"),
    (str, "\ud800", r"because of held = '\\ud800'"),
    (dict[str, str], {"\ud800": ""}, r"because of held = "),
    (float, float("inf"), "because of held = inf: Expected `float`, got `null`"),
    (str, 5, "because of held = 5: Expected `str`, got `int`"),
    (Annotated[int, msgspec.Meta(ge=0)], -1, "because of held = -1: Expected `int` >= 0"),
    (Tagged | Other, Shape("x"), "because of held = Shape"),
    (bool, None, "because of held = None"),
]


@pytest.mark.parametrize(("kind", "value", "why"), DIFFERENT, ids=lambda each: str(each)[:40])
def test_what_would_come_back_otherwise_is_not_stored(kind: Any, value: Any, why: str) -> None:
    """A value that JSON cannot hold, or that comes back as another, is named with its field."""
    cls, form = form_of(kind)
    with pytest.raises(NotStorable, match=why) as error:
        form.encode(cls(held=value))
    assert str(error.value).startswith("Held")


def test_too_deep() -> None:
    """A state that is nested too deeply for JSON is not stored."""
    cls, form = form_of(Any)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotStorable, match="cannot be stored"):
        form.encode(cls(held=deep))
    while deep:  # one by one, as Python would recurse
        deep = deep.pop()
