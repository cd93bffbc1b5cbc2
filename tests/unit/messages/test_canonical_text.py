"""The canonical text of values: equal ones have equal texts, others of a type do not."""

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InvalidInput
from headwater.messages import Tag, canonical_text
from headwater.messages.text import TAKES, has_text, text_kind

BERLIN, TOKYO = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Tokyo")


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Kind(enum.StrEnum):
    SHOP = "shop"
    HOME = "home"


class Mixed(str, enum.Enum):  # noqa: UP042 - older code has these
    A = "a"
    B = "b"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Email(str):  # noqa: SLOT000 - a plain subclass
    def __str__(self) -> str:
        return "hidden"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("Köln \0", "Köln \0"),
        (Email("a@b"), "a@b"),
        (0, "0"),
        (-7, "-7"),
        (2**64, "18446744073709551616"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (1e23, "99999999999999991611392"),
        (Decimal("1.00"), "1"),
        (Decimal("-0"), "0"),
        (Decimal("1E+3"), "1000"),
        (Decimal("12.340"), "12.34"),
        (Decimal("-0.00100"), "-0.001"),
        (Decimal("1E+999999"), "1E999999"),
        (Decimal("-12E-999999"), "-12E-999999"),
        (True, "true"),
        (False, "false"),
        (Colour.RED, "red"),
        (Level.HIGH, "2"),
        (Kind.SHOP, "shop"),
        (Mixed.A, "a"),
        (Rights.READ | Rights.WRITE, "3"),
        (uuid.UUID("ABCDEF00-0000-0000-0000-000000000001"), "abcdef00-0000-0000-0000-000000000001"),
        (dt.date(2024, 2, 29), "2024-02-29"),
        (dt.datetime(2024, 2, 29, 13, 0, tzinfo=BERLIN), "2024-02-29T12:00:00Z"),
        (dt.datetime(2024, 2, 29, 21, 0, 0, 5, tzinfo=TOKYO), "2024-02-29T12:00:00.000005Z"),
        (dt.datetime(2024, 2, 29, 12, 0), "2024-02-29T12:00:00"),  # noqa: DTZ001 - without a zone
        (dt.time(12, 30), "12:30:00"),
        (dt.time(12, 30, tzinfo=dt.UTC), "12:30:00Z"),
        (dt.time(14, 30, tzinfo=dt.timezone(dt.timedelta(hours=2))), "12:30:00Z"),
        (dt.time(1, 0, tzinfo=dt.timezone(dt.timedelta(hours=2))), "-01:00:00Z"),
        (dt.timedelta(minutes=1.5), "PT90S"),
        (dt.timedelta(microseconds=-1), "-PT0.000001S"),
        (dt.timedelta(), "PT0S"),
        (b"ab\xff\xff", "YWL//w=="),
        (bytearray(b"ab"), "YWI="),
    ],
)
def test_the_text_of_each_type(value: Any, text: str) -> None:
    """Each type has one text, which is stored and so never changes."""
    assert canonical_text(value) == text
    assert type(canonical_text(value)) is str
    assert Tag("it").of(value) == f"it:{text}"
    assert has_text(value)


_ZONES = [None, dt.UTC, *(dt.timezone(dt.timedelta(minutes=m)) for m in (-720, -30, 90, 120, 840))]
_NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=-3, max_value=3),
    st.integers().map(lambda n: n * 10**395),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-20, 20).map(float),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.tuples(st.integers(-30, 30), st.integers(-3, 3)).map(
        lambda pair: Decimal(pair[0]).scaleb(pair[1])
    ),
)
_TIMES = st.builds(
    dt.time,
    st.integers(0, 23),
    st.sampled_from([0, 30]),
    st.sampled_from([0, 59]),
    st.sampled_from([0, 1]),
    st.sampled_from(_ZONES),
)
_INSTANTS = st.builds(
    dt.datetime,
    st.just(2024),
    st.integers(2, 3),
    st.integers(1, 2),
    st.sampled_from([0, 1, 22, 23]),
    st.sampled_from([0, 30]),
    tzinfo=st.sampled_from(_ZONES),
)
_BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text() | st.sampled_from([*Colour, *Kind, *Mixed]),
    "number": _NUMBERS,
    "truth value": st.booleans(),
    "enumeration": st.sampled_from(Level) | st.sampled_from(Rights),
    "UUID": st.uuids() | st.integers(0, 3).map(lambda n: uuid.UUID(int=n)),
    "date": st.dates() | st.dates(dt.date(2024, 1, 1), dt.date(2024, 1, 3)),
    "date and time": _INSTANTS
    | st.datetimes(dt.datetime(2, 1, 1), timezones=st.sampled_from(_ZONES)),  # noqa: DTZ001
    "time": _TIMES,
    "duration": st.timedeltas() | st.integers(-3, 3).map(lambda n: dt.timedelta(seconds=n)),
    "bytes": st.binary(max_size=3) | st.binary(max_size=3).map(bytearray),
}


