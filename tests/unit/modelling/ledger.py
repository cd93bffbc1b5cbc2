"""The domain that the modelling tests are about: accounts, and e-mail addresses."""

from collections.abc import Iterable
from typing import Annotated, ClassVar

from headwater.errors import Rejection
from headwater.messages import Command, Event, Tag
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Events,
    command_handler,
    event_sourcing_handler,
)


class Open(Command):
    account_id: str
    email: str = ""


class Ensure(Command):
    account_id: str


class Deposit(Command):
    account_id: str
    amount: int
    times: int = 1


class Withdraw(Command):
    account_id: str
    amount: int


class ChangeEmail(Command):
    account_id: str
    email: str


class Misbehave(Command):
    account_id: str


class ReserveEmail(Command):
    email: str
    note: str = ""


class Opened(Event):
    account_id: str
    email: Annotated[str | None, Tag("email")] = None


class Deposited(Event):
    account_id: str
    amount: int


class Withdrawn(Event):
    account_id: str
    amount: int


class EmailChanged(Event):
    account_id: str
    email: Annotated[str, Tag("email")]
    former: Annotated[str, Tag("email")]


class EmailReserved(Event):
    email: Annotated[str, Tag("email")]
    note: str


class Insufficient(Rejection):
    balance: int
    amount: int
    template = "{balance} are there, {amount} were asked"


class EmailTaken(Rejection):
    email: str
    template = "{email!r} is taken"


class EmailAddress(DecisionModel):
    """Who has an address; also decides by itself whether it can be reserved."""

    email: Annotated[str, Tag("email")] = ""
    owner: str = ""

    @command_handler
    def reserve(self, command: ReserveEmail) -> EmailReserved | None:
        if command.note == "nothing":
            return None
        if self.owner:
            raise EmailTaken(email=self.email)
        return EmailReserved(command.email, command.note)

    @event_sourcing_handler
    def opened(self, event: Opened) -> None:
        self.owner = event.account_id

    @event_sourcing_handler
    def reserved(self, event: EmailReserved) -> None:
        self.owner = event.note or "reserved"

    @event_sourcing_handler
    def changed(self, event: EmailChanged) -> None:
        self.owner = event.account_id if event.email == self.email else ""


class Account(Aggregate):
    snapshot_every: ClassVar[int] = 5

    email: str = ""
    balance: int = 0
    movements: int = 0

    @command_handler(creates=True)
    def open(self, command: Open, address: EmailAddress) -> Opened:
        if command.email and address.owner:
            raise EmailTaken(email=command.email)
        return Opened(command.account_id, command.email or None)

    @command_handler(creates="if_missing")
    def ensure(self, command: Ensure) -> Opened | None:
        return None if self.movements else Opened(command.account_id)

    @command_handler
    def deposit(self, command: Deposit) -> Iterable[Event]:
        return (Deposited(self.id, command.amount) for _ in range(command.times))

    @command_handler
    def withdraw(self, command: Withdraw) -> Withdrawn:
        if command.amount > self.balance:
            raise Insufficient(balance=self.balance, amount=command.amount)
        return Withdrawn(self.id, command.amount)

    @command_handler
    def change_email(self, command: ChangeEmail, address: EmailAddress) -> Events:
        if command.email == self.email:
            return None
        if address.owner:
            raise EmailTaken(email=command.email)
        return EmailChanged(self.id, command.email, self.email)

    @command_handler
    def misbehave(self, command: Misbehave) -> Events:
        return [command]  # type: ignore[list-item]  # that is the point

    @event_sourcing_handler
    def opened(self, event: Opened) -> None:
        self.email = event.email or ""
        self.movements += 1

    @event_sourcing_handler
    def deposited(self, event: Deposited) -> None:
        self.balance += event.amount
        self.movements += 1

    @event_sourcing_handler
    def withdrawn(self, event: Withdrawn) -> None:
        self.balance -= event.amount
        self.movements += 1

    @event_sourcing_handler
    def changed(self, event: EmailChanged) -> None:
        self.email = event.email
