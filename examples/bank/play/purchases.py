"""The purchases of the CDNOW data set, read exactly."""

import datetime as dt
import gzip
from collections import Counter, defaultdict
from pathlib import Path

import msgspec

DATA = Path(__file__).parent.parent / "data" / "cdnow_master.txt.gz"


class Purchase(msgspec.Struct, frozen=True):
    """One line of the file. ``line`` identifies it: identical lines are distinct purchases."""

    line: int
    customer: str
    day: dt.date
    cents: int


class Expected(msgspec.Struct, frozen=True):
    """What the file says must come out, computed without the bank."""

    customers: int
    purchases: int
    worthless: int
    cents: int
    by_month: dict[str, int]
    by_customer: dict[str, int]


def read_purchases(*, every: int = 1, path: Path = DATA) -> dict[str, list[Purchase]]:
    """Return the purchases of every n-th customer, by customer id, in order of the file."""
    found: defaultdict[str, list[Purchase]] = defaultdict(list)
    with gzip.open(path, "rt") as lines:
        next(lines)
        for number, text in enumerate(lines, start=2):
            customer, date, _, dollars = text.split()
            if (int(customer) - 1) % every:
                continue
            whole, _, fraction = dollars.partition(".")
            day = dt.date(int(date[:4]), int(date[4:6]), int(date[6:]))
            cents = int(whole) * 100 + int(fraction.ljust(2, "0"))
            found[customer].append(Purchase(number, customer, day, cents))
    return dict(found)


def expect(purchases: dict[str, list[Purchase]]) -> Expected:
    """Return what the purchases add up to."""
    everything = [purchase for several in purchases.values() for purchase in several]
    by_month: Counter[str] = Counter()
    for purchase in everything:
        if purchase.cents:
            by_month[f"{purchase.day:%Y-%m}"] += purchase.cents
    return Expected(
        customers=len(purchases),
        purchases=sum(1 for purchase in everything if purchase.cents),
        worthless=sum(1 for purchase in everything if not purchase.cents),
        cents=sum(purchase.cents for purchase in everything),
        by_month=dict(sorted(by_month.items())),
        by_customer={c: sum(p.cents for p in several) for c, several in purchases.items()},
    )
