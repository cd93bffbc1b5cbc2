"""Checks that what the bank holds is what the file says, to the cent."""

import asyncio
import time
from collections import Counter
from typing import Any

import msgspec

from play.caller import Caller
from play.player import SHOP, Player
from play.purchases import Expected, Purchase


class Check(msgspec.Struct, frozen=True):
    """One comparison."""

    what: str
    actual: Any
    expected: Any

    @property
    def passed(self) -> bool:
        """Whether they are the same."""
        return bool(self.actual == self.expected)


async def settled(caller: Caller, expected: Expected, *, patience_s: float) -> dict[str, int]:
    """Wait until no transfer is on its way; return how many ended how."""
    until = time.monotonic() + patience_s
    while True:
        counts: dict[str, int] = await caller.query("/transfers/summary/counts")
        done = counts["completed"] + counts["failed"] >= expected.purchases
        if (done and not counts["requested"]) or time.monotonic() > until:
            return counts
        await asyncio.sleep(0.1)


async def turned_over(caller: Caller, expected: Expected, *, patience_s: float) -> dict[str, int]:
    """Wait until insights has seen every purchase; return the turnover by month."""
    until = time.monotonic() + patience_s
    while True:
        months = await caller.query(f"/insights/turnover/{SHOP}")
        seen = sum(month["transfers"] for month in months)
        if seen >= expected.purchases or time.monotonic() > until:
            return {month["month"]: month["amount"] for month in months}
        await asyncio.sleep(0.1)


async def come_to_rest(caller: Caller, player: Player, *, patience_s: float) -> dict[str, int]:
    """Wait until the view of the accounts has seen everything; return all balances."""
    until = time.monotonic() + patience_s
    while True:
        held = await balances(caller)
        seen = sum(held.values()) == player.deposited and not _left(held)
        if seen or time.monotonic() > until:
            return held
        await asyncio.sleep(0.1)


async def balances(caller: Caller) -> dict[str, int]:
    """Return the balance of every account, as the view shows it now."""
    found: dict[str, int] = {}
    cursor = ""
    while True:
        page = await caller.query(f"/accounts?limit=1000&cursor={cursor}")
        found.update((account["id"], account["balance"]) for account in page["items"])
        cursor = page["next"]
        if not cursor:
            return found


async def settlements(caller: Caller, purchases: dict[str, list[Purchase]]) -> Counter[int]:
    """Return how many transfers were settled how often, asking for each customer's."""
    counted: Counter[int] = Counter()
    waiting = iter(purchases)

    async def work() -> None:
        for customer in waiting:
            for transfer in await caller.query(f"/transfers?source={customer}&limit=1000"):
                counted[transfer["settlements"]] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(work())
    return counted


async def check(
    caller: Caller,
    player: Player,
    expected: Expected,
    purchases: dict[str, list[Purchase]],
    *,
    patience_s: float,
) -> list[Check]:
    """Wait for the bank to come to rest, then compare."""
    counts = await settled(caller, expected, patience_s=patience_s)
    by_month = await turned_over(caller, expected, patience_s=30.0)
    held = await come_to_rest(caller, player, patience_s=30.0)
    top = await caller.query("/insights/top-customers?limit=10")
    best = sorted(expected.by_customer.values(), reverse=True)[:10]
    return [
        Check("the shop's balance is the sum in the file", held.get(SHOP), expected.cents),
        Check("all balances together are what was paid in", sum(held.values()), player.deposited),
        Check("accounts", len(held), expected.customers + 1),
        Check("accounts of customers with money left", _left(held), []),
        Check("turnover of each month", by_month, expected.by_month),
        Check("top ten customers", [spending["amount"] for spending in top], best),
        Check("purchases completed", counts["completed"], expected.purchases),
        Check("purchases failed or not settled", counts["failed"] + counts["requested"], 0),
        Check(
            "settlements per purchase",
            dict(await settlements(caller, purchases)),
            {1: expected.purchases},
        ),
        Check("purchases of nothing refused", player.refused, expected.worthless),
    ]


def _left(held: dict[str, int]) -> list[str]:
    return [account for account, balance in held.items() if balance and account != SHOP][:5]
