"""What may be declared with `event_handler`, and what is refused at once."""

from typing import Annotated, Any

import pytest

from headwater.errors import DeclarationError
from headwater.messages import Event
from headwater.modelling import EventHandlers, EventMessage, Projection, event_handler
from headwater.modelling.handler_tables import handler_table
from headwater.views import Key, View, ViewTransaction
from tests.unit.processing.functions import anew


class Opened(Event):
    account_id: str
    number: int = 0


class Closed(Event):
    account_id: str


class AccountView(View):
    id: Annotated[str, Key]
    balance: int = 0


def test_all_forms_are_compiled() -> None:
    """Updating, creating, deleting and free-form handlers are found, in order of declaration."""

    class TopAccounts(Projection):
        segments = 8

        @event_handler(AccountView, key="account_id")
        def changed(self, view: AccountView, event: Opened) -> None: ...

        @event_handler(AccountView, key=lambda event: event.account_id[:1])
        def made(self, event: Opened, message: EventMessage[Opened]) -> AccountView:
            return AccountView(event.account_id)

        @event_handler(AccountView, key="account_id", deletes=True)
        def gone(self, event: Closed) -> None: ...

        @event_handler
        async def free(
            self, message: EventMessage[Closed], event: Closed, transaction: ViewTransaction
        ) -> None: ...

    table = handler_table(TopAccounts)
    assert TopAccounts.name == "top-accounts"
    assert [h.method for h in table.keyed[Opened]] == ["changed", "made"]
    assert [h.wants_message for h in table.keyed[Opened]] == [False, True]
    assert table.keyed[Closed][0].deletes
    assert table.free[Closed][0].arguments == ("message", "event", "transaction")
    assert table.keyed[Opened][1].key(Opened("xyz")) == "x"
    assert table.views == (AccountView,)


def test_a_number_as_key_becomes_text() -> None:
    """Keys are text, whatever the event's field is."""

    class ByNumber(Projection):
        @event_handler(AccountView, key="number")
        def changed(self, view: AccountView, event: Opened) -> None: ...

    assert handler_table(ByNumber).keyed[Opened][0].key(Opened("a", 7)) == "7"


def test_subclasses_inherit_and_override() -> None:
    """Handlers of a base class count, in their order; overriding one replaces it."""

    class Base(Projection):
        @event_handler(AccountView, key="account_id")
        def first(self, view: AccountView, event: Opened) -> None: ...

        @event_handler(AccountView, key="account_id")
        def second(self, view: AccountView, event: Opened) -> None: ...

    class Derived(Base):
        @event_handler(AccountView, key="account_id")
        def first(self, view: AccountView, event: Opened) -> None: ...

    assert [h.method for h in handler_table(Derived).keyed[Opened]] == ["first", "second"]
    assert Derived.name == "derived"


def keyed(**options: Any) -> Any:
    return event_handler(AccountView, **{"key": "account_id", **options})


async def _async_keyed(self: Any, view: AccountView, event: Opened) -> None: ...
def _returns_view(self: Any, view: AccountView, event: Opened) -> AccountView: ...  # type: ignore[empty-body]  # never called
def _creates_nothing(self: Any, event: Opened) -> None: ...
def _deletes_with_view(self: Any, view: AccountView, event: Opened) -> None: ...
def _no_event(self: Any, view: AccountView) -> None: ...
def _unannotated(self: Any, view: AccountView, event) -> None: ...  # type: ignore[no-untyped-def]  # the fault
def _swapped(self: Any, event: Opened, view: AccountView) -> None: ...
def _other_message(
    self: Any, view: AccountView, event: Opened, message: EventMessage[Closed]
) -> None: ...
def _keyed_transaction(self: Any, view: AccountView, event: Opened, t: ViewTransaction) -> None: ...
def _sync_free(self: Any, event: Opened) -> None: ...
async def _free_with_view(self: Any, view: AccountView, event: Opened) -> None: ...


@pytest.mark.parametrize(
    ("decorator", "function", "said"),
    [
        (keyed(), _async_keyed, "without async"),
        (keyed(), _returns_view, "declare it -> None"),
        (keyed(), _creates_nothing, "-> AccountView"),
        (keyed(deletes=True), _deletes_with_view, "takes no view"),
        (keyed(), _no_event, "needs a parameter annotated with an event type"),
        (keyed(), _unannotated, "annotate it"),
        (keyed(), _swapped, "in this order"),
        (keyed(), _other_message, "EventMessage"),
        (keyed(), _keyed_transaction, "'t' is annotated"),
        (keyed(key="amount"), _deletes_with_view, "no field of Opened"),
        (event_handler, _sync_free, "free-form handler is async"),
        (event_handler, _free_with_view, "'view' is annotated"),
    ],
)
def test_wrong_handlers_are_refused(decorator: Any, function: Any, said: str) -> None:
    """Each wrong form raises at the class statement and says what to do."""
    with pytest.raises(DeclarationError, match=said):
        type("Wrong", (Projection,), {"handler": decorator(anew(function))})


def test_wrong_options_are_refused() -> None:
    """Segments, source and views are checked when the class is made."""
    with pytest.raises(DeclarationError, match="segments"):
        type("Wrong", (Projection,), {"segments": 0})
    with pytest.raises(DeclarationError, match="source"):
        type("Wrong", (Projection,), {"source": "queue"})
    with pytest.raises(DeclarationError, match="Projection"):
        type("Wrong", (EventHandlers,), {"handler": keyed()(anew(_deletes_with_view))})
    with pytest.raises(DeclarationError, match="View class"):
        event_handler(Opened, key="account_id")  # type: ignore[type-var]  # the fault
    with pytest.raises(DeclarationError, match="which view"):
        event_handler(AccountView, key="")
