"""A small ledger to process, shared by the tests of this folder and by the processes they start."""

from typing import Annotated

from headwater.eventstore import EventStore, NewEvent, StreamWrite
from headwater.messages import Event, new_metadata
from headwater.messages.codec import EventCodec
from headwater.modelling import EventMessage, Projection, event_handler
from headwater.views import Index, Key, View, ViewTransaction


class Opened(Event):
    account_id: str
    holder: str


class Deposited(Event):
    account_id: str
    amount: int
    month: str = "2024-01"


class Closed(Event):
    account_id: str


class Noted(Event):
    text: str


CODEC = EventCodec([Opened, Deposited, Closed, Noted])


class AccountView(View):
    id: Annotated[str, Key]
    holder: Annotated[str, Index]
    balance: int = 0
    events: int = 0
    last_position: int = 0


class MonthView(View):
    month: Annotated[str, Key]
    total: int = 0


class NoteView(View):
    id: Annotated[str, Key]
    text: str = ""
    balance_seen: int = -1


class Ledger(Projection):
    """Accounts, turnover per month, and free-form notes; ``poison`` amounts are refused."""

    view_types = (NoteView,)

    def __init__(self) -> None:
        self.poison: set[int] = set()
        self.calls = 0

    @event_handler(AccountView, key="account_id")
    def opened(self, event: Opened) -> AccountView:
        if event.holder == "unstorable":
            return AccountView(event.account_id, 5j)  # type: ignore[arg-type]  # a fault
        return AccountView(event.account_id, event.holder)

    @event_handler(AccountView, key="account_id")
    def deposited(
        self, view: AccountView, event: Deposited, message: EventMessage[Deposited]
    ) -> None:
        self.calls += 1
        if event.amount in self.poison:
            msg = f"cannot take {event.amount}"
            raise ValueError(msg)
        view.balance += event.amount
        view.events += 1
        assert message.position > view.last_position, "handled twice or out of order"
        view.last_position = message.position

    @event_handler(MonthView, key=lambda event: event.month)
    def turnover(self, view: MonthView, event: Deposited) -> None:
        view.total += event.amount

    @event_handler(AccountView, key="account_id", deletes=True)
    def closed(self, event: Closed) -> None: ...

    @event_handler
    async def noted(
        self, event: Noted, transaction: ViewTransaction, message: EventMessage[Noted]
    ) -> None:
        account = message.stream
        found = (await transaction.load(AccountView, [account])).get(account)
        seen = -1 if found is None else found.balance
        await transaction.save([NoteView(f"{message.position}", event.text, seen)])


def stored(event: Event) -> NewEvent:
    """Return an event in stored form."""
    return NewEvent.of(event, new_metadata())


async def append(store: EventStore, stream: str, *events: Event) -> int:
    """Append events to a stream and return the last position."""
    appended = await store.append([StreamWrite(stream, [stored(event) for event in events])])
    return appended.last
