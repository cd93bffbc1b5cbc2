"""Services of the bank together, in one process."""

import datetime as dt

import pytest

from bank import accounts, transfers
from bank.contracts.accounts import (
    AccountIsClosed,
    AccountView,
    CloseAccount,
    DepositMoney,
    GetAccount,
    OpenAccount,
    UnknownCustomer,
)
from bank.contracts.customers import CustomerDirectory, CustomerView
from bank.contracts.transfers import (
    GetTransfer,
    RequestTransfer,
    TransferCompleted,
    TransferTooLarge,
)
from headwater.testing import running

DAY = dt.date(1997, 1, 31)


class KnownCustomers:
    """Every customer is known, but ``nobody``."""

    async def customer(self, customer_id: str) -> CustomerView | None:
        if customer_id == "nobody":
            return None
        return CustomerView(id=customer_id, name="Eve", email="eve@example.org")


FAKES = {CustomerDirectory: KnownCustomers()}


async def test_a_fake_stands_for_another_service():
    """Accounts are opened for customers that the fake knows."""
    async with running(accounts.service, clients=FAKES) as app:
        await app.send(OpenAccount("a", "eve"))
        with pytest.raises(UnknownCustomer):
            await app.send(OpenAccount("b", "nobody"))
        assert await app.query(GetAccount("a")) == AccountView("a", "eve")


async def test_money_moves_across_two_services():
    """A transfer's commands reach the accounts, whose events reach the transfer."""
    async with running(accounts.service, transfers.service, clients=FAKES) as app:
        for account in "a", "b":
            await app.send(OpenAccount(account, "eve"))
        await app.send(DepositMoney("a", 100))
        await app.send(RequestTransfer("t", "a", "b", 70, DAY))
        await app.settled()

        assert await app.events(TransferCompleted) == [TransferCompleted("t", "a", "b", 70, DAY)]
        assert (await app.query(GetTransfer("t"))).status == "completed"
        assert (await app.query(GetAccount("b"))).balance == 70


async def test_money_comes_back_from_a_closed_account():
    """When the target is closed, the transfer fails and the source has its money."""
    async with running(accounts.service, transfers.service, clients=FAKES) as app:
        for account in "a", "b":
            await app.send(OpenAccount(account, "eve"))
        await app.send(CloseAccount("b"))
        await app.send(DepositMoney("a", 100))
        await app.send(RequestTransfer("t", "a", "b", 70, DAY))
        await app.settled()

        shown = await app.query(GetTransfer("t"))
        assert (shown.status, shown.reason) == ("failed", AccountIsClosed(account_id="b").message)
        assert (await app.query(GetAccount("a"))).balance == 100


async def test_limits_are_configured():
    """A section of the configuration is what the test says."""
    config = {"limits": {"largest_transfer": 10}}
    async with running(transfers.service, config=config) as app:
        with pytest.raises(TransferTooLarge):
            await app.send(RequestTransfer("t", "a", "b", 11, DAY))
