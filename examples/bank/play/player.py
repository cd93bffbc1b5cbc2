"""Plays the purchases: every customer opens an account, pays in, and buys at the shop."""

import asyncio
from collections.abc import Callable

from play.caller import Caller, Refused
from play.purchases import Purchase

SHOP = "shop"


class Player:
    """Plays all customers, many at once, each in the order of the file."""

    def __init__(self, caller: Caller, purchases: dict[str, list[Purchase]]) -> None:
        self._caller = caller
        self._purchases = purchases
        self.deposited = 0
        self.refused = 0
        self.unverified = 0

    async def play(self, *, at_once: int, step: Callable[[int], None]) -> None:
        """Play; ``step`` is told the number of purchases of each customer that is done.

        Raises:
            Refused: the bank refused what it should have accepted.
        """
        await self._open(SHOP, "The shop")
        waiting = iter(self._purchases.items())

        async def work() -> None:
            for customer, several in waiting:
                await self._play_customer(customer, several)
                step(len(several))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    async def _open(self, customer: str, name: str) -> str:
        token = await self._caller.command(
            "/customers",
            {"customer_id": customer, "name": name, "email": f"{customer}@customers.example"},
            key=f"register-{customer}",
        )
        return await self._caller.command(
            "/accounts",
            {"account_id": customer, "customer_id": customer},
            key=f"open-{customer}",
            token=token,
        )

    async def _play_customer(self, customer: str, purchases: list[Purchase]) -> None:
        token = await self._open(customer, f"Customer {customer}")
        total = sum(purchase.cents for purchase in purchases)
        if total:
            token = await self._caller.command(
                f"/accounts/{customer}/deposits",
                {"amount": total, "reference": "first deposit"},
                key=f"deposit-{customer}",
            )
            self.deposited += total
        account = await self._caller.query(f"/accounts/{customer}", token=token)
        if account["balance"] != total:
            message = f"account {customer} shows {account['balance']} after paying in {total}"
            raise AssertionError(message)
        for purchase in purchases:
            await self._buy(purchase)
        await self._caller.query(f"/accounts/{customer}")

    async def _buy(self, purchase: Purchase) -> None:
        try:
            await self._caller.command(
                "/transfers",
                {
                    "transfer_id": f"p{purchase.line}",
                    "source": purchase.customer,
                    "target": SHOP,
                    "amount": purchase.cents,
                    "booked_on": purchase.day.isoformat(),
                },
                key=f"buy-{purchase.line}",
            )
        except Refused as refused:
            if refused.code != "amount-not-positive":
                raise
            self.refused += 1
