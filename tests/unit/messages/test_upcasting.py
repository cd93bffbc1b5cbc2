"""Older events: lifted through JSON, into one event of today, several, or none."""

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import DeclarationError, EventUnreadable
from headwater.messages import Event, Upcast, encode_event, upcaster, wire
from headwater.messages.codec import EventCodec

INTEGERS = st.integers(-(2**63), 2**63 - 1)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Inner(msgspec.Struct):
    by_level: dict[Level, int]
    price: decimal.Decimal


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag="square"):
    side: decimal.Decimal


class Row(msgspec.Struct, array_like=True):
    number: int
    ratio: float


INTEGERS = st.integers(-(2**63), 2**63 - 1)

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: INTEGERS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: st.text(),
    bytes: st.binary(),
    decimal.Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    uuid.UUID: st.uuids(),
    dt.date: st.dates(),
    dt.datetime: st.datetimes(timezones=st.just(dt.UTC)),
    dt.time: st.times(),
    dt.timedelta: st.timedeltas(dt.timedelta(-(10**6)), dt.timedelta(10**6)),
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    Literal["a", 1]: st.sampled_from(["a", 1]),
    int | None: st.none() | INTEGERS,
    int | str: INTEGERS | st.text(),
    list[decimal.Decimal]: st.lists(st.decimals(allow_nan=False, allow_infinity=False)),
    tuple[int, str]: st.tuples(INTEGERS, st.text()),
    set[Level]: st.sets(st.sampled_from(Level)),
    frozenset[dt.date]: st.frozensets(st.dates()),
    dict[int, str]: st.dictionaries(INTEGERS, st.text()),
    dict[float, int]: st.dictionaries(st.floats(allow_nan=False, allow_infinity=False), INTEGERS),
    dict[Level, str]: st.dictionaries(st.sampled_from(Level), st.text()),
    dict[Colour, str]: st.dictionaries(st.sampled_from(Colour), st.text()),
    dict[decimal.Decimal, int]: st.dictionaries(
        st.decimals(allow_nan=False, allow_infinity=False), INTEGERS
    ),
    dict[uuid.UUID, int]: st.dictionaries(st.uuids(), INTEGERS),
    dict[dt.date, int]: st.dictionaries(st.dates(), INTEGERS),
    dict[str, dict[int, list[float]]]: st.dictionaries(
        st.text(),
        st.dictionaries(
            st.integers(0, 9), st.lists(st.floats(allow_nan=False, allow_infinity=False))
        ),
    ),
    Inner: st.builds(
        Inner,
        by_level=st.dictionaries(st.sampled_from(Level), INTEGERS),
        price=st.decimals(allow_nan=False, allow_infinity=False),
    ),
    Circle | Square: st.builds(Circle, st.floats(allow_nan=False, allow_infinity=False))
    | st.builds(Square, st.decimals(allow_nan=False, allow_infinity=False)),
    Row: st.builds(Row, INTEGERS, st.floats(allow_nan=False, allow_infinity=False)),
    Annotated[int, msgspec.Meta(ge=0)]: st.integers(0, 2**63 - 1),
}


def unchanged(content: Any) -> Any:
    return content


def later_version(kind: Any, upcast: Any = unchanged, **options: Any) -> Any:
    """Make an event class at version 2, with one field and an upcaster that changes nothing."""

    @wire("Later", version=2)
    class Later(Event, **options):
        value: kind

    upcaster(Later, from_version=1)(upcast)
    return Later


@pytest.mark.parametrize("kind", VALUES, ids=str)
def test_an_unchanged_event_comes_back_as_it_was(kind: Any) -> None:
    """What an upcaster leaves as it is comes out as it was stored, whatever its type."""
    cls = later_version(kind)
    codec = EventCodec([cls])

    @given(VALUES[kind])
    def check(value: Any) -> None:
        data = encode_event(cls(value))
        lifted = codec.decode("Later", 1, data)
        assert lifted == codec.decode("Later", 2, data) == cls(value)
        if kind not in {frozenset[dt.date], set[Level]}:  # which have no order
            assert repr(lifted) == repr(codec.decode("Later", 2, data))

    check()


@pytest.mark.parametrize(
    "number", ["1.10", "12345678901234567890.123456789", "1e3", "1E400", "-0.0"]
)
def test_numbers_keep_every_digit(number: str) -> None:
    """A number that was stored as such comes into a decimal without a detour through float."""
    cls = later_version(decimal.Decimal)
    data = b'{"value":%b}' % number.encode()
    lifted: Any = EventCodec([cls]).decode("Later", 1, data)
    assert str(lifted.value) == str(decimal.Decimal(number))


@pytest.mark.parametrize("options", [{"rename": "camel"}, {"array_like": True}, {"tag": True}])
def test_every_form_of_content_is_lifted(options: dict[str, Any]) -> None:
    """Renamed fields, arrays and tagged content pass through an upcaster as they are stored."""
    cls = later_version(dict[int, decimal.Decimal], **options)
    event = cls({7: decimal.Decimal("1.10")})
    assert EventCodec([cls]).decode("Later", 1, encode_event(event)) == event


