"""given/when/then: what it accepts, and what its failures look like."""

from typing import Annotated

import pytest
from msgspec import Meta

from headwater.errors import (
    AggregateExists,
    AggregateNotFound,
    DeclarationError,
    MalformedMessage,
    Rejection,
)
from headwater.messages import Command, Event, Tag
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Events,
    command_handler,
    event_sourcing_handler,
)
from headwater.testing import given


class Register(Command):
    user_id: str
    email: str
    age: Annotated[int, Meta(ge=0)] = 20


class Rename(Command):
    user_id: str
    names: tuple[str, ...] = ()


class Reserve(Command):
    email: str


class Ignored(Command):
    user_id: str


class Registered(Event):
    user_id: str
    email: Annotated[str, Tag("email")]


class Renamed(Event):
    user_id: str
    name: str


class EmailTaken(Rejection):
    email: str
    template = "{email!r} is taken: use another one"


class Address(DecisionModel):
    email: Annotated[str, Tag("email")] = ""
    owner: str = ""

    @command_handler
    def reserve(self, command: Reserve) -> Registered:
        if self.owner:
            raise EmailTaken(email=command.email)
        return Registered("nobody", command.email)

    @event_sourcing_handler
    def registered(self, event: Registered) -> None:
        self.owner = event.user_id


class User(Aggregate):
    name: str = ""
    renames: int = 0

    @command_handler(creates=True)
    def register(self, command: Register, address: Address) -> Registered:
        if address.owner:
            raise EmailTaken(email=command.email)
        return Registered(command.user_id, command.email)

    @command_handler
    def rename(self, command: Rename) -> Events:
        if "impure" in command.names:
            self.renames += 1
        return [Renamed(self.id, name) for name in command.names]

    @event_sourcing_handler
    def renamed(self, event: Renamed) -> None:
        self.name = event.name
        self.renames += 1


EVE = Registered("7", "eve@x.example")


def test_events_in_order() -> None:
    """The expected events are compared in order, and the state follows from them."""
    outcome = given(User, EVE, Renamed("7", "Eve")).when(Rename("7", ("A", "B")))
    outcome.then(Renamed("7", "A"), Renamed("7", "B")).then_state(name="B", renames=3, id="7")


def test_nothing() -> None:
    """A command may change nothing."""
    given(User, EVE).when(Rename("7")).then_nothing().then_state(renames=0)


def test_creating() -> None:
    """A creating command needs an aggregate without events; any other, one with events."""
    given(User).when(Register("7", "eve@x.example")).then(EVE)
    error = given(User, EVE).when(Register("7", "x@x.example")).then_rejected(AggregateExists)
    assert error.id == "7"
    given(User).when(Rename("7")).then_rejected(AggregateNotFound, aggregate="User", id="7")


def test_events_elsewhere_are_seen_by_models_only() -> None:
    """Events of other streams reach decision models, inside their boundary, not the aggregate."""
    taken = given(User).elsewhere(Registered("1", "eve@x.example"))
    taken.when(Register("7", "eve@x.example")).then_rejected(EmailTaken, email="eve@x.example")
    given(User).elsewhere(EVE).when(Register("8", "bob@x.example")).then(
        Registered("8", "bob@x.example")
    )
    given(User, EVE).elsewhere(Renamed("9", "No")).when(Rename("7")).then_state(name="")


def test_decision_model() -> None:
    """A decision model sees the given events inside its boundary."""
    given(Address, EVE).when(Reserve("eve@x.example")).then_rejected(EmailTaken)
    given(Address, EVE).when(Reserve("bob@x.example")).then(Registered("nobody", "bob@x.example"))


def test_command_is_validated() -> None:
    """A command is held to its constraints, as in a service."""
    given(User).when(Register("7", "x", age=-1)).then_rejected(MalformedMessage)


def test_difference_is_shown() -> None:
    """A failure shows what was expected and what was decided, line by line."""
    outcome = given(User, EVE).when(Rename("7", ("A", "B")))
    with pytest.raises(AssertionError) as failure:
        outcome.then(Renamed("7", "A"), Renamed("7", "C"))
    lines = str(failure.value).splitlines()
    assert lines[0].endswith("decided otherwise (- expected, + decided):")
    assert "    Renamed(user_id='7', name='A')" in lines
    assert "  - Renamed(user_id='7', name='C')" in lines
    assert "  + Renamed(user_id='7', name='B')" in lines


def test_unexpected_refusal_is_shown() -> None:
    """A refusal where events were expected fails with its message."""
    outcome = given(User).when(Rename("7"))
    for expectation in (outcome.then, outcome.then_nothing, outcome.then_state):
        with pytest.raises(AssertionError, match="was refused: User '7' does not exist"):
            expectation()


def test_missing_refusal_is_shown() -> None:
    """Events where a refusal was expected fail, listing the events."""
    outcome = given(User).when(Register("7", "eve@x.example"))
    with pytest.raises(AssertionError, match=r"(?s)refused with EmailTaken, decided were.*eve@x"):
        outcome.then_rejected(EmailTaken)


def test_other_refusal_is_shown() -> None:
    """Another refusal, or other fields in it, fail with what came."""
    outcome = given(User).when(Rename("7"))
    with pytest.raises(AssertionError, match="refused with EmailTaken, came AggregateNotFound"):
        outcome.then_rejected(EmailTaken)
    with pytest.raises(AssertionError, match=r"its fields are \{'aggregate': 'User', 'id': '7'\}"):
        outcome.then_rejected(AggregateNotFound, id="8")


def test_other_state_is_shown() -> None:
    """Another state fails with both."""
    outcome = given(User, EVE).when(Rename("7", ("A",)))
    with pytest.raises(AssertionError, match=r"the state has \{'name': 'A'\}, expected"):
        outcome.then_state(name="B")


def test_impure_handler_fails() -> None:
    """A handler that changes the state itself fails the test."""
    with pytest.raises(AssertionError, match=r"User\.rename changed the state: return events"):
        given(User, EVE).when(Rename("7", ("impure",)))


def test_event_that_cannot_be_stored_fails() -> None:
    """An event that does not come back from its stored form fails the test."""
    broken = Renamed("7", 5)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(AssertionError, match="cannot be stored and read again"):
        given(User, EVE, broken).when(Rename("7"))


def test_unhandled_command() -> None:
    """A command without a handler is an error of the test, and lists what is handled."""
    with pytest.raises(DeclarationError, match="no command handler for it; handled are: Register"):
        given(User).when(Ignored("7"))
