"""What is declared on a message class: name, version, tags, target, route."""

from typing import Annotated, Any

import msgspec
import pytest

from headwater.errors import DeclarationError
from headwater.messages import (
    Command,
    Event,
    Query,
    Tag,
    Target,
    message_type,
    route,
    upcaster,
    wire,
)
from headwater.messages.types import Route


class Open(Command):
    account_id: str
    holder: str = ""


class Opened(Event):
    account_id: str
    email: Annotated[str, Tag("email")]
    region: Annotated[str | None, Tag] = None
    branch: Annotated[int, Tag()] = 0


class Balance(Query[int]):
    account_id: str


class Ping(Command):
    pass


def test_name_is_the_class_name() -> None:
    """Without @wire a message is called like its class, at version 1, without its module."""
    kind = message_type(Opened)
    assert (kind.kind, kind.name, kind.version, kind.aliases) == ("event", "Opened", 1, ())


def test_wire_gives_name_version_and_aliases() -> None:
    """@wire states a stable name, a version and former names."""

    @wire("bank.Closed", version=3, aliases=["Closed", "AccountClosed"])
    class Closed(Event):
        id: str

    kind = message_type(Closed)
    assert (kind.name, kind.version) == ("bank.Closed", 3)
    assert kind.aliases == ("Closed", "AccountClosed")


@pytest.mark.parametrize(("name", "version"), [("", 1), ("X", 0), ("X", -1)])
def test_wire_refuses_nonsense(name: str, version: int) -> None:
    """@wire refuses an empty name and a version below 1."""
    with pytest.raises(DeclarationError, match="needs a name and a version from 1"):
        wire(name, version=version)(Opened)
    assert message_type(Opened).version == 1


def test_messages_are_immutable() -> None:
    """A message cannot be changed once it is made."""
    with pytest.raises(AttributeError):
        Open("7").holder = "Eve"  # type: ignore[misc]  # that is the point


def test_tags_are_name_and_value() -> None:
    """A tag reads name:value; it is called like its field unless named; None gives no tag."""
    event = Opened("7", "a@b.example", branch=3)
    assert message_type(Opened).tags_of(event) == ("email:a@b.example", "branch:3")
    tagged = Opened("7", "a@b.example", region="eu")
    assert message_type(Opened).tags_of(tagged) == ("email:a@b.example", "region:eu", "branch:0")


def test_no_tags() -> None:
    """A message without tagged fields has no tags."""
    assert message_type(Open).tags_of(Open("7")) == ()


def test_target_is_the_first_field_or_the_marked_one() -> None:
    """A command is directed at its first field, or at the one marked Target, as text."""

    class Move(Command):
        amount: int
        account_no: Annotated[int, Target]

    assert message_type(Open).target_of(Open("7")) == "7"
    assert message_type(Move).target_of(Move(5, 42)) == "42"
    assert message_type(Ping).target_of(Ping()) == ""


def test_default_routes() -> None:
    """Without @route a command is POST /commands/<Name>, a query GET /queries/<Name>."""
    assert message_type(Open).route == Route("POST", "/commands/Open")
    assert message_type(Balance).route == Route("GET", "/queries/Balance")


def test_route_is_declared() -> None:
    """@route names method and path, and its parameters are fields."""

    @route("PUT /accounts/{account_id}/holders/{holder}")
    class Rename(Command):
        account_id: str
        holder: str

    declared = message_type(Rename).route
    assert declared == Route("PUT", "/accounts/{account_id}/holders/{holder}")
    assert declared.parameters == ("account_id", "holder")


@pytest.mark.parametrize(
    ("spec", "cls"),
    [
        ("GET /accounts", Open),
        ("POST /accounts", Balance),
        ("post /accounts", Open),
        ("POST accounts", Open),
        ("POST", Open),
        ("", Open),
        ("TRACE /accounts", Open),
    ],
)
def test_route_refuses_what_does_not_fit(spec: str, cls: Any) -> None:
    """@route refuses a method that does not fit the message and a path that is none."""
    with pytest.raises(DeclarationError, match=r"must be one of .*, then a path from /"):
        route(spec)(cls)


def test_route_refuses_unknown_parameters() -> None:
    """@route refuses a name in braces that is no field, and lists the fields."""
    with pytest.raises(DeclarationError, match=r"\['id'\], fields are \['account_id', 'holder'\]"):
        route("POST /accounts/{id}")(Open)


def test_query_states_its_answer() -> None:
    """The answer's type of a query is known; also when it is inherited."""

    class Derived(Balance):
        at: int = 0

    assert message_type(Balance).answer is int
    assert message_type(Derived).answer is int
    assert message_type(Open).answer is None


def test_query_without_answer_is_refused() -> None:
    """A query must state the type of its answer."""

    class Vague(Query):  # type: ignore[type-arg]  # that is the point
        id: str

    with pytest.raises(DeclarationError, match=r"class X\(Query\[Answer\]\)"):
        message_type(Vague)


@pytest.mark.parametrize("cls", [int, msgspec.Struct, Command, Event, Query])
def test_only_messages_have_a_message_type(cls: type) -> None:
    """Neither other classes nor the bases themselves are messages."""
    with pytest.raises(DeclarationError, match="is not a Command, Event or Query"):
        message_type(cls)


def test_upcaster_outside_the_versions_is_refused() -> None:
    """An upcaster starts from a version below the event's, and each step is given once."""

    @wire("Moved", version=3)
    class Moved(Event):
        id: str

    upcaster(Moved, from_version=1)(lambda content: content)
    for version in (0, 1, 3):
        with pytest.raises(DeclarationError, match=r"given twice or outside 1\.\.2"):
            upcaster(Moved, from_version=version)(lambda content: content)
