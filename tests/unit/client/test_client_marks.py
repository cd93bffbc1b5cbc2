"""What is marked as a header, a query parameter or a body goes there, wherever the mark stands."""

import dataclasses
import datetime as dt
import decimal
import enum
import typing
import uuid
from collections.abc import Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    TypedDict,
    Union,
)

import msgspec
import pytest
from typing_extensions import TypeAliasType

from headwater.client import BodyParam, HeaderParam, QueryParam, Request, client, delete, get, post
from headwater.client.declarations import declaration_of
from headwater.errors import DeclarationError, InvalidInput

SECRET = "hush-7"
Bearer = NewType("Bearer", str)
Marked = NewType("Marked", Annotated[str, HeaderParam("authorization")])  # type: ignore[valid-newtype]  # allowed at run time
Alias = Annotated[str, HeaderParam("authorization")]
T = typing.TypeVar("T")
Lazy = TypeAliasType("Lazy", Annotated[str, HeaderParam("authorization")] | None)
Generic = TypeAliasType("Generic", Annotated[T, HeaderParam("authorization")], type_params=(T,))


def compiled(kind: Any, verb: Any = get, path: str = "/things", default: Any = None) -> Any:
    """Declare a client whose one method has one parameter of a kind; return its endpoint."""

    async def one(self, value=default) -> None: ...

    one.__annotations__["value"] = kind
    cls = type("Things", (Protocol,), {"one": verb(path)(one)})
    return declaration_of(client("things")(cls)).endpoints["one"]


def sent(kind: Any, value: Any, verb: Any = get, path: str = "/things") -> Request:
    """Return the request that carries a value of a kind."""
    request: Request = compiled(kind, verb, path).request(
        {"value": value}, service="things", url=""
    )
    return request


HEADERS: list[Any] = [
    Annotated[str, HeaderParam("authorization")],
    Annotated[str, HeaderParam("authorization")] | None,
    Annotated[str | None, HeaderParam("authorization")],
    Optional[Annotated[str, HeaderParam("authorization")]],  # noqa: UP045  # the older way to say it
    Union[Annotated[str, HeaderParam("authorization")], None],  # noqa: UP007  # the older way to say it
    Annotated[Annotated[str, HeaderParam("authorization")], msgspec.Meta(min_length=1)],
    Annotated[Annotated[str, HeaderParam("authorization")] | None, msgspec.Meta(title="x")],
    Annotated[str, HeaderParam("authorization")] | Annotated[int, HeaderParam("authorization")],
    Annotated[str, HeaderParam("authorization")] | int,
    Annotated[Bearer, HeaderParam("authorization")] | None,
    Alias,
    Alias | None,
    Marked,
    Marked | None,
    Lazy,
    Generic[str],
    Generic[str] | None,
    "Annotated[str, HeaderParam('authorization')] | None",
]


@pytest.mark.parametrize("kind", HEADERS, ids=str)
@pytest.mark.parametrize("verb", [get, post, delete])
def test_a_credential_stays_out_of_the_url(kind: Any, verb: Any) -> None:
    """A header mark counts inside unions, aliases, new types and other marks; None is left out."""
    request = sent(kind, SECRET, verb)
    assert request.headers["authorization"] == SECRET
    assert (request.path, request.body) == ("/things", b"")
    assert "authorization" not in sent(kind, None, verb).headers


class Inner(msgspec.Struct):
    token: Annotated[str, HeaderParam("authorization")]


class Outer(msgspec.Struct):
    inner: list[Inner | None]


@dataclasses.dataclass
class Data:
    token: Annotated[str, HeaderParam("authorization")] | None


class Typed(TypedDict):
    token: Annotated[str, HeaderParam("authorization")]


