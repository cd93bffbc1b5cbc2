"""One name of each field over HTTP: the encoded one."""

from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from headwater.dispatch.http import HttpForm
from headwater.errors import DeclarationError, MalformedMessage
from headwater.messages import Command, Event, Query, Target, message_type, route
from headwater.messages.codec import EventCodec
from headwater.service.openapi import openapi_document


def dotted(name: str) -> str:
    return name.replace("_", ".")


def named(rename: Any) -> str:
    return str(getattr(rename, "__name__", rename))


RENAMES: list[Any] = [
    "camel",
    "kebab",
    "pascal",
    "upper",
    {"account_id": "kontoNummer", "cents_paid": "betrag"},
    dotted,
]


def declared(rename: Any, spec: str = "") -> type[Command]:
    """Declare a command with a rename, and a route if one is given."""

    class Pay(Command, rename=rename):
        account_id: str
        cents_paid: int = 0

    return route(spec)(Pay) if spec else Pay


def encoded(cls: Any) -> list[str]:
    """Return the names that msgspec writes."""
    return [field.encode_name for field in msgspec.structs.fields(cls)]


def operation(cls: Any) -> tuple[str, dict[str, Any]]:
    """Return path and operation of a message in the OpenAPI document."""
    of_kind = ([cls], []) if message_type(cls).kind == "command" else ([], [cls])
    ((path, methods),) = openapi_document("t", "1", *of_kind)["paths"].items()
    return path, next(iter(methods.values()))


@pytest.mark.parametrize("rename", RENAMES, ids=named)
def test_a_renamed_command_in_the_body(rename: Any) -> None:
    """A command in the body goes by the names of the OpenAPI document, and by no others."""
    cls = declared(rename)
    form, names = HttpForm(cls), encoded(cls)
    _, described = operation(cls)
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    assert list(schema["properties"]) == names
    assert schema["required"] == names[:1]
    request = form.request(cls("7", 5))
    assert msgspec.json.decode(request.body) == dict(zip(names, ["7", 5], strict=True))
    assert form.command({}, request.body) == cls("7", 5)
    with pytest.raises(MalformedMessage, match="missing required field"):
        form.command({}, b'{"account_id": "7"}')
    with pytest.raises(MalformedMessage, match=r"unknown \['cents_paid'\]") as refused:
        form.command({}, msgspec.json.encode({names[0]: "7", "cents_paid": 5}))
    assert str(names) in str(refused.value)


@pytest.mark.parametrize("rename", RENAMES, ids=named)
@pytest.mark.parametrize("written", ["python", "encoded"])
def test_a_renamed_command_in_the_path(rename: Any, written: str) -> None:
    """A path names a field either way; OpenAPI, registry and request have its encoded name."""
    names = encoded(declared(rename))
    name = "account_id" if written == "python" else names[0]
    cls = declared(rename, f"POST /accounts/{{{name}}}/payments")
    form = HttpForm(cls)
    path, described = operation(cls)
    assert path == form.route.path == f"/accounts/{{{names[0]}}}/payments"
    assert form.key == names[0]
    assert [p["name"] for p in described["parameters"] if p["in"] == "path"] == names[:1]
    content = described["requestBody"]["content"]["application/json"]["schema"]
    assert list(content["properties"]) == names[1:]
    request = form.request(cls("7", 5))
    assert request.path == "/accounts/7/payments"
    assert msgspec.json.decode(request.body) == {names[1]: 5}
    assert form.command({names[0]: "7"}, request.body) == cls("7", 5)
    with pytest.raises(MalformedMessage, match=r"unknown \['cents_paid'\]"):
        form.command({names[0]: "7"}, b'{"cents_paid": 5}')
    with pytest.raises(MalformedMessage, match="given in the path and again beside it"):
        form.command({names[0]: "7"}, msgspec.json.encode({names[0]: "8"}))