class Priced(msgspec.Struct):
    price: decimal.Decimal


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (decimal.Decimal, decimal.Decimal("1.10"), decimal.Decimal("1.10")),
        (float, decimal.Decimal("1.5"), 1.5),
        (dt.date, dt.date(2026, 1, 2), dt.date(2026, 1, 2)),
        (dict[int, str], {7: "x"}, {7: "x"}),
        (dict[Level, int], {Level.LOW: 1}, {Level.LOW: 1}),
        (Level, Level.HIGH, Level.HIGH),
        (Priced, Priced(decimal.Decimal(3)), Priced(decimal.Decimal(3))),
        (bytes, b"\0", b"\0"),
        (set[int], {1, 2}, {1, 2}),
    ],
)
def test_upcasters_may_give_python_values(kind: Any, value: Any, expected: Any) -> None:
    """What an upcaster puts into the content may be a value of the field's type, not only JSON."""
    cls = later_version(kind, upcast=lambda _: {"value": value})
    lifted: Any = EventCodec([cls]).decode("Later", 1, b"{}")
    assert lifted.value == expected
    assert type(lifted.value) is type(expected)


def test_upcasters_compute_with_numbers() -> None:
    """Numbers of any spelling are plain numbers for an upcaster."""

    @wire("Rated", version=2)
    class Rated(Event):
        cents: int
        rate: float

    @upcaster(Rated, from_version=1)
    def _(content: dict[str, Any]) -> dict[str, Any]:
        return {"cents": round(content["amount"] * 100), "rate": content["amount"] / 2}

    assert EventCodec([Rated]).decode("Rated", 1, b'{"amount": 1.10}') == Rated(110, 0.55)


@pytest.mark.parametrize(
    ("upcast", "reason"),
    [
        (lambda _: None, "from version 1 returned None: return the content"),
        (lambda content: content["lost"], r"from version 1 raised KeyError: 'lost'"),
        (lambda _: {"id": object()}, "cannot be stored: <object object"),
        (lambda _: {"id": "\ud800"}, "cannot be stored"),
        (lambda _: {"id": 7}, "Expected `str`, got `int`"),
        (lambda _: "text", "Expected `object`, got `str`"),
        (lambda _: [Upcast(Named, 1, {})], "gave Named at version 1, into= names nothing"),
        (lambda _: [Upcast(_faulty, 1, {})], "gave Faulty at version 1"),
    ],
)
def test_a_faulty_upcaster_is_named(upcast: Any, reason: str) -> None:
    """Whatever an upcaster does wrong, the error names the event and what was wrong."""

    @wire("Faulty", version=2)
    class Faulty(Event):
        id: str

    global _faulty  # noqa: PLW0603  # the cases were made before the class
    _faulty = Faulty
    upcaster(Faulty, from_version=1)(upcast)
    with pytest.raises(EventUnreadable, match=reason) as error:
        EventCodec([Faulty]).decode("Faulty", 1, b'{"id":"7"}')
    assert "event 'Faulty'" in str(error.value)


_faulty: Any = None


def test_a_missing_step_is_refused_when_the_class_is_used() -> None:
    """A class whose older versions cannot be lifted is refused by whoever would read it."""

    @wire("Gap", version=4)
    class Gap(Event):
        id: str

    upcaster(Gap, from_version=2)(unchanged)
    with pytest.raises(DeclarationError) as error:
        EventCodec([Gap])
    assert str(error.value) == (
        "Gap: event 'Gap' is at version 4, and what was stored at version 1, 3 cannot be read: add "
        "@upcaster(Gap, from_version=1), @upcaster(Gap, from_version=3), or import the module that "
        "has it before the event is used"
    )
    upcaster(Gap, from_version=1)(unchanged)
    upcaster(Gap, from_version=3)(unchanged)
    assert EventCodec([Gap]).decode("Gap", 1, b'{"id":"7"}') == Gap("7")


def test_a_version_below_the_first_is_malformed() -> None:
    """An event stored at a version that there never was is refused, with what is missing."""

    @wire("Second", version=2)
    class Second(Event):
        id: str

    upcaster(Second, from_version=1)(unchanged)
    with pytest.raises(EventUnreadable, match=r"stored at version 0, .*from_version=0"):
        EventCodec([Second]).decode("Second", 0, b'{"id":"7"}')


# one event becomes several, or none -----------------------------------------------------------


@wire("upcasting.Named", version=2, aliases=["upcasting.Renamed"])
class Named(Event):
    id: str
    name: str


@upcaster(Named, from_version=1)
def _capitals(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "name": content["name"].title()}


@wire("upcasting.Called")
class Called(Event):
    id: str
    number: str


@wire("upcasting.Moved", version=4, aliases=["upcasting.Relocated"])
class Moved(Event):
    """Nobody stores it any more: what it said are two events today."""

    id: str
    reason: str