@pytest.mark.parametrize("kind", _BY_TYPE)
@given(data=st.data())
def test_equal_values_have_equal_texts(kind: str, data: st.DataObject) -> None:
    """Two values are equal if and only if their texts are, within one type of values."""
    first, second = data.draw(_BY_TYPE[kind]), data.draw(_BY_TYPE[kind])
    if first == second:
        assert canonical_text(first) == canonical_text(second)
    if type(first) is type(second):
        assert (first == second) == (canonical_text(first) == canonical_text(second))


_POOLS: dict[str, list[Any]] = {
    "number": [
        *(n for n in (0, 1, 10, -1, 100)),
        *(0.0, -0.0, 1.0, 10.0, 0.1, 100.0, 1e22, 1e23, 0.5),
        *map(Decimal, ("0", "-0", "0.00", "1", "1.0", "1E1", "10", "0.1", "0.10", "1E+2", "0.5")),
        *(10**22, int(1e23), Decimal("1E+22"), Decimal(int(1e23))),
    ],
    "time": [
        dt.time(hour, minute, tzinfo=zone)
        for hour in (0, 1, 23)
        for minute in (0, 30)
        for zone in _ZONES
    ],
    "date and time": [
        dt.datetime(2024, 2, day, hour, tzinfo=zone)
        for day in (28, 29)
        for hour in (0, 2, 12, 14)
        for zone in [*_ZONES, BERLIN, TOKYO]
    ],
    "duration": [dt.timedelta(seconds=s) for s in (0, 1, 60, -1)]
    + [dt.timedelta(minutes=1), dt.timedelta(days=-1, seconds=86399), dt.timedelta(0, 0, 10)],
    "UUID": [uuid.UUID(int=1), uuid.UUID(str(uuid.UUID(int=1)).upper()), uuid.UUID(int=2)],
    "enumeration": [*Colour, *Level, *Kind, *Mixed, *Rights],
    "text": ["", "a", "A", "ä", "a\u0308", "a ", *Mixed],
    "bytes": [b"", b"a", bytearray(b"a"), b"A"],
}


@pytest.mark.parametrize("kind", _POOLS)
def test_of_all_pairs_the_equal_ones_have_equal_texts(kind: str) -> None:
    """Of values that are easily mistaken, exactly the equal ones of a type have equal texts."""
    pool = _POOLS[kind]
    texts = [canonical_text(value) for value in pool]
    for first, text in zip(pool, texts, strict=True):
        for second, other in zip(pool, texts, strict=True):
            if first == second or type(first) is type(second):
                assert (first == second) == (text == other), (first, second)


@given(st.integers() | st.integers(-300, 300).map(lambda n: n * 10**20), st.integers(0, 30))
def test_equal_numbers_of_other_types_have_equal_texts(number: int, places: int) -> None:
    """A whole number is one text, as an int, a float or a Decimal of any number of places."""
    _, digits, _ = Decimal(number * 10**places).as_tuple()
    same = [Decimal((int(number < 0), digits, -places)), Decimal(number)]
    same += [float(number)] if float(number) == number else []
    assert {canonical_text(value) for value in same} == {canonical_text(number)}


def test_one_instant_in_two_zones() -> None:
    """An instant has one text, in whichever zone it is written."""
    noon = dt.datetime(2024, 7, 1, 12, 0, tzinfo=dt.UTC)
    texts = {canonical_text(noon.astimezone(zone)) for zone in (dt.UTC, BERLIN, TOKYO)}
    assert texts == {"2024-07-01T12:00:00Z"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        [],
        ("a",),
        {"a": 1},
        object(),
        1j,
        str,
    ],
)
def test_what_has_no_text_is_refused(value: Any) -> None:
    """A value without a text is refused, and shown together with what has one."""
    with pytest.raises(InvalidInput, match=r"has no canonical text: text, numbers, truth values"):
        canonical_text(value)


def test_a_long_value_is_cut_off_in_the_error() -> None:
    """The error stays readable whatever the value."""
    with pytest.raises(InvalidInput) as raised:
        canonical_text(list(range(10_000)))  # type: ignore[arg-type]  # the fault
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("kind", TAKES)
@given(data=st.data())
def test_each_kind_is_known_by_its_types(kind: str, data: st.DataObject) -> None:
    """The kind of a class is that of its values, and one type takes the text of the whole kind."""
    value = data.draw(_BY_TYPE[kind])
    assert text_kind(type(value)) == kind
    assert text_kind(TAKES[kind]) == kind


def test_what_has_no_kind() -> None:
    """Classes whose values have no text, and what is no class, have no kind."""
    assert [text_kind(cls) for cls in (list, dict, object, None, "str", list[str])] == [""] * 6
    assert [text_kind(cls) for cls in (Colour, Kind, Level, Rights)] == ["text"] * 2 + [
        "number"
    ] * 2
