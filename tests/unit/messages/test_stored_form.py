"""What is stored is read back before it is stored."""

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections import OrderedDict, defaultdict
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import DeclarationError, MalformedMessage, Unstorable
from headwater.messages import BigInt, Event, encode_event
from headwater.messages.codec import message_form, stored_event
from headwater.messages.stored_form import StoredForm

INFINITE, NONE = float("inf"), float("nan")
T = TypeVar("T")


LATEST = dt.datetime.max.replace(tzinfo=dt.UTC)


class Colour(enum.Enum):
    RED = "red"


class Tone(enum.StrEnum):
    LOW = "low"


class Item(msgspec.Struct, frozen=True):
    sku: str
    count: Annotated[int, msgspec.Meta(ge=0)] = 0


class PricedItem(Item, frozen=True):
    price: int = 0


class PlainerItem(Item, frozen=True):
    """Has no fields of its own, only another name."""


class Careless(msgspec.Struct):
    """Calls itself equal to anything of its id."""

    id: str
    text: str | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Careless) and other.id == self.id

    __hash__ = None


class CarelessMore(Careless):
    more: int = 0


class Identity(msgspec.Struct, eq=False):
    x: int
    y: float | None = None


class Circle(msgspec.Struct, tag="circle"):
    r: float


class Square(msgspec.Struct, tag="square"):
    a: float


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Point3(Point):
    z: int = 0


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    depth: int


class Box(msgspec.Struct, Generic[T]):
    held: T


class Tree(msgspec.Struct):
    name: str
    children: "list[Tree]" = msgspec.field(default_factory=list)


class Keyed(msgspec.Struct):
    """Its fields are called like what paths say of mappings."""

    key: Any = None
    keys: Any = None


class Happened(Event):
    text: str = ""
    whole: int = 0
    real: float = 0.0
    maybe: float | None = None
    free: Any = None
    freely: dict[Any, Any] = msgspec.field(default_factory=dict)
    item: Item = Item("a")
    items: list[Item] = msgspec.field(default_factory=list)
    by_name: dict[str, Item] = msgspec.field(default_factory=dict)
    by_number: dict[int, str] = msgspec.field(default_factory=dict)
    either: Item | int | None = None
    shape: Circle | Square | None = None
    pair: tuple[int, str] = (0, "")
    named: Pair | None = None
    many: tuple[float, ...] = ()
    unique: frozenset[float] = frozenset()
    sets: set[Item] = msgspec.field(default_factory=set)
    options: Options = msgspec.field(default_factory=dict)
    point: Point | None = None
    day: dt.date | None = None
    at: dt.datetime | None = None
    took: dt.timedelta | None = None
    price: decimal.Decimal | None = None
    key: uuid.UUID | None = None
    colour: Colour | None = None
    tone: Tone | None = None
    raw: bytes = b""
    short: Annotated[str, msgspec.Meta(max_length=3)] = ""
    kind: Literal["a", "b"] = "a"
    tree: Tree | None = None
    box: Box[int] | None = None
    identity: Identity | None = None
    unset: int | msgspec.UnsetType = msgspec.UNSET
    large: BigInt = 0
    larger: list[BigInt | None] = msgspec.field(default_factory=list)
    json: msgspec.Raw = msgspec.Raw(b"{}")
    renamed: int = msgspec.field(name="otherName", default=0)
    keyed: Keyed | None = None


class HappenedCarelessly(Happened):
    """Cannot be compared as a whole."""

    careless: Careless | None = None


def made(field: str, value: Any, cls: type[Happened] = Happened) -> Happened:
    return (HappenedCarelessly if field == "careless" else cls)(**{field: value})


cyclic: list[Any] = []
cyclic.append(cyclic)