class Named(NamedTuple):
    token: Annotated[str, HeaderParam("authorization")]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Annotated[str, HeaderParam("a")] | Annotated[int, HeaderParam("b")], "at most one of"),
        (Annotated[str, HeaderParam("a")] | Annotated[int, QueryParam("a")], "at most one of"),
        (Annotated[Annotated[str, HeaderParam("a")] | None, QueryParam("b")], "at most one of"),
        (Annotated[str, HeaderParam] | None, "cannot stand here"),
        (Annotated[str, "authorization"] | None, "cannot stand here"),
        (list[Annotated[str, HeaderParam("a")]], "stands inside"),
        (list[Annotated[str, HeaderParam("a")]] | None, "stands inside"),
        (list[Annotated[str, HeaderParam]], "stands inside"),
        (dict[str, Annotated[str, HeaderParam("a")]], "stands inside"),
        (Sequence[Alias], "stands inside"),
        (tuple[Lazy, ...], "stands inside"),
        (Inner, "stands inside"),
        (Outer, "stands inside"),
        (Annotated[Outer, BodyParam()], "stands inside"),
        (Data | None, "stands inside"),
        (Annotated[list[Typed], BodyParam()], "stands inside"),
        (Annotated[Named, BodyParam()], "stands inside"),
        (Annotated[str, HeaderParam("a b")] | None, "is no name of a header"),
        (Annotated[str, HeaderParam("")], "is no name of a header"),
        (Annotated[str, HeaderParam("a\r\nb")], "is no name of a header"),
        (Annotated[list[str], HeaderParam("a")] | None, "has no text form"),
        (T, "has no text form"),
        (Annotated[T, HeaderParam("a")], "has no text form"),
    ],
    ids=str,
)
def test_marks_that_are_not_understood(kind: Any, words: str) -> None:
    """A mark that would be passed over, or contradicts another, is refused at the declaration."""
    with pytest.raises(DeclarationError, match=words):
        compiled(kind, post)


def test_a_mark_as_default() -> None:
    """A mark in the place of a default, as other frameworks have it, is refused."""
    with pytest.raises(DeclarationError, match="cannot be a default: write it into the annotation"):
        compiled(str, default=HeaderParam("authorization"))


def test_one_header_twice() -> None:
    """Two parameters that would be one header are refused, whatever the case of their names."""

    @get("/")
    async def one(
        self,
        a: Annotated[str, HeaderParam("X-Tenant")],
        b: Annotated[str, HeaderParam("x-tenant")] | None,
    ) -> None: ...

    with pytest.raises(DeclarationError, match="'a' and 'b' would both be header 'x-tenant'"):
        client("things")(type("Things", (Protocol,), {"one": one}))


def test_other_marks_in_unions() -> None:
    """Query names and body marks count inside unions as well."""
    assert sent(Annotated[int, QueryParam("page-size")] | None, 5).path == "/things?page-size=5"
    assert sent(Annotated[int, QueryParam("page-size")] | None, None).path == "/things"
    marked = sent(Annotated[list[int], BodyParam()] | None, [1, 2], post)
    assert (marked.path, marked.body) == ("/things", b"[1,2]")
    with pytest.raises(DeclarationError, match="contradicts the path"):
        compiled(Annotated[str, HeaderParam("a")] | None, path="/{value}")


class Color(enum.Enum):
    RED = "r/1"


class Shape(enum.Enum):
    POINT = (0, 0)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Color, Color.RED, "r%2F1"),
        (Color | None, Color.RED, "r%2F1"),
        (dt.timedelta, dt.timedelta(minutes=1, seconds=30), "PT90S"),
        (dt.datetime, dt.datetime(2026, 2, 1, tzinfo=dt.UTC), "2026-02-01T00%3A00%3A00Z"),
        (decimal.Decimal, decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID, uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (bool, True, "true"),
        (float, 1e22, "1e22"),
        (Literal["a b"], "a b", "a%20b"),
        (Bearer, "+", "%2B"),
    ],
)
def test_texts_in_path_and_query(kind: Any, value: Any, text: str) -> None:
    """Values stand in a URL as they do between own services."""
    assert sent(kind, value, path="/{value}").path == f"/{text}"
    assert sent(kind, value).path == f"/things?value={text}"
    assert sent(list[kind], [value, value]).path == f"/things?value={text}&value={text}"


@pytest.mark.parametrize("kind", [Shape, Shape | None, list[Shape]])
def test_values_without_text(kind: Any) -> None:
    """An enumeration of values that have no text is refused at the declaration."""
    with pytest.raises(DeclarationError, match="has no text form"):
        compiled(kind)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], object()])
def test_a_value_without_text(value: Any) -> None:
    """A value that has no text is refused before it is sent."""
    with pytest.raises(InvalidInput, match="'value'"):
        sent(list[float], value)


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "é", "\x00", "\x7f", "a\u2028b"])
def test_what_no_header_can_hold(value: str) -> None:
    """A header's text is printable ASCII; anything else is refused without repeating it."""
    with pytest.raises(InvalidInput, match="no header can hold") as refused:
        sent(Alias | None, f"{SECRET}{value}")
    assert SECRET not in str(refused.value)
