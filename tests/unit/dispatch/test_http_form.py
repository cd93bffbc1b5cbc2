"""Commands and queries as HTTP requests and back."""

import contextlib
import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from headwater.dispatch.http import HttpForm, HttpRequest
from headwater.errors import MalformedMessage
from headwater.messages import Command, Query, route


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Point(msgspec.Struct):
    x: int
    y: int


def fields_of(request: HttpRequest, template: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Take a request apart as a server does: path parameters, query parameters."""
    split = urlsplit(request.path)
    path = {
        name[1:-1]: unquote(text)
        for name, text in zip(template.split("/"), split.path.split("/"), strict=True)
        if name.startswith("{")
    }
    return path, parse_qs(split.query, keep_blank_values=True, strict_parsing=bool(split.query))


@route("POST /things/{thing_id}/{number}/parts")
class ChangeThing(Command):
    thing_id: str
    number: int
    text: str
    ratio: float
    flag: bool
    day: dt.date
    at: dt.datetime
    price: decimal.Decimal
    key: uuid.UUID
    size: Size
    points: list[Point]
    named: dict[str, int]
    maybe: int | None = None
    kind: Literal["a", "b"] = "a"


ID = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1)
COMMANDS = st.builds(
    ChangeThing,
    thing_id=ID,
    number=st.integers(-(2**63), 2**63 - 1),
    text=st.text(),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    day=st.dates(),
    at=st.datetimes(timezones=st.just(dt.UTC)),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    key=st.uuids(),
    size=st.sampled_from(Size),
    points=st.lists(st.builds(Point, st.integers(-9, 9), st.integers(-9, 9)), max_size=3),
    named=st.dictionaries(st.text(), st.integers(-9, 9), max_size=3),
    maybe=st.none() | st.integers(-9, 9),
    kind=st.sampled_from(["a", "b"]),
)


@given(COMMANDS)
def test_command_round_trip(command: ChangeThing) -> None:
    """A command comes out of its request as it went in, for every type of field."""
    form = HttpForm(ChangeThing)
    request = form.request(command)
    path, _ = fields_of(request, form.route.path)
    assert request.method == "POST"
    assert form.command(path, request.body) == command


class Declare(Command):
    id: str
    amount: Annotated[int, Meta(ge=0)]
    tags: tuple[str, ...] = ()


@given(st.builds(Declare, st.text(), st.integers(0, 2**53), st.lists(st.text()).map(tuple)))
def test_command_without_parameters_round_trip(command: Declare) -> None:
    """A command on the default route travels in the body as a whole."""
    form = HttpForm(Declare)
    request = form.request(command)
    assert (request.method, request.path) == ("POST", "/commands/Declare")
    assert form.command({}, request.body) == command


@route("GET /things/{thing_id}")
class FindThings(Query[list[str]]):
    thing_id: str
    text: str = ""
    number: int = 0
    ratio: float = 0.0
    flag: bool = False
    day: dt.date | None = None
    at: dt.datetime | None = None
    price: decimal.Decimal = decimal.Decimal(0)
    key: uuid.UUID | None = None
    size: Size = Size.SMALL
    texts: tuple[str, ...] = ()
    numbers: list[int] = msgspec.field(default_factory=list)
    maybe: int | None = None
    kind: Literal["a", "b"] = "a"


QUERIES = st.builds(
    FindThings,
    thing_id=ID,
    text=st.text(),
    number=st.integers(-(2**63), 2**63 - 1),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    day=st.none() | st.dates(),
    at=st.none() | st.datetimes(timezones=st.just(dt.UTC)),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    key=st.none() | st.uuids(),
    size=st.sampled_from(Size),
    texts=st.lists(st.text(), max_size=3).map(tuple),
    numbers=st.lists(st.integers(-9, 9), max_size=3),
    maybe=st.none() | st.integers(-9, 9),
    kind=st.sampled_from(["a", "b"]),
)


@given(QUERIES)
def test_query_round_trip(query: FindThings) -> None:
    """A query comes out of its request as it went in, for every type of field."""
    form = HttpForm(FindThings)
    request = form.request(query)
    path, parameters = fields_of(request, form.route.path)
    assert (request.method, request.body) == ("GET", b"")
    assert form.query(path, parameters) == query


def test_defaults_do_not_travel() -> None:
    """A query's fields that have their default are left out of the query string."""
    request = HttpForm(FindThings).request(FindThings("a/b ?ü", flag=True))
    assert request.path == "/things/a%2Fb%20%3F%C3%BC?flag=true"


def test_identifiers_are_encoded() -> None:
    """An id with slashes, dots or percent signs stays one path segment and comes back."""
    form = HttpForm(FindThings)
    for id in ("a/b", "...", "100%", "a?b#c", "é 😀", "%2F"):
        request = form.request(FindThings(id))
        assert request.path.count("/") == 2
        path, _ = fields_of(request, form.route.path)
        assert form.query(path, {}).thing_id == id


class Window(Query[int]):
    width: int | None = 5
    shape: str | None = "round"
    panes: tuple[int, ...] = (1,)


def test_none_beside_another_default() -> None:
    """None travels as null where another value is the default."""
    form = HttpForm(Window)
    request = form.request(Window(width=None))
    assert request.path == "/queries/Window?width=null"
    assert form.query({}, {"width": ["null"]}) == Window(width=None)


@pytest.mark.parametrize("query", [Window(shape=None), Window(panes=())])
def test_what_a_query_string_cannot_say(query: Window) -> None:
    """A value that would silently arrive as the default is refused before it is sent."""
    with pytest.raises(MalformedMessage, match="cannot be told from its default"):
        HttpForm(Window).request(query)


PATH = {"thing_id": "7", "number": "5"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "missing"),
        (b"{", "truncated"),
        (b"nonsense", "malformed"),
        (b"[]", "array"),
        (b"null", "null"),
        (b'"text"', "str"),
        (b"{} {}", "trailing"),
        (b'{"text": 5}', "Expected `str`, got `int`"),
        (b'{"flag": "yes"}', "Expected `bool`"),
        (b'{"text": "\xff"}', ""),
        (b'{"size": "xl"}', "xl"),
        (b'{"kind": "c"}', "c"),
        (b'{"texx": "a"}', r"unknown \['texx'\]"),
        (b'{"thing_id": "8"}', r"\['thing_id'\] given in the path and again beside it"),
        (b'{"points": [{"x": 1}]}', "missing required field `y`"),
    ],
)
def test_malformed_command(body: bytes, reason: str) -> None:
    """A body that does not fit is refused with the command's name and what was wrong."""
    with pytest.raises(MalformedMessage, match=f"command 'ChangeThing' is malformed.*{reason}"):
        HttpForm(ChangeThing).command(PATH, body)


