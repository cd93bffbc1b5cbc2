"""The rules of the bank."""

import datetime as dt

from bank.accounts import Account, Accounts
from bank.contracts.accounts import (
    AccountClosed,
    AccountIsClosed,
    AccountNotEmpty,
    AccountOpened,
    AccountView,
    AmountNotPositive,
    CloseAccount,
    DepositMoney,
    InsufficientFunds,
    MoneyDeposited,
    MoneyWithdrawn,
    OpenAccount,
    WithdrawMoney,
)
from bank.contracts.customers import (
    ChangeEmail,
    CustomerRegistered,
    EmailChanged,
    EmailTaken,
    RegisterCustomer,
)
from bank.contracts.insights import MonthlyTurnover, Spending
from bank.contracts.transfers import (
    CompleteTransfer,
    FailTransfer,
    FlagTransfer,
    RequestTransfer,
    TransferCompleted,
    TransferFailed,
    TransferRequested,
)
from bank.customers import Customer
from bank.insights import Insights
from bank.transfers import MoneyTransfer, Transfer
from headwater.errors import AggregateExists, AggregateNotFound, MalformedMessage
from headwater.testing import given

DAY = dt.date(1997, 1, 31)
OPENED = AccountOpened("a", "c", verified=True)
HUNDRED = MoneyDeposited("a", 100, "", 100)
REQUESTED = TransferRequested("t", "a", "b", 70, DAY)
COMPLETED = TransferCompleted("t", "a", "b", 70, DAY)


def test_open_account():
    """An account is opened once."""
    given(Account).when(OpenAccount("a", "c", verified=True)).then(OPENED)
    given(Account, OPENED).when(OpenAccount("a", "c")).then_rejected(AggregateExists)


def test_deposit():
    """A deposit raises the balance."""
    given(Account, OPENED, HUNDRED).when(DepositMoney("a", 50, "x")).then(
        MoneyDeposited("a", 50, "x", 150)
    ).then_state(balance=150)
    given(Account).when(DepositMoney("a", 1)).then_rejected(AggregateNotFound)


def test_amounts_are_positive():
    """Nothing can neither be paid in nor taken out, and less than nothing is malformed."""
    given(Account, OPENED).when(DepositMoney("a", 0)).then_rejected(AmountNotPositive, amount=0)
    given(Account, OPENED).when(WithdrawMoney("a", 0)).then_rejected(AmountNotPositive)
    given(Account, OPENED).when(DepositMoney("a", -1)).then_rejected(MalformedMessage)
    given(Transfer).when(RequestTransfer("t", "a", "b", 0, DAY)).then_rejected(AmountNotPositive)


def test_withdraw():
    """All that is there can be taken out, and no cent more."""
    account = given(Account, OPENED, HUNDRED)
    account.when(WithdrawMoney("a", 100, "x")).then(MoneyWithdrawn("a", 100, "x", 0))
    account.when(WithdrawMoney("a", 101)).then_rejected(InsufficientFunds, balance=100, amount=101)


def test_close():
    """Only an empty account is closed, and then nothing moves any more."""
    given(Account, OPENED, HUNDRED).when(CloseAccount("a")).then_rejected(AccountNotEmpty)
    given(Account, OPENED).when(CloseAccount("a")).then(AccountClosed("a"))
    closed = given(Account, OPENED, AccountClosed("a"))
    for command in (CloseAccount("a"), DepositMoney("a", 1), WithdrawMoney("a", 1)):
        closed.when(command).then_rejected(AccountIsClosed)


def test_email_is_unique():
    """An e-mail address belongs to one customer, until that one changes it."""
    ann = CustomerRegistered("ann", "Ann", "ann@x.example")
    given(Customer).when(RegisterCustomer("ann", "Ann", "ann@x.example")).then(ann)
    bob = RegisterCustomer("bob", "Bob", "ann@x.example")
    given(Customer).elsewhere(ann).when(bob).then_rejected(EmailTaken, email="ann@x.example")
    moved = EmailChanged("ann", "new@x.example", "ann@x.example")
    given(Customer).elsewhere(ann, moved).when(bob).then(
        CustomerRegistered("bob", "Bob", "ann@x.example")
    )