@upcaster(Moved, from_version=1)
def _rename(content: dict[str, Any]) -> dict[str, Any]:
    return {"id": content["customer"], "name": content["name"], "phone": content["phone"]}


@upcaster(Moved, from_version=2, into=(Named, Called))
def _split(content: dict[str, Any]) -> Iterator[Upcast]:
    yield Upcast(Named, 1, {"id": content["id"], "name": content["name"]})
    if content["phone"]:
        yield Upcast(Called, 1, {"id": content["id"], "number": content["phone"]})
    yield Upcast(Moved, 3, {"id": content["id"], "reason": content.get("reason")})


@upcaster(Moved, from_version=3)
def _only_with_a_reason(content: dict[str, Any]) -> dict[str, Any] | list[Upcast]:
    return content if content["reason"] else []


_OLD = b'{"customer":"7","name":"ada","phone":"+49"}'


@pytest.mark.parametrize("name", ["upcasting.Moved", "upcasting.Relocated"])
def test_one_event_becomes_several(name: str) -> None:
    """An older event becomes others, in order, each lifted on to the version of today."""
    codec = EventCodec([Moved, Called, Named])
    assert codec.decode_all(name, 1, _OLD) == (Named("7", "Ada"), Called("7", "+49"))
    with_reason = b'{"id":"7","name":"ada","phone":"","reason":"work"}'
    assert codec.decode_all(name, 2, with_reason) == (Named("7", "Ada"), Moved("7", "work"))


def test_each_reader_gets_its_share() -> None:
    """A reader of one of the classes knows the older event, and gets what it handles of it."""
    codec = EventCodec([Called])
    assert codec.names == ("upcasting.Called", "upcasting.Moved", "upcasting.Relocated")
    assert codec.knows("upcasting.Relocated")
    assert codec.decode_parts("upcasting.Moved", 1, _OLD) == [(1, Called("7", "+49"))]
    assert codec.decode_all("upcasting.Moved", 1, _OLD.replace(b"+49", b"")) == ()
    assert codec.decode_all("upcasting.Moved", 4, b'{"id":"7","reason":"x"}') == ()
    assert not codec.knows("upcasting.Named")


def test_an_event_becomes_none() -> None:
    """An event that its upcaster leaves out is none; to ask for one is an error that says so."""
    codec = EventCodec([Moved])
    assert codec.decode_all("upcasting.Moved", 3, b'{"id":"7","reason":""}') == ()
    with pytest.raises(EventUnreadable, match="it has become 0 events"):
        codec.decode("upcasting.Moved", 3, b'{"id":"7","reason":""}')


def test_a_chain_of_classes() -> None:
    """What becomes another event, which becomes another, is known to readers of the last."""

    @wire("chain.C")
    class C(Event):
        n: int

    @wire("chain.B", version=2)
    class B(Event):
        n: int

    @wire("chain.A", version=2)
    class A(Event):
        n: int

    upcaster(A, from_version=1, into=[B])(lambda content: Upcast(B, 1, content))
    upcaster(B, from_version=1, into=[C])(lambda content: [Upcast(C, 1, {"n": content["n"] + 1})])
    codec = EventCodec([C])
    assert codec.names == ("chain.C", "chain.B", "chain.A")
    assert codec.decode("chain.A", 1, b'{"n":1}') == C(2)


def test_a_circle_ends() -> None:
    """Upcasters that lead round in a circle are found out instead of going on for ever."""

    @wire("circle.A", version=2)
    class A(Event):
        n: int

    @wire("circle.B", version=2)
    class B(Event):
        n: int

    upcaster(A, from_version=1, into=[B])(lambda content: Upcast(B, 1, content))
    upcaster(B, from_version=1, into=[A])(lambda content: [Upcast(A, 1, content)] * 2)
    with pytest.raises(EventUnreadable, match="round in a circle"):
        EventCodec([A]).decode_all("circle.A", 1, b'{"n":1}')


def test_a_source_of_the_same_name_is_refused() -> None:
    """An older event whose name is that of another class of the reader cannot be told apart."""

    @wire("twin.Target")
    class Target(Event):
        n: int

    @wire("twin.Name", version=2)
    class Source(Event):
        n: int

    @wire("twin.Name")
    class Other(Event):
        n: int

    upcaster(Source, from_version=1, into=[Target])(lambda content: Upcast(Target, 1, content))
    with pytest.raises(DeclarationError, match=r"'twin\.Name' belongs to .*Other already"):
        EventCodec([Other, Target])


@pytest.mark.parametrize("into", [[Event], ["Named"], [int]])
def test_only_events_can_be_named(into: Any) -> None:
    """What an event may become is named by event classes."""

    @wire("Becoming", version=2)
    class Becoming(Event):
        n: int

    with pytest.raises(DeclarationError, match="in into= is no event"):
        upcaster(Becoming, from_version=1, into=into)(unchanged)