def test_malformed_path_parameter() -> None:
    """A path parameter of the wrong type is refused by name."""
    with pytest.raises(MalformedMessage, match=r"number='five'.*Expected `int`"):
        HttpForm(ChangeThing).command({"thing_id": "7", "number": "five"}, b"{}")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "missing required field `id`"),
        (b"{}", "missing required field `id`"),
        (b'{"id": "7"}', "missing required field `amount`"),
        (b'{"id": "7", "amount": -1}', "`int` >= 0"),
        (b'{"id": "7", "amount": 1.5}', "Expected `int`"),
        (b'{"id": "7", "amount": 1, "x": 2}', r"unknown \['x'\], known are \['id', 'amount'"),
        (b"[1]", "Expected `object`"),
        (b"nonsense", "malformed"),
        (b"\xff\xfe", ""),
    ],
)
def test_malformed_command_in_the_body(body: bytes, reason: str) -> None:
    """A whole command in the body is held to the same rules."""
    with pytest.raises(MalformedMessage, match=f"command 'Declare' is malformed.*{reason}"):
        HttpForm(Declare).command({}, body)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"number": ["five"]}, "number='five'"),
        ({"number": [""]}, "number=''"),
        ({"number": ["1", "2"]}, "number is given 2 times"),
        ({"flag": ["maybe"]}, "flag='maybe'"),
        ({"day": ["2026-02-30"]}, "day='2026-02-30'"),
        ({"size": ["xl"]}, "size='xl'"),
        ({"limt": ["5"]}, r"unknown \['limt'\], known are \['thing_id'"),
        ({"thing_id": ["8"]}, "given in the path and again beside it"),
        ({"numbers": ["1", "x"]}, "numbers is given 2 times"),
    ],
)
def test_malformed_query(parameters: dict[str, list[str]], reason: str) -> None:
    """A parameter that does not fit is refused with the query's name and what was wrong."""
    with pytest.raises(MalformedMessage, match=f"query 'FindThings' is malformed.*{reason}"):
        HttpForm(FindThings).query({"thing_id": "7"}, parameters)


