"""What an upgrade can change of views: each program has all of them, as it declares them."""

from typing import Annotated, Any

import pytest

from headwater.modelling import Projection, event_handler
from headwater.views import Key, View
from tests.integration.processing.conftest import Stores
from tests.integration.processing.domain import Deposited, Opened, append
from tests.integration.processing.test_generations import (
    NewAccount,
    NewAccounts,
    OldAccount,
    OldAccounts,
    started,
)


class RenamedAccount(View):
    id: Annotated[str, Key]
    balance: int = 0


class RenamedAccounts(Projection):
    """The view has another name."""

    name = "accounts"

    @event_handler(RenamedAccount, key="account_id")
    def opened(self, event: Opened) -> RenamedAccount:
        return RenamedAccount(event.account_id)

    @event_handler(RenamedAccount, key="account_id")
    def deposited(self, view: RenamedAccount, event: Deposited) -> None:
        view.balance += event.amount


class TextAccount(View):
    view_name = "Account"
    id: Annotated[str, Key]
    balance: str = ""


class RetypedAccounts(Projection):
    """A field has another type."""

    name = "accounts"

    @event_handler(TextAccount, key="account_id")
    def deposited(self, view: TextAccount, event: Deposited) -> None:
        view.balance += str(event.amount)


class HolderAccount(View):
    view_name = "Account"
    holder: Annotated[str, Key]
    accounts: int = 0


class RekeyedAccounts(Projection):
    """The view has another key."""

    name = "accounts"

    @event_handler(HolderAccount, key="holder")
    def opened(self, view: HolderAccount, event: Opened) -> None:
        view.accounts += 1


class RecomputedAccounts(Projection):
    """Only the handlers are other ones."""

    name = "accounts"

    @event_handler(OldAccount, key="account_id")
    def deposited(self, view: OldAccount, event: Deposited) -> None:
        view.balance += event.amount * 10


class MonthTotal(View):
    month: Annotated[str, Key]
    total: int = 0


class Together(OldAccounts):
    """Two views in one projection."""

    name = "accounts"

    @event_handler(MonthTotal, key="month")
    def counted(self, view: MonthTotal, event: Deposited) -> None:
        view.total += event.amount


class Months(Projection):
    """One of them has moved to a projection of its own."""

    @event_handler(MonthTotal, key="month")
    def counted(self, view: MonthTotal, event: Deposited) -> None:
        view.total += event.amount


PROGRAMS: dict[str, tuple[type[Projection], tuple[Any, ...]]] = {
    "plain": (OldAccounts, (OldAccount("a", 2),)),
    "newer": (NewAccounts, (NewAccount("a", 2, "Ada", 2),)),
    "renamed": (RenamedAccounts, (RenamedAccount("a", 2),)),
    "retyped": (RetypedAccounts, (TextAccount("a", "11"),)),
    "rekeyed": (RekeyedAccounts, (HolderAccount("Ada", 1),)),
    "recomputed": (RecomputedAccounts, (OldAccount("a", 20),)),
    "together": (Together, (OldAccount("a", 2), MonthTotal("2024-01", 2))),
    "months": (Months, (MonthTotal("2024-01", 2),)),
}

CHANGES = [
    ("plain", "renamed"),
    ("plain", "retyped"),
    ("plain", "rekeyed"),
    ("plain", "recomputed"),
    ("newer", "plain"),
    ("together", "months"),
    ("months", "together"),
    ("together", "plain"),
    ("plain", "together"),
    ("newer", "rekeyed"),
]


class Program:
    """A program with one projection."""

    def __init__(self, name: str) -> None:
        self.Accounts, self.expected = PROGRAMS[name]


@pytest.mark.parametrize("change", CHANGES, ids="-".join)
async def test_whatever_changes(stores: Stores, change: tuple[str, str]) -> None:
    """Views renamed, moved, divided, with other fields, keys, indexes or handlers: each has all."""
    await append(stores.store, "a", Opened("a", "Ada"), Deposited("a", 1))
    programs = [Program(name) for name in change]
    instances = [await started(stores, one, f"p{n}") for n, one in enumerate(programs)]
    await append(stores.store, "a", Deposited("a", 1))
    for program, (projection, processor) in zip(programs, instances, strict=True):
        await stores.caught_up(processor)
        for view in program.expected:
            assert (await projection.views.find(type(view))).items == [view]
