"""What may be declared on a saga, and scenarios with the given/when/then helpers."""

from datetime import timedelta
from typing import Any

import pytest

from headwater.errors import AggregateNotFound, CommandRefused, DeclarationError, Rejection
from headwater.messages import Command, Event
from headwater.modelling import (
    Cancel,
    Deadline,
    Effects,
    End,
    Saga,
    deadline_handler,
    rejection_handler,
    saga_handler,
)
from headwater.modelling.saga import saga_type
from headwater.testing import given
from tests.integration.processing.bank import (
    Credit,
    Credited,
    Insufficient,
    MoneyTransfer,
    Poked,
    TransferRequested,
    Withdraw,
    Withdrawn,
)
from tests.integration.processing.domain import AccountView, Deposited, Ledger, Opened
from tests.unit.processing.functions import anew


class Begun(Event):
    id: str


class Again(Event):
    id: str


class Do(Command):
    what: str


REQUESTED = TransferRequested("t", "a", "b", 5)


def test_the_way_of_a_transfer() -> None:
    """Events become commands, and the end calls off the deadline."""
    one = given(MoneyTransfer)
    one.when(REQUESTED).then(Withdraw("a", 5, "t"), Deadline("stuck", after=timedelta(minutes=5)))
    one.when(Withdrawn("a", 5, "t")).then(Credit("b", 5, "t"))
    one.when(Credited("b", 5, "t")).then(Cancel("stuck"), End()).then_ended()


def test_compensation_and_deadline() -> None:
    """A refusal that is no rejection comes as itself where a handler takes it."""
    missing = AggregateNotFound(aggregate="Account", id="b")
    one = given(MoneyTransfer, REQUESTED, Withdrawn("a", 5, "t"))
    one.when_refused(Credit("b", 5, "t"), missing).then_commands(Credit("a", 5, "t"))
    one.when_refused(Credit("a", 5, "t"), missing).then_ended()
    given(MoneyTransfer, REQUESTED).after(timedelta(minutes=5)).then_commands(
        Credit("alarm", 1, "t")
    )
    given(MoneyTransfer, REQUESTED).when_refused(
        Withdraw("a", 5, "t"), Insufficient(balance=1)
    ).then(End())


def test_time_passes() -> None:
    """Deadlines come in the order of their times; what was called off or replaced does not."""

    class Patient(Saga):
        @saga_handler(key="id", starts=True)
        def begun(self, event: Begun) -> Effects:
            return [
                Deadline(name, after=timedelta(seconds=seconds))
                for name, seconds in (("a", 9), ("b", 2), ("c", 3), ("a", 4))
            ]

        @saga_handler(key="id")
        def again(self, event: Again) -> Effects:
            return [Cancel("c"), Deadline("a", after=timedelta(seconds=1))]

        @deadline_handler("a")
        def on_a(self) -> Effects:
            return [Do("a"), Deadline("b", after=timedelta(seconds=1))]

        @deadline_handler("b")
        def on_b(self) -> Effects:
            return Do("b")

        @deadline_handler("c")
        def on_c(self) -> Effects:
            return End()

    one = given(Patient, Begun("x"))
    one.after(timedelta(seconds=1)).then()
    one.after(timedelta(seconds=1)).then(Do("b"))
    one.when(Again("x"))
    one.after(timedelta(seconds=2)).then_commands(Do("a"), Do("b"))
    one.after(timedelta(days=1)).then()
    given(Patient, Begun("x")).after(timedelta(minutes=1)).then_ended().then_commands(Do("b"))


def test_other_refusals_come_as_a_rejection() -> None:
    """A handler of rejections also learns of an aggregate that does not exist."""
    seen: list[Rejection] = []

    class Asking(Saga):
        @saga_handler(key="id", starts=True)
        def begun(self, event: Begun) -> Effects:
            return Do("it")

        @rejection_handler
        def refused(self, command: Do, rejection: Rejection) -> Effects:
            seen.append(rejection)
            return None

    one = given(Asking, Begun("x"))
    one.when_refused(Do("it"), AggregateNotFound(aggregate="A", id="it"))
    assert isinstance(seen[0], CommandRefused)
    assert seen[0].cause_code == "aggregate-not-found"


def test_events_that_find_nothing_are_ignored() -> None:
    """No key, or no saga and not a start: no effects."""
    one = given(MoneyTransfer)
    one.when(Poked(None)).then()
    one.when(Withdrawn("a", 5, "t")).then()
    assert one.state is None


async def test_a_projection_scenario() -> None:
    """The views after some events are what the handlers made of them."""
    await given(Ledger, Opened("a", "Ada"), Deposited("a", 5)).then(
        AccountView("a", "Ada", 5, 1, 2)
    )
    with pytest.raises(AssertionError, match="got None"):
        await given(Ledger, Opened("a", "Ada")).then(AccountView("b", "Bob"))


def begun(self: Any, event: Begun) -> Effects: ...
def not_an_event(self: Any, event: Do) -> Effects: ...
def two_parameters(self: Any, event: Begun, more: int) -> Effects: ...
def refused(self: Any, command: Begun, rejection: Rejection) -> Effects: ...
def refused_by_what(self: Any, command: Do, rejection: ValueError) -> Effects: ...
def late(self: Any, more: int) -> Effects: ...
async def eventually(self: Any, event: Begun) -> Effects: ...


@pytest.mark.parametrize(
    ("decorate", "function", "said"),
    [
        (saga_handler(key="id"), begun, "starts=True"),
        (saga_handler(key="name", starts=True), begun, "no field of Begun"),
        (saga_handler(key="id", starts=True), not_an_event, "event type"),
        (saga_handler(key="id", starts=True), two_parameters, "declare it as"),
        (saga_handler(key="id", starts=True), eventually, "without async"),
        (rejection_handler, refused, "declare it as"),
        (rejection_handler, refused_by_what, "declare it as"),
        (deadline_handler("x"), late, "declare it as"),
        (deadline_handler("no way"), begun, "declare it as|name of its own"),
    ],
)
def test_wrong_handlers_are_refused(decorate: Any, function: Any, said: str) -> None:
    """Each wrong form raises when it is declared and says what to do."""
    with pytest.raises(DeclarationError, match=said):
        type(Saga)("Wrong", (Saga,), {"handler": decorate(anew(function))})


def test_fields_need_defaults_and_names_are_stable() -> None:
    """A saga begins from its defaults; its stored name can be chosen."""
    with pytest.raises(DeclarationError, match="give every field a default"):

        class Wrong(Saga):
            amount: int

    class Named(Saga):
        saga_name = "transfers"

    assert saga_type(Named).name == "transfers"
    assert saga_type(MoneyTransfer).name == "MoneyTransfer"


def test_wrong_effects_are_refused() -> None:
    """What is no effect, or names a deadline without handler, is an error of the saga."""

    class Wrong(Saga):
        @saga_handler(key="id", starts=True)
        def begun(self, event: Begun) -> Effects:
            return Deadline("never", after=timedelta(1)) if event.id == "d" else [3]  # type: ignore[list-item]  # the fault

    with pytest.raises(DeclarationError, match="no @deadline_handler"):
        given(Wrong).when(Begun("d"))
    with pytest.raises(DeclarationError, match="returned 3"):
        given(Wrong).when(Begun("x"))