def test_missing_parameter() -> None:
    """A query without a required parameter is refused."""

    class Search(Query[int]):
        text: str

    with pytest.raises(MalformedMessage, match=r"missing \['text'\]"):
        HttpForm(Search).query({}, {})


def test_constraint_on_a_parameter() -> None:
    """A constraint of a field holds for its parameter."""

    class Listing(Query[int]):
        limit: Annotated[int, Meta(ge=1, le=100)] = 10

    form = HttpForm(Listing)
    assert form.query({}, {"limit": ["100"]}) == Listing(100)
    with pytest.raises(MalformedMessage, match=r"limit='101'.*`int` <= 100"):
        form.query({}, {"limit": ["101"]})


NAMES = st.sampled_from(["text", "number", "flag", "day", "x"])


@given(st.dictionaries(NAMES, st.lists(st.text())))
def test_any_parameters_are_a_query_or_refused(parameters: dict[str, Any]) -> None:
    """No query string raises anything but MalformedMessage."""
    with contextlib.suppress(MalformedMessage):
        assert isinstance(HttpForm(FindThings).query({"thing_id": "7"}, parameters), FindThings)


@given(st.binary())
def test_any_body_is_a_command_or_refused(body: bytes) -> None:
    """No body raises anything but MalformedMessage."""
    for cls, path in ((ChangeThing, PATH), (Declare, {})):
        with contextlib.suppress(MalformedMessage):
            assert isinstance(HttpForm(cls).command(path, body), cls)


def test_numbers_without_json_are_not_sent() -> None:
    """A command with a number that JSON would turn into null is not sent."""

    class Measure(Command):
        gauge: str
        value: float | None = None
        others: Any = None

    for measure, told in (
        (Measure("a", float("inf")), "value is inf, which has no form in JSON"),
        (Measure("a", others=[{"x": float("nan")}]), "others[0]['x'] is nan, which has no form"),
    ):
        with pytest.raises(MalformedMessage) as caught:
            HttpForm(Measure).request(measure)
        assert told in str(caught.value)
    assert HttpForm(Measure).request(Measure("a", 1.0)).body


def test_whole_numbers_of_a_query_have_64_bits() -> None:
    """A number of more than 64 bits in a path or query string is refused, however it is placed."""

    @route("GET /counts/{least}")
    class Counts(Query[int]):
        least: int
        most: int | None = None
        some: tuple[int, ...] = ()
        real: float = float("-inf")
        text: str = ""

    form = HttpForm(Counts)
    large = str(2**63)
    for path, parameters in (
        (large, {}),
        ("-9223372036854775809", {}),
        ("1", {"most": [large]}),
        ("1", {"some": ["1", large]}),
    ):
        with pytest.raises(MalformedMessage, match="more than 64 bits"):
            form.query({"least": path}, parameters)
    kept = form.query({"least": str(-(2**63))}, {"some": [str(2**63 - 1)], "text": ["9" * 30]})
    assert kept == Counts(-(2**63), some=(2**63 - 1,), text="9" * 30)