@pytest.mark.parametrize("rename", RENAMES, ids=named)
def test_a_renamed_query(rename: Any) -> None:
    """A query string goes by the names of the OpenAPI document, and by no others."""

    class Find(Query[int], rename=rename):
        account_id: str
        cents_paid: int = 0

    cls = route("GET /accounts/{account_id}/payments")(Find)
    form, names = HttpForm(cls), encoded(cls)
    _, described = operation(cls)
    assert [p["name"] for p in described["parameters"] if p["in"] != "header"] == names
    request = form.request(cls("7", 5))
    assert parse_qs(urlsplit(request.path).query) == {names[1]: ["5"]}
    assert form.query({names[0]: "7"}, {names[1]: ["5"]}) == cls("7", 5)
    with pytest.raises(MalformedMessage, match=r"unknown \['cents_paid'\]"):
        form.query({names[0]: "7"}, {"cents_paid": ["5"]})
    with pytest.raises(MalformedMessage, match=f"{names[1]}='five'"):
        form.query({names[0]: "7"}, {names[1]: ["five"]})
    with pytest.raises(MalformedMessage, match=rf"missing \['{names[0]}'\]"):
        form.query({}, {})


def test_a_field_with_a_name_of_its_own() -> None:
    """``msgspec.field(name=)`` is a rename of one field; a `Target` may have one."""

    @route("POST /orders/{no}/lines")
    class AddLine(Command):
        text: str
        number: Annotated[int, Target()] = msgspec.field(name="no")

    form = HttpForm(AddLine)
    assert (form.key, form.route.path) == ("no", "/orders/{no}/lines")
    request = form.request(AddLine("pen", 7))
    assert (request.path, request.body) == ("/orders/7/lines", b'{"text":"pen"}')
    assert form.command({"no": "7"}, request.body) == AddLine("pen", 7)
    assert form.kind.target_of(AddLine("pen", 7)) == "7"


def test_exchanged_names_are_ambiguous_in_a_path() -> None:
    """A name that is one field's in Python and another's over HTTP is refused, naming both."""

    class Move(Command, rename={"source": "target", "target": "source"}):
        source: str
        target: str

    with pytest.raises(DeclarationError, match=r"'target'.*\('source', 'target'\): rename one"):
        route("POST /moves/{target}")(Move)
    form = HttpForm(Move)  # in the body they are clear
    assert form.command({}, form.request(Move("a", "b")).body) == Move("a", "b")


@pytest.mark.parametrize("name", ["a/b", "a b", "a:path", "1st", "a%", "é?"])
def test_a_name_that_no_path_can_hold(name: str) -> None:
    """A field whose encoded name cannot stand in braces is refused in a path."""
    with pytest.raises(DeclarationError, match="cannot stand in braces"):
        declared({"account_id": name}, "POST /accounts/{account_id}")


def test_no_field() -> None:
    """A name in braces that is no field is refused, with those that there are."""
    with pytest.raises(
        DeclarationError, match=r"names \['id'\], fields are \['accountId', 'centsPa"
    ):
        declared("camel", "POST /accounts/{id}")


def test_arrays_and_tags() -> None:
    """Over HTTP a message is an object of its names, also when JSON elsewhere has it otherwise."""

    class Row(Command, array_like=True, rename="camel"):
        account_id: str
        cents_paid: int = 0

    class Tagged(Command, tag="paid", rename="camel"):
        account_id: str
        cents_paid: int = 0

    class TaggedRow(Command, tag="paid", array_like=True, rename="camel"):
        account_id: str
        cents_paid: int = 0

    for cls in (Row, Tagged, TaggedRow):
        for spec in ("", "POST /accounts/{accountId}"):
            made = route(spec)(cls) if spec else cls
            form = HttpForm(made)
            request = form.request(made("7", 5))
            path = {"accountId": "7"} if spec else {}
            body = msgspec.json.decode(request.body)
            assert form.command(path, request.body) == made("7", 5)
            _, described = operation(made)
            schema = described["requestBody"]["content"]["application/json"]["schema"]
            assert set(body) == set(schema["properties"])
    with pytest.raises(MalformedMessage, match="type: invalid value 'x', expected 'paid'"):
        HttpForm(Tagged).command({"accountId": "7"}, b'{"type": "x"}')