REFUSED: list[tuple[str, Any, str]] = [  # a field, a value, and what is said of it
    ("text", 5, "text is 5, which could not be read back (Expected `str`, got `int`)"),
    ("text", None, "text is None, which could not be read back"),
    ("text", b"x", "text is b'x', which would come back as 'eA=='"),
    ("text", uuid.UUID(int=0), "text is UUID("),
    ("text", Colour.RED, "text is <Colour.RED: 'red'>, which would come back as 'red'"),
    ("text", dt.date(2024, 1, 1), "text is datetime.date(2024, 1, 1), which would come back as"),
    ("text", decimal.Decimal("1.5"), "text is Decimal('1.5'), which would come back as '1.5'"),
    ("text", "a\ud800", "text is 'a\\ud800', which has no form in JSON"),
    ("text", ["a"], "text is ['a'], which could not be read back"),
    ("whole", "5", "whole is '5', which could not be read back"),
    ("whole", 5.0, "whole is 5.0, which could not be read back"),
    ("whole", True, "whole is True, which could not be read back"),
    ("whole", decimal.Decimal(5), "whole is Decimal('5'), which could not be read back"),
    ("whole", 2**63, "whole is 9223372036854775808, which has more than 64 bits"),
    ("whole", -(2**63) - 1, "whole is -9223372036854775809, which has more than 64 bits"),
    ("whole", 10**5000, "whole is a whole number of 16610 bits, which has no form in JSON"),
    ("real", INFINITE, "real is inf, which has no form in JSON:"),
    ("real", -INFINITE, "real is -inf, which has no form in JSON:"),
    ("real", NONE, "real is nan, which has no form in JSON:"),
    ("real", 2**53 + 1, "real is 9007199254740993, which would come back as 9007199254740992.0"),
    ("real", "5", "real is '5', which could not be read back"),
    ("maybe", INFINITE, "maybe is inf, which has no form in JSON:"),
    ("maybe", NONE, "maybe is nan, which has no form in JSON:"),
    ("free", INFINITE, "free is inf, which has no form in JSON:"),
    ("free", {"a": (1, {"b": NONE})}, "free['a'][1]['b'] is nan, which has no form in JSON:"),
    ("free", Box(INFINITE), "free.held is inf, which has no form in JSON:"),
    ("free", Point(1, INFINITE), "free.y is inf, which has no form in JSON:"),
    ("free", [0, 2**64], "free[1] is 18446744073709551616, which has more than 64 bits"),
    ("free", object(), "free is <object object at"),
    ("free", {"a": [5j]}, "free['a'][0] is 5j, which has no form in JSON"),
    ("free", {(1, 2): 3}, "free is {(1, 2): 3}, which has no form in JSON (Only dicts with"),
    ("free", {None: 3}, "free is {None: 3}, which has no form in JSON"),
    ("free", {"a\ud800": 3}, "free is {'a\\ud800': 3}, which has no form in JSON"),
    ("free", cyclic, "free[0][0]"),
    ("free", (x for x in "a"), "free is <generator object"),
    ("item", PricedItem("a", 1, 5), "item is PricedItem(sku='a', count=1, price=5), which would"),
    ("item", PlainerItem("a"), "item is PlainerItem(sku='a', count=0), which would come back as"),
    ("item", {"sku": "a"}, "item is {'sku': 'a'}, which would come back as Item(sku='a'"),
    ("item", Item("a", -1), "item.count is -1, which could not be read back (Expected `int` >= 0)"),
    ("item", Item(5), "item.sku is 5, which could not be read back"),
    ("item", None, "item is None, which could not be read back"),
    ("items", [Item("a"), Item("b", -1)], "items[1].count is -1, which could not be"),
    ("items", [Item("a"), PricedItem("b")], "items[1] is PricedItem("),
    ("items", {Item("a"): 1}, "items is {Item(sku='a', count=0): 1}, which has no form in JSON"),
    ("by_name", {"a": Item("a"), "b": Item("b", -1)}, "by_name['b'].count is -1, which could"),
    ("by_name", {"a": PricedItem("a")}, "by_name['a'] is PricedItem("),
    ("by_name", {1: Item("a")}, "by_name key 1 is 1, which would come back as '1'"),
    ("by_number", {"x": "y"}, "by_number is {'x': 'y'}, which could not be read back"),
    ("by_number", {2**63: "y"}, "by_number key 9223372036854775808 is 9223372036854775808"),
    ("either", "x", "either is 'x', which could not be read back"),
    ("either", PricedItem("a"), "either is PricedItem("),
    ("either", 2**63, "either is 9223372036854775808, which has more than 64 bits"),
    ("shape", Circle(INFINITE), "shape.r is inf, which has no form in JSON:"),
    ("shape", Circle("1"), "shape.r is '1', which could not be read back"),
    ("pair", (1,), "pair is (1,), which could not be read back"),
    ("pair", (1, 2), "pair[1] is 2, which could not be read back"),
    ("many", (1.0, NONE), "many[1] is nan, which has no form in JSON:"),
    ("unique", [1.0, 1.0], "unique is [1.0, 1.0], which would come back as frozenset({1.0})"),
    ("options", {"depth": "1"}, "options['depth'] is '1', which could not be read back"),
    ("options", {"depth": 1, "other": 2}, "options is {'depth': 1, 'other': 2}, which would"),
    ("point", Point3(1, 2.0, 3), "point is Point3(x=1, y=2.0, z=3), which would come back as"),
    ("point", Point("1"), "point.x is '1', which could not be read back"),
    (
        "day",
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        "day is datetime.datetime(2024, 1, 1, 0, 0",
    ),
    ("day", "2024-01-01", "day is '2024-01-01', which would come back as datetime.date"),
    ("at", 5, "at is 5, which could not be read back"),
    ("at", dt.datetime(1930, 1, 1, tzinfo=ZoneInfo("Africa/Juba")), "at is datetime.datetime(1930"),
    ("price", 0.1, "price is 0.1, which would come back as Decimal('0.1')"),
    ("key", str(uuid.UUID(int=0)), "key is '00000000-0000-0000-0000-000000000000', which would"),
    ("colour", "red", "colour is 'red', which would come back as <Colour.RED: 'red'>"),
    ("colour", "blue", "colour is 'blue', which could not be read back"),
    ("short", "long", "short is 'long', which could not be read back (Expected `str` of length"),
    ("kind", "c", "kind is 'c', which could not be read back"),
    ("tree", Tree("a", [Tree("b", [Tree(5)])]), "tree.children[0].children[0].name is 5, which"),
    ("tree", Tree("a", [Tree("b", 5)]), "tree.children[0].children is 5, which could not"),
    ("box", Box("a"), "box.held is 'a', which could not be read back"),
    ("box", Box(2**63), "box.held is 9223372036854775808, which has more than 64 bits"),
    ("identity", Identity(1, INFINITE), "identity.y is inf, which has no form in JSON:"),
    ("careless", CarelessMore("a", more=1), "careless is "),
    ("large", 10**5000, "large is a whole number of 16610 bits, which has no form in JSON"),
    ("json", msgspec.Raw(b"{"), "content is Happened"),
    ("keyed", Keyed(key=5j), "keyed.key is 5j, which has no form in JSON"),
    ("keyed", Keyed(keys=5j), "keyed.keys is 5j, which has no form in JSON"),
    ("free", {"key": 5j}, "free['key'] is 5j, which has no form in JSON"),
    ("renamed", "x", "otherName is 'x', which could not be read back"),
]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    REFUSED,
    ids=[f"{n} {told[:30]!r}" for n, (_, _, told) in enumerate(REFUSED)],
)
@pytest.mark.parametrize("cls", [Happened, HappenedCarelessly])
def test_what_cannot_be_read_back_is_refused(
    cls: type[Happened], field: str, value: Any, told: str
) -> None:
    """An event that would not come back as the same is refused; the error says where and why."""
    event = made(field, value, cls)
    with pytest.raises(Unstorable) as caught:
        encode_event(event)
    error = caught.value
    name = f"event '{type(event).__name__}'"
    assert str(error).startswith(f"{name} cannot be stored: its {told}")
    assert (error.name, error.outcome, error.status) == (name, "not stored", 500)
    assert len(str(error)) < 800


