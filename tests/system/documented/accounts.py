"""The service that the pages on operating talk about: accounts, meters, mails."""

from pathlib import Path
from typing import Annotated

from headwater import (
    Aggregate,
    Command,
    Event,
    EventHandlers,
    Key,
    Projection,
    Service,
    Tag,
    View,
    command_handler,
    event_handler,
    event_sourcing_handler,
)

FAULT = Path("fault")
"""While this file is there, the view of account 7 cannot be kept: there are letters to look at."""


class Withdraw(Command):
    account_id: str
    cents: int


class Measure(Command):
    meter_id: str
    value: int


class AccountOpened(Event):
    account_id: str
    email: Annotated[str, Tag("email")]


class MoneyWithdrawn(Event):
    account_id: str
    cents: int


class Measured(Event):
    meter_id: str
    value: int


class Account(Aggregate):
    withdrawn: int = 0

    @command_handler
    def withdraw(self, command: Withdraw) -> MoneyWithdrawn:
        return MoneyWithdrawn(self.id, command.cents)

    @event_sourcing_handler
    def on_withdrawn(self, event: MoneyWithdrawn) -> None:
        self.withdrawn += event.cents


class Meter(Aggregate):
    total: int = 0

    @command_handler(creates="if_missing")
    def measure(self, command: Measure) -> Measured:
        return Measured(self.id, command.value)

    @event_sourcing_handler
    def measured(self, event: Measured) -> None:
        self.total += event.value


class AccountView(View):
    id: Annotated[str, Key]
    withdrawn: int = 0


class Accounts(Projection):
    @event_handler(AccountView, key="account_id")
    def opened(self, event: AccountOpened) -> AccountView:
        return AccountView(event.account_id)

    @event_handler(AccountView, key="account_id")
    def withdrawn(self, view: AccountView, event: MoneyWithdrawn) -> None:
        if event.account_id == "7" and FAULT.exists():
            msg = "a fault of the handler"
            raise ValueError(msg)
        view.withdrawn += event.cents


class Mailer(EventHandlers):
    start = "beginning"

    @event_handler
    async def opened(self, event: AccountOpened) -> None: ...


service = Service(
    "accounts", aggregates=[Account, Meter], projections=[Accounts], handlers=[Mailer]
)
