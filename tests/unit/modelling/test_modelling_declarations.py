"""Aggregates and decision models declared wrongly are refused, with the remedy."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest

from headwater.errors import DeclarationError
from headwater.eventstore import NOTHING, EventFilter, FilterItem
from headwater.messages import Command, Event, Tag, wire
from headwater.modelling import Aggregate, DecisionModel, command_handler, event_sourcing_handler
from headwater.modelling.state import aggregate_type, model_type, split_stream


class Open(Command):
    id: str


class Opened(Event):
    id: str


def test_command_handlers_are_pure() -> None:
    """A coroutine as a handler is refused when it is declared."""

    async def handler(self: Any, command: Open) -> None: ...

    for decorator in (command_handler, command_handler(creates=True), event_sourcing_handler):
        with pytest.raises(DeclarationError, match="is pure: declare it without async"):
            decorator(handler)


def test_state_begins_with_defaults() -> None:
    """A field without a default is refused."""

    class Account(Aggregate, kw_only=True):
        owner: str

    with pytest.raises(DeclarationError, match=r"fields \['owner'\] need defaults"):
        aggregate_type(Account)


def test_command_parameter_is_annotated() -> None:
    """A handler whose second parameter is no command is refused."""

    class Vague(Aggregate):
        @command_handler
        def open(self, command) -> Opened:
            return Opened("7")

    class Wrong(Aggregate):
        @command_handler
        def open(self, command: Opened) -> Opened:
            return command

    class Missing(Aggregate):
        @command_handler
        def open(self) -> None: ...

    for cls in (Vague, Wrong, Missing):
        with pytest.raises(DeclarationError, match="annotate its second parameter with a command"):
            aggregate_type(cls)


def test_further_parameters_are_decision_models() -> None:
    """A further parameter that is no decision model is refused by name."""

    class Account(Aggregate):
        @command_handler
        def open(self, command: Open, extra: int) -> None: ...

    with pytest.raises(DeclarationError, match="'extra' must be annotated with a DecisionModel"):
        aggregate_type(Account)


def test_one_handler_each() -> None:
    """Two handlers for one command, or one event, are refused."""

    class TwoCommands(Aggregate):
        @command_handler
        def open(self, command: Open) -> None: ...

        @command_handler
        def again(self, command: Open) -> None: ...

    class TwoEvents(Aggregate):
        @event_sourcing_handler
        def opened(self, event: Opened) -> None: ...

        @event_sourcing_handler
        def again(self, event: Opened) -> None: ...

    with pytest.raises(DeclarationError, match="Open has a handler already"):
        aggregate_type(TwoCommands)
    with pytest.raises(DeclarationError, match="an event type of its own"):
        aggregate_type(TwoEvents)


def test_event_parameter_is_annotated() -> None:
    """An event-sourcing handler without one annotated event is refused."""

    class Vague(Aggregate):
        @event_sourcing_handler
        def opened(self, event) -> None: ...

    class Two(Aggregate):
        @event_sourcing_handler
        def opened(self, event: Opened, more: int) -> None: ...

    for cls in (Vague, Two):
        with pytest.raises(DeclarationError, match="annotate its one parameter with an event"):
            aggregate_type(cls)


def test_annotation_that_cannot_be_resolved() -> None:
    """An annotation that names nothing is refused, saying that types are needed at run time."""

    class Account(Aggregate):
        @command_handler
        def open(self, command: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the point

    with pytest.raises(DeclarationError, match="import the types at run time"):
        aggregate_type(Account)


def test_stream_name() -> None:
    """A stream is called like the class unless stated, and its name holds no slash."""

    class Account(Aggregate):
        pass

    class Renamed(Aggregate):
        stream_name = "Account"

    class Slashed(Aggregate):
        stream_name = "a/b"

    assert aggregate_type(Account).stream("7/x") == "Account/7/x"
    assert split_stream("Account/7/x") == ("Account", "7/x")
    assert aggregate_type(Renamed).stream("7") == "Account/7"
    with pytest.raises(DeclarationError, match="contains no '/'"):
        aggregate_type(Slashed)


def test_two_events_of_one_wire_name() -> None:
    """Two event classes of one wire name in one aggregate are refused."""

    @wire("Opened")
    class AlsoOpened(Event):
        id: str

    class Account(Aggregate):
        @event_sourcing_handler
        def opened(self, event: Opened) -> None: ...

        @event_sourcing_handler
        def also(self, event: AlsoOpened) -> None: ...

    with pytest.raises(DeclarationError, match="'Opened' belongs to"):
        aggregate_type(Account)


def test_fingerprint_follows_the_shape() -> None:
    """The fingerprint is the same for the same fields, and changes with a field's name or type."""

    def account(**hints: Any) -> str:
        cls = type(
            "Account",
            (Aggregate,),
            {"__annotations__": hints, "__module__": __name__, **dict.fromkeys(hints, 0)},
        )
        return aggregate_type(cls).fingerprint

    assert account(total=int) == account(total=int)
    assert len({account(total=int), account(sum=int), account(total=float), account()}) == 4


def test_boundary_of_tags() -> None:
    """Tagged fields draw the boundary: the handled events that carry any of the tags."""

    class Seat(DecisionModel):
        show: Annotated[str, Tag("show")] = ""
        id: Annotated[str, Tag] = ""

        @event_sourcing_handler
        def opened(self, event: Opened) -> None: ...

    class Book(Command):
        show: str
        id: str

    assert Seat.boundary(Book("s", "7")) == EventFilter(
        (FilterItem(("Opened",), ("show:s",)), FilterItem(("Opened",), ("id:7",)))
    )