KEPT: list[tuple[str, Any, Any]] = [  # a field, a value, and what it is read back as
    ("text", "nul\0 and \U0001f600" * 1000, "nul\0 and \U0001f600" * 1000),
    ("text", Tone.LOW, "low"),
    ("whole", 2**63 - 1, 2**63 - 1),
    ("whole", -(2**63), -(2**63)),
    ("real", 5, 5.0),
    ("real", 2**63, 2.0**63),
    ("real", 5e-324, 5e-324),
    ("free", (1, (2.5, None)), [1, [2.5, None]]),
    ("free", {1: {"a": (2,)}}, {"1": {"a": [2]}}),
    ("free", decimal.Decimal("1.50"), "1.50"),
    ("free", dt.date(2024, 1, 1), "2024-01-01"),
    ("free", Item("a", 1), {"sku": "a", "count": 1}),
    ("free", b"x", "eA=="),
    ("free", {1}, [1]),
    ("free", "9" * 40, "9" * 40),
    ("freely", {1: 2, "b": (1,)}, {"1": 2, "b": [1]}),
    ("items", (Item("a"), Item("b")), [Item("a"), Item("b")]),
    ("by_name", OrderedDict(b=Item("b"), a=Item("a")), {"b": Item("b"), "a": Item("a")}),
    ("by_name", defaultdict(list, a=Item("a")), {"a": Item("a")}),
    ("by_number", {-5: "a"}, {-5: "a"}),
    ("either", Item("a"), Item("a")),
    ("shape", Square(2), Square(2.0)),
    ("pair", [1, "a"], (1, "a")),
    ("named", Pair(1, "a"), Pair(1, "a")),
    ("many", [1, 2], (1.0, 2.0)),
    ("unique", [1, 2.5], frozenset({1.0, 2.5})),
    ("sets", frozenset({Item("a"), Item("b")}), {Item("a"), Item("b")}),
    ("options", {"depth": 1}, {"depth": 1}),
    ("point", Point(1, 2), Point(1, 2.0)),
    ("took", dt.timedelta.max, dt.timedelta.max),
    ("at", LATEST, LATEST),
    ("price", 5, decimal.Decimal(5)),
    ("price", decimal.Decimal("1E+999999"), decimal.Decimal("1E+999999")),
    ("colour", Colour.RED, Colour.RED),
    ("raw", bytearray(b"x"), b"x"),
    ("tree", Tree("a", (Tree("b"),)), Tree("a", [Tree("b")])),
    ("box", Box(5), Box(5)),
    ("careless", Careless("a", "b"), Careless("a", "b")),
    ("unset", msgspec.UNSET, msgspec.UNSET),
    ("large", 2**200, 2**200),
    ("larger", [2**64, None], [2**64, None]),
    ("renamed", 7, 7),
]


