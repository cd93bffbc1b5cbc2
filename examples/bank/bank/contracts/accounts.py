"""Accounts: money that comes and goes."""

from typing import Annotated

import msgspec
from msgspec import Meta

from bank.contracts.money import Cents
from headwater import Command, Event, Index, Key, Query, Rejection, View, route


@route("POST /accounts")
class OpenAccount(Command):
    """Open an account for a customer."""

    account_id: str
    customer_id: str
    verified: bool = False


@route("POST /accounts/{account_id}/deposits")
class DepositMoney(Command):
    """Pay money in. ``reference`` says what for, for example the id of a transfer."""

    account_id: str
    amount: Cents
    reference: str = ""


@route("POST /accounts/{account_id}/withdrawals")
class WithdrawMoney(Command):
    """Take money out, at most what is there."""

    account_id: str
    amount: Cents
    reference: str = ""


@route("POST /accounts/{account_id}/closure")
class CloseAccount(Command):
    """Close an empty account for good."""

    account_id: str


class AccountOpened(Event):
    """An account was opened; ``verified`` tells whether the customer could be looked up."""

    account_id: str
    customer_id: str
    verified: bool


class MoneyDeposited(Event):
    """Money was paid in."""

    account_id: str
    amount: Cents
    reference: str
    balance: Cents


class MoneyWithdrawn(Event):
    """Money was taken out."""

    account_id: str
    amount: Cents
    reference: str
    balance: Cents


class AccountClosed(Event):
    """An account was closed."""

    account_id: str


class AmountNotPositive(Rejection):
    """Nothing would move."""

    amount: int
    template = "an amount of {amount} cents moves nothing: state at least 1"


class InsufficientFunds(Rejection):
    """The account holds less than was asked for."""

    account_id: str
    balance: int
    amount: int
    template = "account {account_id!r} holds {balance} cents, {amount} were asked: deposit first"


class AccountIsClosed(Rejection):
    """The account was closed."""

    status = 409
    account_id: str
    template = "account {account_id!r} is closed: use another one"


class AccountNotEmpty(Rejection):
    """Only an empty account can be closed."""

    status = 409
    account_id: str
    balance: int
    template = "account {account_id!r} still holds {balance} cents: withdraw them first"


class UnknownCustomer(Rejection):
    """There is no such customer."""

    customer_id: str
    template = "customer {customer_id!r} is not registered: register first"


class AccountView(View):
    """An account as it is shown."""

    id: Annotated[str, Key]
    customer_id: Annotated[str, Index]
    balance: Annotated[int, Index] = 0
    movements: int = 0
    open: bool = True


class AccountPage(msgspec.Struct, frozen=True):
    """Some accounts in order of their ids; ``next`` is the cursor of the following page."""

    items: list[AccountView]
    next: str


@route("GET /accounts/{account_id}")
class GetAccount(Query[AccountView]):
    """One account."""

    account_id: str


@route("GET /accounts")
class FindAccounts(Query[AccountPage]):
    """Accounts of a customer, or all of them, a page at a time."""

    customer_id: str = ""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    cursor: str = ""
