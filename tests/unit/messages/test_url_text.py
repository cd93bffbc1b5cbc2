"""What values look like in a URL, and what is made of it there."""

import contextlib
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NewType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.messages.url_text import UrlText, text_of


class Color(enum.Enum):
    RED = "r"
    NULL = "null"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Unit(enum.StrEnum):
    METRE = "m"


class Point(msgspec.Struct):
    x: int


AccountId = NewType("AccountId", str)
Positive = Annotated[int, msgspec.Meta(gt=0)]
DURATIONS = st.timedeltas(dt.timedelta(days=-9999), dt.timedelta(days=9999))
ZONES = st.just(dt.UTC) | st.just(dt.timezone(dt.timedelta(hours=-3, minutes=-30)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("a/b ?#%+ü", "a/b ?#%+ü"),
        (Color.RED, "r"),
        (Level.HIGH, "2"),
        (Unit.METRE, "m"),
        (True, "true"),
        (None, "null"),
        (-5, "-5"),
        (1e22, "1e22"),
        (5.0, "5.0"),
        (decimal.Decimal("1.00"), "1.00"),
        (dt.timedelta(minutes=1, seconds=30), "PT90S"),
        (dt.date(2026, 2, 1), "2026-02-01"),
        (dt.time(1, 2), "01:02:00"),
        (dt.datetime(2026, 2, 1, tzinfo=dt.UTC), "2026-02-01T00:00:00Z"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"ab?", "YWI/"),
        (bytearray(b"x"), "eA=="),
    ],
)
def test_text_is_that_of_json(value: Any, text: str) -> None:
    """A value is written as in JSON, without quotes."""
    assert text_of(value) == text
    assert text in {msgspec.json.encode(value).decode(), msgspec.json.encode(value).decode()[1:-1]}


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [1], {"a": 1}, object(), 5j, Point(1)]
)
def test_what_has_no_text(value: Any) -> None:
    """What JSON cannot hold, or holds as more than one value, has no text."""
    with pytest.raises(ValueError, match=r"no text form|unsupported"):
        text_of(value)


HINTS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, st.text()),
    (AccountId, st.text()),
    (int, st.integers()),
    (Positive, st.integers(1)),
    (bool, st.booleans()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (decimal.Decimal, st.decimals(allow_nan=False)),
    (uuid.UUID, st.uuids()),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.datetime, st.datetimes() | st.datetimes(timezones=ZONES)),
    (dt.timedelta, DURATIONS),
    (bytes, st.binary()),
    (bytearray, st.binary().map(bytearray)),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Literal["a", "5", 5], st.sampled_from(["a", 5])),
    (int | None, st.none() | st.integers()),
    (dt.timedelta | None, st.none() | DURATIONS),
    (Level | None, st.none() | st.sampled_from(Level)),
    (int | bool | None, st.none() | st.booleans() | st.integers()),
    (int | float, st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    (int | dt.date, st.integers() | st.dates()),
    (Level | float | uuid.UUID, st.sampled_from(Level) | st.uuids()),
    (Annotated[int, "x"] | Annotated[str, "y"], st.integers() | st.from_regex(r"[a-z ]*\Z")),
]
MANY: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (list[str], st.lists(st.text())),
    (list[int | str], st.lists(st.integers() | st.from_regex(r"[a-z ]+\Z"))),
    (list[int | None], st.lists(st.none() | st.integers())),
    (tuple[dt.timedelta, ...], st.lists(DURATIONS).map(tuple)),
    (tuple[int, str, Color], st.tuples(st.integers(), st.text(), st.sampled_from(Color))),
    (tuple[int | str, bool], st.tuples(st.integers(), st.booleans())),
    (set[int], st.sets(st.integers())),
    (frozenset[Color], st.frozensets(st.sampled_from(Color))),
    (Sequence[float], st.lists(st.floats(allow_nan=False, allow_infinity=False))),
    (list[int] | None, st.lists(st.integers(), min_size=1) | st.none()),
    (list[bytes], st.lists(st.binary())),
]


@given(st.data())
@pytest.mark.parametrize(("hint", "values"), [*HINTS, *MANY], ids=lambda one: str(one)[:40])
def test_what_is_written_is_read(hint: Any, values: st.SearchStrategy[Any], data: Any) -> None:
    """The texts of a value, of any type that has a text form, are read as the same value."""
    form = UrlText(hint, repeated=True)
    value = data.draw(values)
    back = form.read(form.write(value))
    assert back == value
    assert type(back) is type(value)