def test_change_email():
    """A change names both addresses; the same address changes nothing."""
    ann = CustomerRegistered("ann", "Ann", "ann@x.example")
    given(Customer, ann).when(ChangeEmail("ann", "new@x.example")).then(
        EmailChanged("ann", "new@x.example", "ann@x.example")
    )
    given(Customer, ann).when(ChangeEmail("ann", "ann@x.example")).then_nothing()
    given(Customer).when(RegisterCustomer("x", "X", "no address")).then_rejected(MalformedMessage)


def test_transfer_settles_once():
    """A transfer completes or fails, once."""
    open_one = given(Transfer, REQUESTED)
    open_one.when(CompleteTransfer("t")).then(COMPLETED)
    open_one.when(FailTransfer("t", "why")).then(TransferFailed("t", "why"))
    for command in (CompleteTransfer("t"), FailTransfer("t", "x"), FlagTransfer("t", "x")):
        given(Transfer, REQUESTED, COMPLETED).when(command).then_nothing()


def test_saga_moves_money():
    """The saga withdraws, then deposits, then completes."""
    moving = given(MoneyTransfer, REQUESTED)
    moving.when(MoneyWithdrawn("a", 70, "t", 30)).then_commands(DepositMoney("b", 70, "t"))
    moving.when(MoneyDeposited("b", 70, "t", 70)).then_commands(CompleteTransfer("t"))
    moving.then_ended()


def test_saga_starts_with_the_withdrawal():
    """A request begins the saga with a withdrawal and a deadline."""
    given(MoneyTransfer).when(REQUESTED).then_commands(WithdrawMoney("a", 70, "t"))


def test_saga_without_money():
    """When the withdrawal is refused nothing has moved and the transfer fails."""
    refusal = InsufficientFunds(account_id="a", balance=1, amount=70)
    failing = given(MoneyTransfer, REQUESTED)
    failing.when_refused(WithdrawMoney("a", 70, "t"), refusal)
    failing.then_commands(FailTransfer("t", refusal.message)).then_ended()


def test_saga_compensates():
    """When the deposit is refused the source gets its money back, then the transfer fails."""
    refusal = AccountIsClosed(account_id="b")
    failing = given(MoneyTransfer, REQUESTED, MoneyWithdrawn("a", 70, "t", 30))
    failing.when_refused(DepositMoney("b", 70, "t"), refusal)
    failing.then_commands(DepositMoney("a", 70, "t"))
    failing.when(MoneyDeposited("a", 70, "t", 100))
    failing.then_commands(FailTransfer("t", refusal.message)).then_ended()


def test_saga_that_is_late():
    """A transfer that is not settled in time is flagged for a person."""
    late = given(MoneyTransfer, REQUESTED)
    late.after(dt.timedelta(minutes=14)).then()
    late.after(dt.timedelta(minutes=1)).then(FlagTransfer("t", "not settled after 15 minutes"))


async def test_account_view():
    """The view of an account follows its events."""
    scenario = given(Accounts, OPENED, HUNDRED, MoneyWithdrawn("a", 30, "", 70), AccountClosed("a"))
    await scenario.then(AccountView("a", "c", balance=70, movements=2, open=False))


async def test_insights():
    """Turnover is by month of the booking, spending by who paid."""
    later = TransferCompleted("u", "a", "b", 5, dt.date(1997, 2, 1))
    scenario = given(Insights, COMPLETED, COMPLETED, later)
    await scenario.then(
        MonthlyTurnover("b:1997-01", "b", "1997-01", 140, 2),
        MonthlyTurnover("b:1997-02", "b", "1997-02", 5, 1),
        Spending("a", 145, 3),
    )
