"""A whole service on PostgreSQL over a way that is cut at the worst moments, hundreds of times.

Projections, sagas, dead letters, segments and the bus, in two processes' worth of connections: the
views are the fold of the log, each event has its effect once, each step of a saga its command.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, TypeVar

import pytest

from headwater.dispatch import CommandResult
from headwater.errors import EventParked, Rejection, StoreUnavailable
from headwater.eventbus.postgres import PostgresEventBus
from headwater.eventstore import Idempotency, StreamWrite
from headwater.eventstore.postgres import PostgresEventStore
from headwater.messages import Command, ConsistencyToken, Event
from headwater.messages.codec import EventCodec
from headwater.modelling import (
    Deadline,
    Effects,
    Projection,
    Saga,
    deadline_handler,
    event_handler,
    rejection_handler,
    saga_handler,
)
from headwater.processing import (
    BusSource,
    DeadLetter,
    Processor,
    ProcessorAdmin,
    Relay,
    SagaProcessor,
    StoreSource,
)
from headwater.processing.sagas.views import PendingCommand, SagaDeadline
from headwater.testing.eventstore_base import log_of
from headwater.views import Key, View
from headwater.views.postgres import PostgresViewStore
from tests.cutting_proxy import CuttingProxy
from tests.integration.processing.conftest import QUICK, until
from tests.integration.processing.domain import AccountView, Deposited, Ledger, Opened, stored

T = TypeVar("T")

ACCOUNTS = [f"a{number}" for number in range(8)]
DEPOSITS = 300
POISON = 666
AWAY_S = 0.3  # longer than anybody tries to find out what became of a commit
CUTS_MIN = 80
WAIT_S_MAX = 60.0


class Count(Command):
    account_id: str
    number: int


class Sorry(Command):
    account_id: str
    number: int


class Remind(Command):
    account_id: str


class Done(Event):
    what: str


class Odd(Rejection):
    number: int


class Counting(Saga):
    """Counts the deposits of an account; each step sends one command."""

    saga_start = "beginning"

    saga_segments = 3
    seen: int = 0

    @saga_handler(key="account_id", starts=True)
    def deposited(self, event: Deposited) -> Effects:
        self.seen += 1
        count = Count(self.id, self.seen)
        return [count, Deadline("due", timedelta(milliseconds=50))] if self.seen == 1 else count

    @rejection_handler
    def refused(self, command: Count, rejection: Odd) -> Effects:
        return Sorry(self.id, rejection.number)

    @deadline_handler("due")
    def due(self) -> Effects:
        return Remind(self.id)


class FarView(View):
    id: Annotated[str, Key]
    balance: int = 0
    events: int = 0


class Far(Projection):
    """What another service makes of the same events, from the bus."""

    source = "bus"
    segments = 2

    @event_handler(FarView, key="account_id")
    def opened(self, event: Opened) -> FarView:
        return FarView(event.account_id)

    @event_handler(FarView, key="account_id")
    def deposited(self, view: FarView, event: Deposited) -> None:
        view.balance += event.amount
        view.events += 1


class Process:
    """What one process has: its connections, and what runs on them."""

    def __init__(
        self, store: PostgresEventStore, views: PostgresViewStore, bus: PostgresEventBus, name: str
    ) -> None:
        self.store, self.views, self.bus = store, views, bus
        views._database.commits.settle_timeout_s = AWAY_S / 2
        self.source = StoreSource(store, "ledger")
        self.ledger = Ledger()
        self.ledger.poison = {POISON}
        self.keys: Counter[str] = Counter()
        self.processors = [
            Processor(self.ledger, source=self.source, views=views, owner=name, settings=QUICK),
            Processor(Far, source=BusSource(bus), views=views, owner=name, settings=QUICK),
            SagaProcessor(
                Counting, source=self.source, views=views, owner=name, commands=self, settings=QUICK
            ),
        ]
        self.relay = Relay(
            store, bus, name="ledger", epoch=store.epoch, views=views, owner=name, settings=QUICK
        )

    async def send(
        self, command: Command, *, idempotency_key: str = "", **_: object
    ) -> CommandResult:
        """Be the command bus: what is done is an event, once for a key."""
        self.keys[idempotency_key] += 1
        if isinstance(command, Count) and command.number % 7 == 0:
            raise Odd(number=command.number)
        event = stored(Done(repr(command)))
        write = StreamWrite("done", [event])
        appended = await self.store.append([write], idempotency=Idempotency(idempotency_key))
        return CommandResult("done", 1, "", appended.duplicate)

    async def start(self) -> None:
        for part in (*self.processors, self.relay):
            await patiently(part.start)

    async def stop(self) -> None:
        for part in (self.relay, *self.processors):
            await part.stop()
        for opened in (self.bus, self.views, self.store):
            await opened.close()


@asynccontextmanager
async def process(url: str, name: str) -> AsyncIterator[Process]:
    made = Process(
        await PostgresEventStore.open(url, resolve_timeout_s=AWAY_S / 2),
        await PostgresViewStore.open(url),
        await PostgresEventBus.open(url),
        name,
    )
    try:
        yield made
    finally:
        await made.stop()


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do what may be done again until it succeeds."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            try:
                return await work()
            except StoreUnavailable:
                await asyncio.sleep(0.01)


async def deposit_all(store: PostgresEventStore, proxy: CuttingProxy) -> None:
    """Deposit cents, and cut in all ways meanwhile; what fails is done again with its key."""
    for number in range(DEPOSITS):
        account = ACCOUNTS[number % len(ACCOUNTS)]
        amount = POISON if number in (50, 51) else 1
        write = StreamWrite(account, [stored(Deposited(account, amount))])
        key = Idempotency(f"deposit-{number}")

        async def append(write: StreamWrite = write, key: Idempotency = key) -> None:
            await store.append([write], idempotency=key)

        if number % 100 == 0:
            await proxy.tell(hows=["behind", "beside"], chance=0.5)
        elif number % 100 == 60:
            await proxy.tell(chance=0.25)
        elif number % 100 == 75:
            await proxy.tell(only="", chance=0.03)
        elif number % 100 == 90:  # so that nobody can find out
            await proxy.tell(chance=1.0, cuts=1, closing=True)
            await asyncio.sleep(AWAY_S)
            await proxy.tell(chance=0.25)
        await patiently(append)
        await asyncio.sleep(0.01)  # so that there are many transactions


@pytest.mark.parametrize("seed", range(2))
async def test_effects_are_there_once(postgres_url: str, seed: int) -> None:
    """Wherever the way was cut: 300 deposits are 300, with one command for each step of a saga."""
    witness = await PostgresEventStore.open(postgres_url)
    views = await PostgresViewStore.open(postgres_url)
    opened = [StreamWrite(name, [stored(Opened(name, "x"))]) for name in ACCOUNTS]
    await witness.append(opened)
    async with (
        CuttingProxy(postgres_url, seed=seed) as proxy,
        process(proxy.url, "one") as one,
        process(proxy.url, "two") as two,
    ):
        await one.start()
        await two.start()
        depositing = asyncio.create_task(deposit_all(one.store, proxy))
        await until(lambda: one.ledger.calls + two.ledger.calls > DEPOSITS / 3, timeout_s=60)
        admin = ProcessorAdmin(Ledger(), source=one.source, views=one.views, settings=QUICK)
        await patiently(lambda: admin.resize(3))
        await depositing
        await finished(two, views)
        await patiently(lambda: retried(admin))
        cut = await proxy.tell()
        keys = one.keys.keys() | two.keys.keys()
    assert sum(cut.values()) > CUTS_MIN, cut
    await check(witness, views, keys)
    await views.close()
    await witness.close()


async def retried(admin: ProcessorAdmin) -> None:
    """Handle all dead letters again, in a program that can."""
    for sequence in {letter.sequence async for letter in admin.letters()}:
        assert (await admin.retry(sequence)).failed is None


async def finished(process: Process, views: PostgresViewStore) -> None:
    """Wait until everything has arrived, still over the way that is cut."""
    store = process.store

    async def arrived() -> None:
        head = ConsistencyToken.at("ledger", store.epoch, await store.head())
        for processor in process.processors:
            with contextlib.suppress(EventParked):  # which is what some are
                await processor.wait_for(head, timeout_s=WAIT_S_MAX)

    await patiently(arrived)

    async def idle() -> bool:
        return not any([await views.count(kind) for kind in (PendingCommand, SagaDeadline)])

    await until(idle, timeout_s=WAIT_S_MAX)


async def check(witness: PostgresEventStore, views: PostgresViewStore, keys: set[str]) -> None:
    log = await log_of(witness)
    codec = EventCodec([Opened, Deposited, Done])
    events = [codec.decode(e.type, e.type_version, e.data) for e in log]
    deposits = [event for event in events if isinstance(event, Deposited)]
    assert len(deposits) == DEPOSITS
    balances: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    expected: Counter[str] = Counter(repr(Remind(name)) for name in ACCOUNTS)
    for event in deposits:
        balances[event.account_id] += event.amount
        number = numbers[event.account_id] = numbers[event.account_id] + 1
        kind = Sorry if number % 7 == 0 else Count
        expected[repr(kind(event.account_id, number))] += 1
    found = (await views.find(AccountView)).items
    assert {view.id: (view.balance, view.events) for view in found} == {
        name: (balances[name], numbers[name]) for name in ACCOUNTS
    }
    far = (await views.find(FarView)).items
    assert {view.id: (view.balance, view.events) for view in far} == {
        name: (balances[name], numbers[name]) for name in ACCOUNTS
    }
    assert Counter(event.what for event in events if isinstance(event, Done)) == expected
    refused = sum(number // 7 for number in numbers.values())
    assert len(keys) == DEPOSITS + refused + len(ACCOUNTS)
    assert await views.count(DeadLetter) == 0