class Booked(Event):
    day: Annotated[date, Tag("day")]
    seats: Annotated[list[str], Tag("seat")]
    guest: Annotated[UUID, Tag("guest")] | None = None


class Guests(msgspec.Struct):
    names: list[Annotated[str, Tag("name")]] = []


def _deciding(mine: Any, theirs: Any, *, boundary: bool = False) -> Any:
    """Return a decision model with a field ``it``, which decides on a command with one."""
    command: Any = type(Command)("Book", (Command,), {"__annotations__": {"it": theirs}})

    def book(self: Any, command: Any) -> None: ...
    def booked(self: Any, event: Booked) -> None: ...

    book.__annotations__ = {"command": command, "return": None}
    namespace: dict[str, Any] = {
        "__annotations__": {"it": mine},
        "it": None,
        "book": command_handler(book),
        "booked": event_sourcing_handler(booked),
    }
    if boundary:
        namespace["boundary"] = classmethod(lambda cls, command: EventFilter())
    return type(DecisionModel)("Place", (DecisionModel,), namespace)


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        (Annotated[UUID, Tag("t")], date, ", a date, but is a UUID"),
        (Annotated[str, Tag("day")], UUID, "a UUID, but the tag 'day' of its events is a date"),
        (Annotated[int | None, Tag("guest")], Decimal, "'guest' of its events is a UUID"),
        (Annotated[bool, Tag("t")], int | None, "a number, but is a truth value"),
        (Annotated[str, Tag("t")], list[str], "which is list.str., but is"),
        (Annotated[list[str], Tag("seat")] | None, str, "which is <class 'str'>, but is"),
        (Annotated[str, Tag("t")], Guests, "which is .*Guests.*, but is"),
        (Annotated[str, Tag("t")], dict[str, int], "which is dict"),
        (Guests, dict[str, str], "which is dict"),
        (list[Guests], Guests, "which is .*Guests"),
    ],
)
def test_fields_that_never_equal_are_refused(mine: Any, theirs: Any, said: str) -> None:
    """A command's field that cannot have the tags of the model or its events is refused."""
    with pytest.raises(DeclarationError, match=rf"Place\.it: takes Book\.it.*{said}.* declare"):
        model_type(_deciding(mine, theirs))
    assert model_type(_deciding(mine, theirs, boundary=True)).tag_fields == ("it",)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (Annotated[str, Tag("t")], UUID),
        (Annotated[UUID, Tag("t")], str),
        (Annotated[str, Tag("day")], date | None),
        (Annotated[str, Tag("guest")] | None, str),
        (Annotated[int, Tag("t")], float | Decimal | None),
        (Annotated[list[str], Tag("seat")], tuple[UUID, ...]),
        (Annotated[list[str] | str, Tag("seat")], str),
        (Annotated[str, Tag("t")], Any),
        (Guests | None, Guests),
    ],
)
def test_fields_that_can_equal_are_taken(mine: Any, theirs: Any) -> None:
    """A command's field fits when its values can have the tags of the model and its events."""
    assert model_type(_deciding(mine, theirs)).tag_fields == ("it",)


def test_boundary_of_what_is_there() -> None:
    """There is an item for each item of a list, none for None; without any, no event at all."""

    class Place(DecisionModel):
        seats: Annotated[tuple[str, ...], Tag("seat")] = ()
        guest: Annotated[UUID, Tag("guest")] | None = None

        @event_sourcing_handler
        def booked(self, event: Booked) -> None: ...

    class Book(Command):
        seats: list[str]
        guest: str | None = None

    def items(*tags: str) -> EventFilter:
        return EventFilter(tuple(FilterItem(("Booked",), (tag,)) for tag in tags))

    id = "0000000a-0000-0000-0000-00000000000b"
    assert Place.boundary(Book(["b", "a", "b"])) == items("seat:b", "seat:a")
    assert Place.boundary(Book(["a"], id.upper())) == items("seat:a", f"guest:{id}")
    assert Place.boundary(Book([], id)) == items(f"guest:{id}")
    assert Place.boundary(Book([], "no UUID")) == items("guest:no UUID")
    assert Place.boundary(Book([])) == NOTHING
    assert not NOTHING.matches("Booked", ("seat:a",))


def test_command_has_what_its_models_take() -> None:
    """A command without the field that draws a model's boundary is refused at once."""

    class Address(DecisionModel):
        email: Annotated[str, Tag("email")] = ""

    class Account(Aggregate):
        @command_handler
        def open(self, command: Open, address: Address) -> None: ...

    class Alone(DecisionModel):
        email: Annotated[str, Tag("email")] = ""

        @command_handler
        def open(self, command: Open) -> None: ...

    reason = r"takes \['email'\] from the command, but Open has \['id'\]"
    with pytest.raises(DeclarationError, match=reason):
        aggregate_type(Account)
    with pytest.raises(DeclarationError, match=reason):
        model_type(Alone)


def test_model_needs_a_boundary() -> None:
    """A decision model without a tagged field must override boundary()."""

    class Nothing(DecisionModel):
        pass

    class Own(DecisionModel):
        @classmethod
        def boundary(cls, command: Command) -> EventFilter:
            return EventFilter((FilterItem(("Opened",), ()),))

    with pytest.raises(DeclarationError, match="mark a field"):
        model_type(Nothing)
    assert model_type(Own).tag_fields == ()