def is_a(value: Any, hint: Any) -> bool:
    """Whether a value is of a type."""
    try:
        return bool(msgspec.convert(value, hint) == value)
    except msgspec.ValidationError:
        return False


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
AMBIGUOUS = [
    str | None, int | str, bool | str, float | str, int | bytes, bytes | None, Level | str,
    Color | None, (Literal["null", "1", 1] | None), bool | float | Color | None, list[int] | int,
    list[str] | str | None, int | float | bool | str | None, decimal.Decimal | float,
]  # fmt: skip


@given(st.data())
@pytest.mark.parametrize("hint", AMBIGUOUS, ids=str)
def test_what_is_not_read_is_not_written(hint: Any, data: Any) -> None:
    """Where several types may stand, a value arrives as itself or is refused by its sender."""
    form = UrlText(hint, repeated=True)
    value = data.draw(
        ANY | st.sampled_from([*Color, *Level, "null", "true", "5", "1.5", b"\x9e\xe9e"])
    )
    with contextlib.suppress(ValueError):
        back = form.read(form.write(value))
        assert back == value or not is_a(value, hint)


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (str, "5", "5"),
        (str, "true", "true"),
        (str, "null", "null"),
        (str, "", ""),
        (str | None, "null", "null"),
        (str | None, "", ""),
        (int | None, "null", None),
        (int | str, "5", 5),
        (int | str, "-5", -5),
        (int | str, "05", "05"),
        (int | str, "5.0", "5.0"),
        (int | str, "", ""),
        (int | str | None, "null", "null"),
        (bool | str, "true", True),
        (bool | str, "True", "True"),
        (float | str, "1.50", 1.5),
        (float | str, "nan", "nan"),
        (Level | str, "2", Level.HIGH),
        (Level | str, "3", "3"),
        (bool, "1", True),
        (float, "5", 5.0),
        (Any, "5", "5"),
    ],
)
def test_what_a_text_is(hint: Any, text: str, value: Any) -> None:
    """A text is a truth value or a number where one may stand and it is written so, else text."""
    back = UrlText(hint, repeated=True).read([text])
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(
    ("hint", "texts"),
    [
        (int, [""]),
        (int, [" 5"]),
        (int, ["5_0"]),
        (int, ["1", "2"]),
        (int, []),
        (int | None, [""]),
        (float, ["nan"]),
        (float, ["1e400"]),
        (list[float], ["1", "inf"]),
        (int | dt.date, ["five"]),
        (Positive | bool, ["-1"]),
        (Color, ["RED"]),
        (dt.timedelta, ["0:01:30"]),
        (bytes, ["b'ab'"]),
        (tuple[int, str], ["1", "a", "b"]),
        (list[int] | None, ["x"]),
    ],
)
def test_what_is_no_value(hint: Any, texts: list[str]) -> None:
    """Texts that are not of the type are refused."""
    with pytest.raises(msgspec.ValidationError):
        UrlText(hint, repeated=True).read(texts)


@pytest.mark.parametrize(
    "hint", [Point, dict[str, int], list[Point], list[list[int]], Point | None, object, tuple[()]]
)
def test_no_text_form(hint: Any) -> None:
    """A type whose values JSON holds as objects or nested arrays has no text form."""
    with pytest.raises(TypeError):
        UrlText(hint, repeated=True)


def test_sequences_are_several_texts() -> None:
    """A sequence has no text form where there is one text only."""
    with pytest.raises(TypeError, match="list"):
        UrlText(list[int], repeated=False)


def test_a_looser_value_is_written_as_what_it_stands_for() -> None:
    """What is not checked in Python, such as a UUID given as text, goes on working."""
    assert UrlText(uuid.UUID, repeated=False).write(f"{uuid.UUID(int=7)}") == [
        f"{uuid.UUID(int=7)}"
    ]
    assert UrlText(str, repeated=False).write(5) == ["5"]
    assert UrlText(list[int], repeated=True).write((1, 2)) == ["1", "2"]
    with pytest.raises(ValueError, match="would be read as 'null'"):
        UrlText(str, repeated=False).write(None)