def test_what_is_unset_does_not_travel() -> None:
    """A field that is UNSET is left out, in the body beside a path as elsewhere."""

    @route("PATCH /accounts/{account_id}")
    class Change(Command):
        account_id: str
        holder: str | msgspec.UnsetType | None = msgspec.UNSET

    class Find(Query[int]):
        holder: str | msgspec.UnsetType = msgspec.UNSET

    form = HttpForm(Change)
    assert form.request(Change("7")).body == b"{}"
    assert form.command({"account_id": "7"}, b"{}") == Change("7")
    assert form.command({"account_id": "7"}, b'{"holder": null}') == Change("7", None)
    assert HttpForm(Find).request(Find()).path == "/queries/Find"
    assert HttpForm(Find).query({}, {"holder": ["Eve"]}) == Find("Eve")


def test_a_check_of_the_message_itself() -> None:
    """What ``__post_init__`` refuses is a malformed message, wherever its fields travelled."""

    @route("POST /accounts/{account_id}")
    class Pay(Command):
        account_id: str
        cents: int = 0

        def __post_init__(self) -> None:
            if self.cents == 13:
                msg = "13 cents bring bad luck"
                raise ValueError(msg)

    with pytest.raises(MalformedMessage, match="bad luck"):
        HttpForm(Pay).command({"account_id": "7"}, b'{"cents": 13}')


class Point(msgspec.Struct):
    x: int


@pytest.mark.parametrize("kind", [Point, list[int], dict[str, int], tuple[int, ...], Point | None])
def test_what_no_path_can_hold(kind: Any) -> None:
    """A field without a text form is refused in a path when the route is declared."""

    class Draw(Command):
        at: kind

    with pytest.raises(DeclarationError, match=r"Draw: field 'at' stands in the path.*take it out"):
        route("POST /drawings/{at}")(Draw)
    assert HttpForm(Draw).route.path == "/commands/Draw"  # in the body it is fine


@pytest.mark.parametrize("kind", [Point, dict[str, int], list[Point], list[list[int]]])
def test_what_no_query_string_can_hold(kind: Any) -> None:
    """A query with a field without a text form is refused when the service starts."""

    class Find(Query[int]):
        at: kind

    with pytest.raises(DeclarationError, match="Find: field 'at' stands in the query string"):
        HttpForm(Find)


def test_a_type_declared_further_down() -> None:
    """A route on a class whose types come later is looked at when the service starts."""

    class Draw(Command):
        at: "Later"  # noqa: F821  # declared further down, in a test's function nowhere

    assert route("POST /drawings/{at}")(Draw) is Draw


@route("GET /things/{id}")
class Thing(Query[int]):
    id: str | None
    size: float = 0.0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (Thing(""), "id='' would name another resource"),
        (Thing("."), "id='.' would name another resource"),
        (Thing(".."), r"id='\.\.' would name another resource"),
        (Thing(None), "id=None would be read as 'null'"),
        (Thing("7", float("nan")), "size=nan nan has no text form"),
        (Thing("\ud800"), "surrogates not allowed"),
    ],
)
def test_what_would_arrive_as_something_else(query: Thing, words: str) -> None:
    """A value that would arrive as another one, or at another resource, is refused before."""
    with pytest.raises(MalformedMessage, match=words) as refused:
        HttpForm(Thing).request(query)
    assert refused.value.outcome == "not stored"


@pytest.mark.parametrize("rename", RENAMES, ids=named)
def test_renamed_events_are_stored_and_read(rename: Any) -> None:
    """Events with a rename are stored by their encoded names; Python's name their fields."""

    class Paid(Event, rename=rename):
        account_id: str
        cents_paid: int

    codec = EventCodec([Paid])
    stored = msgspec.json.encode(Paid("7", 5))
    assert list(msgspec.json.decode(stored)) == encoded(Paid)
    assert codec.decode("Paid", 1, stored) == Paid("7", 5)
