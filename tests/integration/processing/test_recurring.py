"""Commands that are sent again and again: one run for each tick, over all instances."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from headwater.errors import InvalidInput
from headwater.messages import Command
from headwater.processing import (
    DeadLetter,
    ProcessorAdmin,
    Recurring,
)
from headwater.processing.sagas.views import PendingCommand
from headwater.processing.scheduling import schedule_applier
from tests.integration.processing.bank import Credit, Open
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.scheduled_bank import EVERY_HOUR, HOUR, NAME, Bank, Gate
from tests.integration.processing.test_faults import die


@pytest.fixture
async def bank(stores: Stores) -> Any:
    made = Bank(stores)
    await made.schedule.open()
    await stores.views.ensure([PendingCommand, DeadLetter])
    await made.bus.send(Open("a", 0))
    yield made
    for processor in stores.started:
        await processor.stop()
    await made.repository.close()


def recurring(
    make: Callable[[datetime], Command], *, cron: str = EVERY_HOUR, **how: Any
) -> dict[str, Recurring]:
    return {"credit": Recurring(cron, make, name="credit", zone="UTC", **how)}


def at_tick(tick: datetime) -> Credit:
    return Credit("a", 1, tick.isoformat())


async def first_tick(bank: Bank) -> datetime:
    """Return the next tick, as soon as it is put down."""

    async def there() -> bool:
        return bool(await bank.schedule.list())

    await until(there, timeout_s=30.0)
    [one] = await bank.schedule.list()
    assert (one.id, one.name) == ("every:credit", "credit")
    return one.due


async def past(bank: Bank, due: datetime, *, more_s: float = 0.0) -> None:
    """Move the clock to a time, and on."""
    now = await bank.stores.views.now()
    bank.stores.clock.skip(max(0.0, due.timestamp() - now) + more_s)


async def test_each_tick_once_over_all(bank: Bank) -> None:
    """Each tick is sent once, however many instances there are, and whoever of them dies."""
    gate, rules = Gate(bank.bus), recurring(at_tick)
    processors = [await bank.start(f"o{n}", bus=gate, recurring=rules) for n in range(2)]
    expected = []
    for turn in range(3):
        due = await first_tick(bank)
        expected.append(due.isoformat())
        await past(bank, due)
        await bank.until_credited(*expected)
        if turn == 1:
            await until(lambda: any(one.claims.held for one in processors), timeout_s=30.0)
            held = next(one for one in processors if one.claims.held)
            await die(held)
            await held.applier.close()
            bank.stores.clock.skip(2 * QUICK.lease_s)
    assert set(gate.tried) == {f"bank:{NAME}/credit/{tick}" for tick in expected}


@pytest.mark.parametrize("missed", ["latest", "skip"])
async def test_missed_ticks(bank: Bank, missed: str) -> None:
    """Of ticks while nobody was there the latest one is made up for, or none, as declared."""
    hourly = recurring(at_tick, missed=missed)
    first = await bank.start(recurring=hourly)
    due = await first_tick(bank)
    await first.stop()
    await past(bank, due, more_s=2 * HOUR.total_seconds() + 600)
    await bank.start("later", recurring=hourly)
    if missed == "latest":
        await bank.until_credited((due + 2 * HOUR).isoformat())

    async def next_one() -> bool:
        return [one.due for one in await bank.schedule.list()] == [due + 3 * HOUR]

    await until(next_one, timeout_s=30.0)
    await past(bank, due + 3 * HOUR)
    expected = [(due + n * HOUR).isoformat() for n in ((2, 3) if missed == "latest" else (3,))]
    await bank.until_credited(*expected)


async def test_a_changed_declaration(bank: Bank) -> None:
    """Another expression counts from the next start on, and what is declared no more is gone."""
    first = await bank.start(recurring=recurring(at_tick, cron="0 0 2 1 *"))
    await first_tick(bank)
    await first.stop()
    second = await bank.start("b", recurring=recurring(at_tick, cron="0 0 1 1 *"))

    async def at_new_year() -> bool:
        [one] = await bank.schedule.list()
        return (one.due.month, one.due.day, one.due.hour, one.due.minute) == (1, 1, 0, 0)

    await until(at_new_year, timeout_s=30.0)
    await second.stop()
    await bank.start("c")
    await bank.nothing_waits()
    assert await bank.credited() == []


async def test_a_tick_that_cannot_be_made(bank: Bank) -> None:
    """Who raises instead of making a command has a letter of that tick; the next ones come."""
    broken = [True]

    def fails(tick: datetime) -> Credit:
        if broken[0]:
            msg = "no command today"
            raise ValueError(msg)
        return at_tick(tick)

    rules = recurring(fails)
    await bank.start(recurring=rules)
    due = await first_tick(bank)
    await past(bank, due)

    async def parked() -> bool:
        return await bank.stores.views.count(DeadLetter) == 1

    await until(parked, timeout_s=30.0)
    assert (await first_tick(bank)) > due
    broken[0] = False
    applier = schedule_applier(service="bank", recurring=rules)
    admin = ProcessorAdmin(applier, source=applier.source, views=bank.stores.views)
    [letter] = [one async for one in admin.letters()]
    assert "no command today" in letter.error
    assert (await admin.retry(letter.sequence)).failed is None
    await bank.until_credited(due.isoformat())


async def test_what_is_declared_is_not_cancelled(bank: Bank) -> None:
    """A declared schedule would come again, so cancelling it is refused."""
    with pytest.raises(InvalidInput, match="remove the declaration"):
        await bank.schedule.cancel("every:credit")
