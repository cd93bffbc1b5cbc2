"""Commands that are sent later: each once in effect, whatever happens, or visible as a letter."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headwater.errors import IdempotencyKeyReused, InvalidInput
from headwater.messages import Metadata, handling
from headwater.processing import (
    DeadLetter,
    ProcessorAdmin,
    Schedule,
)
from headwater.processing.sagas.views import PendingCommand
from headwater.processing.scheduling import schedule_applier
from headwater.processing.scheduling.views import ScheduledCommand
from headwater.views.postgres import PostgresViewStore
from tests.integration.processing.bank import Credit, Open, Withdraw
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.scheduled_bank import HOUR, NAME, Bank, Gate
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


async def test_each_is_sent_at_its_time(bank: Bank) -> None:
    """What is due is sent, in whatever order it was put down, and nothing else; then it is gone."""
    await bank.start()
    now = datetime.fromtimestamp(await bank.stores.views.now(), UTC)
    later = await bank.schedule.add(Credit("a", 1, "later"), after=2 * HOUR)
    sooner = await bank.schedule.add(Credit("a", 1, "sooner"), at=now + HOUR)
    past = await bank.schedule.add(Credit("a", 1, "past"), at=datetime(2000, 1, 1, tzinfo=UTC))
    assert sooner.due == now + HOUR
    assert abs(later.due - now - 2 * HOUR) < timedelta(minutes=1)
    await bank.until_credited("past")
    assert [one.id for one in await bank.schedule.list()] == [sooner.id, later.id]
    assert past.id != sooner.id
    bank.stores.clock.skip(HOUR.total_seconds() + 60)
    await bank.until_credited("past", "sooner")
    bank.stores.clock.skip(HOUR.total_seconds())
    await bank.until_credited("past", "sooner", "later")
    await bank.nothing_waits()


async def test_it_outlives_who_has_put_it_down(bank: Bank) -> None:
    """What was put down while nobody works is sent by whoever starts next."""
    await bank.schedule.add(Credit("a", 1, "x"), after=HOUR)
    bank.stores.clock.skip(3 * HOUR.total_seconds())
    await bank.start()
    await bank.until_credited("x")
    await bank.nothing_waits()


@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_crash_between_due_and_delivery(bank: Bank, carried_out: bool) -> None:
    """Who dies while a command is on its way leaves it to another one, who sends it with its key.

    Whether it had been carried out already or not, it is there once.
    """
    gate = Gate(bank.bus)
    (gate.answers if carried_out else gate.open).clear()
    first = await bank.start("first", bus=gate)
    await bank.schedule.add(Credit("a", 1, "x"), after=timedelta())
    await until(lambda: gate.carried_out if carried_out else gate.tried)
    second = Gate(bank.bus)
    await bank.start("second", bus=second)
    await die(first)
    await first.applier.close()
    bank.stores.clock.skip(2 * QUICK.lease_s)
    await bank.until_credited("x")
    await until(lambda: second.carried_out)
    await bank.nothing_waits()
    assert set(second.tried) == set(gate.tried)
    assert await bank.credited() == ["x"]


async def test_two_at_once(bank: Bank) -> None:
    """Of several that work at once one sends; each command is sent once."""
    gates = [Gate(bank.bus) for _ in range(3)]
    for number, gate in enumerate(gates):
        await bank.start(f"owner-{number}", bus=gate)
    for n in range(30):
        await bank.schedule.add(Credit("a", 1, f"x{n}"), after=timedelta(seconds=n % 3))
    bank.stores.clock.skip(10)
    await bank.until_credited(*(f"x{n}" for n in range(30)))
    await bank.nothing_waits()
    tried = Counter(key for gate in gates for key in gate.tried)
    assert len(tried) == 30


async def test_a_lost_claim_does_not_send_twice(bank: Bank) -> None:
    """Who stands still for longer than the lease and goes on sends with the same key."""
    gate, other = Gate(bank.bus), Gate(bank.bus)
    gate.open.clear()
    await bank.start("first", bus=gate)
    await bank.schedule.add(Credit("a", 1, "x"), after=timedelta())
    await until(lambda: gate.tried)
    await bank.start("second", bus=other)
    [segment] = await bank.stores.views.segments(NAME)
    await bank.stores.views.reset(NAME, token=segment.token, generation=segment.generation)
    gate.open.set()
    await bank.until_credited("x")
    await bank.nothing_waits()
    assert await bank.credited() == ["x"]


async def test_cancelled(bank: Bank) -> None:
    """What is cancelled before it is due is never sent; later it is too late, which is told."""
    gate = Gate(bank.bus)
    gate.open.clear()
    await bank.start(bus=gate)
    wanted = await bank.schedule.add(Credit("a", 1, "wanted"), after=HOUR)
    gone = await bank.schedule.add(Credit("a", 1, "gone"), after=HOUR)
    assert await bank.schedule.cancel(gone.id)
    assert not await bank.schedule.cancel(gone.id)
    assert not await bank.schedule.cancel("made up")
    bank.stores.clock.skip(2 * HOUR.total_seconds())
    await until(lambda: gate.tried)
    assert not await bank.schedule.cancel(wanted.id)
    gate.open.set()
    await bank.nothing_waits()
    assert await bank.credited() == ["wanted"]


async def test_cancelled_while_due(bank: Bank) -> None:
    """Of a cancellation and a delivery at once one wins: sent, or cancelled, never both or none."""
    views = await bank.stores.another()
    elsewhere = Schedule(views, service="bank")
    await bank.start()
    receipts = {
        f"x{n}": await bank.schedule.add(Credit("a", 1, f"x{n}"), after=timedelta(seconds=1))
        for n in range(40)
    }
    bank.stores.clock.skip(2)
    cancelled = set()
    for reference, receipt in receipts.items():
        if await elsewhere.cancel(receipt.id):
            cancelled.add(reference)
    await bank.until_credited(*(receipts.keys() - cancelled))
    await bank.nothing_waits()


async def test_a_cancellation_that_came_first(bank: Bank) -> None:
    """What somebody is about to cancel, when it comes due, is not sent."""
    views = await bank.stores.another()
    processor = await bank.start()
    receipt = await bank.schedule.add(Credit("a", 1, "x"), after=HOUR)
    found = asyncio.Event()
    work = processor.applier.do_due

    class Noticing:
        def __init__(self, transaction: Any) -> None:
            self._transaction = transaction

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transaction, name)

        async def find(self, *args: Any, **how: Any) -> Any:
            page = await self._transaction.find(*args, **how)
            if page.items:
                found.set()
            return page

    async def noticed(transaction: Any, indices: Any, *, synced: bool) -> None:
        await work(Noticing(transaction), indices, synced=synced)  # type: ignore[arg-type]  # as one

    processor.applier.do_due = noticed  # type: ignore[method-assign]  # to see when it is found
    async with views.transaction() as transaction:
        there = await transaction.load(ScheduledCommand, [receipt.id])
        await transaction.delete(ScheduledCommand, list(there))
        await transaction.check()
        bank.stores.clock.skip(2 * HOUR.total_seconds())
        processor.wake()
        if isinstance(views, PostgresViewStore):  # elsewhere transactions do not overlap
            await asyncio.wait_for(found.wait(), 30.0)
            for _ in range(20):  # it may go on, and has to wait for us
                await views.now()
    await bank.nothing_waits()
    assert await bank.credited() == []


async def test_with_a_transaction(bank: Bank) -> None:
    """What is put down in a transaction is there with it, or not at all."""
    await bank.start()

    async def put(reference: str, *, fails: bool) -> None:
        async with bank.stores.views.transaction() as transaction:
            await bank.schedule.add(
                Credit("a", 1, reference), after=timedelta(), transaction=transaction
            )
            if fails:
                msg = "rolled back"
                raise LookupError(msg)

    with pytest.raises(LookupError):
        await put("undone", fails=True)
    assert await bank.schedule.list() == []
    await put("done", fails=False)
    await bank.until_credited("done")
    await bank.nothing_waits()
    assert await bank.credited() == ["done"]


async def test_an_idempotency_key(bank: Bank) -> None:
    """Under one key a command is put down once, and carried out once, also when it was sent."""
    first = await bank.schedule.add(Credit("a", 1, "x"), after=HOUR, idempotency_key="k")
    again = await bank.schedule.add(Credit("a", 1, "x"), after=2 * HOUR, idempotency_key="k")
    assert again == first
    with pytest.raises(IdempotencyKeyReused):
        await bank.schedule.add(Credit("a", 2, "y"), after=HOUR, idempotency_key="k")
    await bank.start()
    bank.stores.clock.skip(2 * HOUR.total_seconds())
    await bank.until_credited("x")
    await bank.nothing_waits()
    await bank.schedule.add(Credit("a", 1, "x"), after=timedelta(), idempotency_key="k")
    await bank.nothing_waits()
    assert await bank.credited() == ["x"]


async def test_a_refused_command_is_a_letter(bank: Bank) -> None:
    """What is refused waits as a letter; a retry decides it anew, and it is carried out once."""
    processor = await bank.start()
    await bank.schedule.add(Withdraw("a", 5, "w"), after=timedelta())

    async def parked() -> bool:
        return await bank.stores.views.count(DeadLetter) == 1

    await until(parked, timeout_s=30.0)
    await bank.nothing_waits()
    applier = schedule_applier(service="bank", recurring={})
    admin = ProcessorAdmin(applier, source=applier.source, views=bank.stores.views)
    [letter] = [one async for one in admin.letters()]
    assert (letter.kind, letter.type, letter.code) == ("command", "Withdraw", "insufficient")
    seen = await admin.status()
    assert (seen.dead_letters, seen.lag, len(seen.segments)) == (1, 0, 1)
    status = await processor.status()
    assert (status.letters, status.parked) == (1, 1)
    assert "1 commands were refused: see `headwater dead-letters list" in str(
        await processor.concerns()
    )
    await bank.bus.send(Credit("a", 7, "enough"))
    assert (await admin.retry(letter.sequence)).failed is None
    await bank.nothing_waits()

    async def withdrawn() -> bool:
        return await bank.credited("Withdrawn") == ["w"]

    await until(withdrawn, timeout_s=30.0)
    assert await bank.stores.views.count(DeadLetter) == 0


async def test_what_is_away_is_waited_for(bank: Bank) -> None:
    """While nobody handles the command it is tried again, which is told; then it is carried out."""
    gate = Gate(bank.bus)
    gate.away = True
    processor = await bank.start(bus=gate)
    await bank.schedule.add(Credit("a", 1, "x"), after=timedelta())
    await until(lambda: len(gate.tried) >= 9, timeout_s=30.0)
    [told] = await processor.concerns()
    assert "1 commands wait" in told
    gate.away = False
    await bank.until_credited("x")
    await bank.nothing_waits()
    assert len(set(gate.tried)) == 1


async def test_the_cause_goes_along(bank: Bank) -> None:
    """What a command leads to carries the correlation of what it was put down by."""
    with handling(Metadata(id="m1", correlation_id="c1", tenant="acme")):
        await bank.schedule.add(Credit("a", 1, "x"), after=timedelta())
    await bank.start()
    await bank.until_credited("x")
    async for page in bank.stores.store.read():
        [metadata] = [e.metadata for e in page.events if e.type == "Credited"] or [b""]
    assert b'"correlation_id":"c1"' in metadata
    assert b'"tenant":"acme"' in metadata


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ({}, "say either at="),
        ({"at": datetime(2030, 1, 1, tzinfo=UTC), "after": HOUR}, "say either at="),
        ({"at": datetime(2030, 1, 1)}, "says no zone"),  # noqa: DTZ001
        ({"after": -HOUR}, "is over already"),
        ({"after": timedelta.max}, "beyond the year 9999"),
    ],
)
async def test_times_that_are_none(bank: Bank, when: dict[str, Any], reason: str) -> None:
    """A time that nobody can know is refused with what to say instead, and nothing is put down."""
    with pytest.raises(InvalidInput, match=reason):
        await bank.schedule.add(Credit("a", 1, "x"), **when)
    assert await bank.schedule.list() == []


# again and again ------------------------------------------------------------------------------
