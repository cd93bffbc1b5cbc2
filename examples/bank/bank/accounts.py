"""The accounts service: command and query side run as separate processes."""

import msgspec

from bank.contracts.accounts import (
    AccountClosed,
    AccountIsClosed,
    AccountNotEmpty,
    AccountOpened,
    AccountPage,
    AccountView,
    AmountNotPositive,
    CloseAccount,
    DepositMoney,
    FindAccounts,
    GetAccount,
    InsufficientFunds,
    MoneyDeposited,
    MoneyWithdrawn,
    OpenAccount,
    UnknownCustomer,
    WithdrawMoney,
)
from bank.contracts.customers import CustomerDirectory
from headwater import (
    Aggregate,
    CommandMessage,
    CommandNext,
    CommandResult,
    Projection,
    Service,
    command_handler,
    event_handler,
    event_sourcing_handler,
    intercepts,
    query_handler,
)


class Account(Aggregate):
    """One account."""

    customer_id: str = ""
    balance: int = 0
    open: bool = False

    @command_handler(creates=True)
    def open_account(self, command: OpenAccount) -> AccountOpened:
        """Open it."""
        return AccountOpened(command.account_id, command.customer_id, command.verified)

    @command_handler
    def deposit(self, command: DepositMoney) -> MoneyDeposited:
        """Pay in."""
        self._check(command.amount)
        balance = self.balance + command.amount
        return MoneyDeposited(command.account_id, command.amount, command.reference, balance)

    @command_handler
    def withdraw(self, command: WithdrawMoney) -> MoneyWithdrawn:
        """Take out what is there."""
        self._check(command.amount)
        if command.amount > self.balance:
            raise InsufficientFunds(account_id=self.id, balance=self.balance, amount=command.amount)
        balance = self.balance - command.amount
        return MoneyWithdrawn(command.account_id, command.amount, command.reference, balance)

    @command_handler
    def close(self, command: CloseAccount) -> AccountClosed:
        """Close it, when it is empty."""
        if not self.open:
            raise AccountIsClosed(account_id=self.id)
        if self.balance:
            raise AccountNotEmpty(account_id=self.id, balance=self.balance)
        return AccountClosed(command.account_id)

    def _check(self, amount: int) -> None:
        if not self.open:
            raise AccountIsClosed(account_id=self.id)
        if amount < 1:
            raise AmountNotPositive(amount=amount)

    @event_sourcing_handler
    def opened(self, event: AccountOpened) -> None:
        """Begin."""
        self.customer_id, self.open = event.customer_id, True

    @event_sourcing_handler
    def deposited(self, event: MoneyDeposited) -> None:
        """Add."""
        self.balance += event.amount

    @event_sourcing_handler
    def withdrawn(self, event: MoneyWithdrawn) -> None:
        """Subtract."""
        self.balance -= event.amount

    @event_sourcing_handler
    def closed(self, _: AccountClosed) -> None:
        """End."""
        self.open = False


class Accounts(Projection):
    """Accounts with their balance."""

    @event_handler(AccountView, key="account_id")
    def opened(self, event: AccountOpened) -> AccountView:
        """Show the account."""
        return AccountView(id=event.account_id, customer_id=event.customer_id)

    @event_handler(AccountView, key="account_id")
    def deposited(self, view: AccountView, event: MoneyDeposited) -> None:
        """Add."""
        view.balance += event.amount
        view.movements += 1

    @event_handler(AccountView, key="account_id")
    def withdrawn(self, view: AccountView, event: MoneyWithdrawn) -> None:
        """Subtract."""
        view.balance -= event.amount
        view.movements += 1

    @event_handler(AccountView, key="account_id")
    def closed(self, view: AccountView, _: AccountClosed) -> None:
        """Show that it is closed."""
        view.open = False

    @query_handler
    async def one(self, query: GetAccount) -> AccountView | None:
        """Answer with one account."""
        return await self.views.get(AccountView, query.account_id)

    @query_handler
    async def find(self, query: FindAccounts) -> AccountPage:
        """Answer with some accounts, a page at a time."""
        where = {"customer_id": query.customer_id} if query.customer_id else None
        page = await self.views.find(
            AccountView, where=where, limit=query.limit, cursor=query.cursor
        )
        return AccountPage(page.items, page.next)


@intercepts
async def known_customer(
    message: CommandMessage[OpenAccount], proceed: CommandNext
) -> CommandResult:
    """Open accounts for registered customers only; unverified while nobody can tell."""
    command = message.command
    customer = await directory.customer(command.customer_id)
    if customer is None:
        raise UnknownCustomer(customer_id=command.customer_id)
    verified = bool(customer.email)
    checked = msgspec.structs.replace(command, verified=verified)
    return await proceed(msgspec.structs.replace(message, command=checked))


service = Service(
    "accounts",
    aggregates=[Account],
    projections=[Accounts],
    interceptors=[known_customer],
    version="1.0",
)
directory = service.client(CustomerDirectory)