@pytest.mark.parametrize(
    ("field", "value", "back"), KEPT, ids=[f"{n} {field}" for n, (field, _, _) in enumerate(KEPT)]
)
def test_what_comes_back_as_the_same_is_kept(field: str, value: Any, back: Any) -> None:
    """Values that are as good as what is declared are stored, and read back as declared."""
    event = made(field, value)
    kind, data, read = stored_event(event)
    assert (kind.name, read) == (type(event).__name__, made(field, back))
    assert type(getattr(read, field)) is type(back)
    assert msgspec.json.decode(data, type=type(event)) == read


def test_equal_in_another_way_is_kept() -> None:
    """What is equal only to itself, or in another zone only, is kept when its JSON is the same."""
    told_twice = dt.datetime(2020, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    _, _, read = stored_event(
        Happened(at=told_twice, price=decimal.Decimal("sNaN"), identity=Identity(1, 2))
    )
    assert read.at.isoformat() == told_twice.isoformat()
    assert read.price.is_snan()
    assert (read.identity.x, read.identity.y) == (1, 2.0)


def test_a_checking_constructor_counts() -> None:
    """What the class itself refuses when it is read cannot be stored, whatever it raises."""

    class Strict(Event):
        allowed: bool
        text: str = ""

        def __post_init__(self) -> None:
            if checking[0] and not self.allowed:
                raise checking[0]

    checking: list[Any] = [None]
    event = Strict(allowed=False)
    for raised in (ValueError("no"), KeyError("no"), RuntimeError("no")):
        checking[0] = raised
        with pytest.raises(Unstorable, match=r"its content is Strict.* could not be read back"):
            encode_event(event)
    assert encode_event(Strict(allowed=True)) == b'{"allowed":true,"text":""}'


def test_a_type_that_can_never_be_read_is_a_fault_of_the_declaration() -> None:
    """A class whose fields no decoder takes is refused as wrongly declared."""

    class Ambiguous(Event):
        when: str | dt.date

    with pytest.raises(DeclarationError, match="Ambiguous: it could never be read back"):
        encode_event(Ambiguous("today"))


def test_unbounded_forms_take_any_number() -> None:
    """States are no messages: their whole numbers are not bounded."""

    class State(msgspec.Struct):
        total: int = 0
        ratio: float | None = None

    form = StoredForm(State, "saga 'State'", bounded=False)
    assert form.write(State(2**80)) == (
        b'{"total":1208925819614629174706176,"ratio":null}',
        State(2**80),
    )
    with pytest.raises(Unstorable, match="saga 'State' cannot be stored: its ratio is inf"):
        form.write(State(ratio=INFINITE))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(-5, 5), inner, max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=6,
)
ANY_VALUE = (
    JSON
    | st.decimals()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.timedeltas()
    | st.uuids()
    | st.binary(max_size=4)
    | st.characters(categories=["Cs"])
    | st.builds(PricedItem, sku=st.text(max_size=3), count=st.integers(-1, 1))
    | st.sets(st.integers() | st.floats(), max_size=3)
)


