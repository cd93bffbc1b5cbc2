"""A bank with transfers, for the tests of sagas and the processes they start."""

from datetime import timedelta

from headwater.dispatch.local import LocalCommandBus
from headwater.errors import HeadwaterError, Rejection
from headwater.eventstore import EventStore
from headwater.messages import Command, Event
from headwater.modelling import (
    Aggregate,
    Cancel,
    Deadline,
    Effects,
    End,
    Repository,
    Saga,
    command_handler,
    deadline_handler,
    event_sourcing_handler,
    rejection_handler,
    saga_handler,
)


class Open(Command):
    account_id: str
    balance: int = 0


class Withdraw(Command):
    account_id: str
    amount: int
    reference: str


class Credit(Command):
    account_id: str
    amount: int
    reference: str


class AccountOpened(Event):
    account_id: str
    balance: int


class Withdrawn(Event):
    account_id: str
    amount: int
    reference: str


class Credited(Event):
    account_id: str
    amount: int
    reference: str


class TransferRequested(Event):
    transfer_id: str
    source: str
    target: str
    amount: int


class Poked(Event):
    transfer_id: str | None


class Insufficient(Rejection):
    balance: int


class BankAccount(Aggregate):
    balance: int = 0

    @command_handler(creates=True)
    def open(self, command: Open) -> AccountOpened:
        return AccountOpened(command.account_id, command.balance)

    @command_handler
    def withdraw(self, command: Withdraw) -> Withdrawn:
        if command.amount > self.balance:
            raise Insufficient(balance=self.balance)
        return Withdrawn(command.account_id, command.amount, command.reference)

    @command_handler
    def credit(self, command: Credit) -> Credited:
        return Credited(command.account_id, command.amount, command.reference)

    @event_sourcing_handler
    def on_opened(self, event: AccountOpened) -> None:
        self.balance = event.balance

    @event_sourcing_handler
    def on_withdrawn(self, event: Withdrawn) -> None:
        self.balance -= event.amount

    @event_sourcing_handler
    def on_credited(self, event: Credited) -> None:
        self.balance += event.amount


class MoneyTransfer(Saga):
    saga_start = "beginning"
    source: str = ""
    target: str = ""
    amount: int = 0
    refunding: bool = False

    @saga_handler(key="transfer_id", starts=True)
    def requested(self, event: TransferRequested) -> Effects:
        self.source, self.target, self.amount = event.source, event.target, event.amount
        return [
            Withdraw(event.source, event.amount, self.id),
            Deadline("stuck", after=timedelta(minutes=5)),
        ]

    @saga_handler(key="reference")
    def withdrawn(self, event: Withdrawn) -> Effects:
        return Credit(self.target, self.amount, self.id)

    @saga_handler(key="reference")
    def credited(self, event: Credited) -> Effects:
        return [Cancel("stuck"), End()]

    @saga_handler(key="transfer_id")
    def poked(self, event: Poked) -> Effects:
        msg = "poked"
        raise ValueError(msg)

    @rejection_handler
    def refused(self, command: Withdraw, rejection: Rejection) -> Effects:
        return End()

    @rejection_handler
    def not_credited(self, command: Credit, rejection: HeadwaterError) -> Effects:
        if self.refunding:
            return End()
        self.refunding = True
        return Credit(self.source, self.amount, self.id)

    @deadline_handler("stuck")
    def stuck(self) -> Effects:
        return [Credit("alarm", 1, self.id)]


def command_bus(store: EventStore) -> tuple[LocalCommandBus, Repository[BankAccount]]:
    """Return a bus that handles the accounts of a store."""
    repository = Repository(BankAccount, store, source="bank")
    return LocalCommandBus([repository.handlers()]), repository
