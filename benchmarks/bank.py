"""The small bank that several benchmarks use."""

from headwater.errors import Rejection
from headwater.messages import Command, Event
from headwater.modelling import Aggregate, command_handler, event_sourcing_handler


class OpenAccount(Command):
    """Open an account."""

    account_id: str
    holder: str


class WithdrawMoney(Command):
    """Take money out; the overdraft is large."""

    account_id: str
    amount: int


class AccountOpened(Event):
    """An account was opened."""

    account_id: str
    holder: str


class MoneyWithdrawn(Event):
    """Money was taken out."""

    account_id: str
    amount: int
    reference: str = "purchase"


class Overdrawn(Rejection):
    """The overdraft is exhausted."""

    balance: int


class Account(Aggregate):
    """An account with a large overdraft."""

    holder: str = ""
    balance: int = 0

    @command_handler(creates=True)
    def open(self, command: OpenAccount) -> AccountOpened:
        """Open it."""
        return AccountOpened(command.account_id, command.holder)

    @command_handler
    def withdraw(self, command: WithdrawMoney) -> MoneyWithdrawn:
        """Take money out."""
        if self.balance - command.amount < -(10**12):
            raise Overdrawn(balance=self.balance)
        return MoneyWithdrawn(command.account_id, command.amount)

    @event_sourcing_handler
    def opened(self, event: AccountOpened) -> None:
        """Begin."""
        self.holder = event.holder

    @event_sourcing_handler
    def withdrawn(self, event: MoneyWithdrawn) -> None:
        """Subtract."""
        self.balance -= event.amount