@given(field=st.sampled_from(HappenedCarelessly.__struct_fields__), value=ANY_VALUE)
def test_accepted_means_equal(field: str, value: Any) -> None:
    """Whatever is in a field: it is refused, or it is read back as the same from what is stored."""
    event = made(field, value)
    try:
        _, data, read = stored_event(event)
    except Unstorable:
        return
    again = msgspec.json.decode(data, type=type(event))
    assert msgspec.json.encode(again) == msgspec.json.encode(read)
    if field not in {"free", "freely", "json"}:
        assert same(value, getattr(again, field))


def same(value: Any, back: Any) -> bool:
    """Whether a value is the same for a reader, by rules of its own."""
    if isinstance(back, set | frozenset):
        return len(value) == len(back) and set(value) == back
    if isinstance(back, list | tuple):
        return list(value) == list(back)
    if isinstance(back, decimal.Decimal | dt.datetime):
        return isinstance(value, int) or str(value) == str(back) or bool(value == back)
    return bool(value == back)


class Numbers(Event):
    one: int
    two: Annotated[int, msgspec.Meta(ge=0)] = 0


class Number(Event):
    one: int
    text: str = ""


class Bounded(Event):
    one: Annotated[int, msgspec.Meta(ge=0, le=10)]
    text: str = ""


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**30])
def test_whole_numbers_of_messages_have_64_bits(number: int) -> None:
    """A whole number of more than 64 bits is refused, whatever the shape of its message."""
    for event, name in (
        (Number(number), "one"),
        (Numbers(number), "one"),
        (Numbers(1, abs(number)), "two"),
        (Happened(whole=number), "whole"),
        (Happened(either=number), "either"),
    ):
        with pytest.raises(Unstorable, match=f"its {name} is .*{abs(number)}, which has more"):
            encode_event(event)
        with pytest.raises(MalformedMessage, match=f"malformed: {name} is .*{abs(number)}, which"):
            message_form(type(event)).validate(event)
    for event in (
        Number(2**63 - 1, "9" * 30),
        Numbers(2**63 - 1, 2**63 - 1),
        Numbers(-(2**63)),
        Bounded(10, "9" * 30),
    ):
        encode_event(event)
        message_form(type(event)).validate(event)
