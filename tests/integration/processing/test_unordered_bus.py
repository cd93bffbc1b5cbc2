"""Processors and relays over a bus whose partitions are in no order, with gaps between offsets."""

from collections.abc import AsyncIterator
from typing import Annotated

import pytest

from headwater.errors import NotCaughtUp
from headwater.eventbus import WATERMARK, partition_of
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages import ConsistencyToken
from headwater.modelling import Projection, event_handler
from headwater.processing import BusSource, Processor, ProcessorAdmin, Relay
from headwater.testing.eventbus import PARTITIONS, collect
from headwater.views import Key, View
from headwater.views.memory import MemoryViewStore
from tests.conformance.eventbus.sparse_bus import SparseEventBus
from tests.integration.processing.conftest import QUICK, until
from tests.integration.processing.domain import Deposited, append
from tests.integration.processing.test_faults import die

SLOW, QUICKER = "a", "b"


class Sum(View):
    account: Annotated[str, Key]
    total: int = 0


class Sums(Projection):
    @event_handler(Sum, key="account_id")
    def deposited(self, view: Sum, event: Deposited) -> None:
        view.total += event.amount


class System:
    """A store, its relay, and a processor of another service that follows the bus."""

    def __init__(self, *, tells: bool) -> None:
        self.store = MemoryEventStore()
        self.bus = SparseEventBus(PARTITIONS, tells=tells)
        self.views = MemoryViewStore()
        self.claims = MemoryViewStore()  # of the service that publishes
        self.started: list[Processor | Relay] = []

    async def relay(self, owner: str = "r") -> Relay:
        made = Relay(
            self.store, self.bus, name="ledger", epoch=self.store.epoch, views=self.claims,
            owner=owner, settings=QUICK,
        )  # fmt: skip
        await made.start()
        self.started.append(made)
        return made

    def reader(self) -> Processor:
        source = BusSource(self.bus)
        made = Processor(Sums, source=source, views=self.views, owner="p", settings=QUICK)
        self.started.append(made)
        return made

    async def offsets(self, relay: Relay) -> list[int]:
        """Return where the events of the slow stream are, when all are published."""
        head = await self.store.head()

        async def published() -> bool:
            return (await relay.status()).position == head

        await until(published)
        log = self.bus._logs[partition_of(SLOW, PARTITIONS)]
        return [one.offset for one in log if one.event.stream == SLOW]

    async def sees(self, account: str) -> bool:
        return await self.views.get(Sum, account) is not None

    def at(self, position: int) -> ConsistencyToken:
        return ConsistencyToken.at("ledger", self.store.epoch, position)


@pytest.fixture(params=[False, True], ids=["asked", "told"])
async def system(request: pytest.FixtureRequest) -> AsyncIterator[System]:
    """Give a system, whose relay says where the ends of the partitions are, or cannot."""
    assert partition_of(SLOW, PARTITIONS) != partition_of(QUICKER, PARTITIONS)
    made = System(tells=request.param)
    yield made
    made.bus.let_go()
    for one in reversed(made.started):
        await one.stop()


async def test_a_later_event_does_not_stand_for_an_earlier_one(system: System) -> None:
    """Who has seen an event of one partition does not take those before it for seen."""
    system.bus.held_back = {partition_of(SLOW, PARTITIONS)}
    reader = system.reader()
    await reader.start()
    await append(system.store, SLOW, Deposited(SLOW, 1))
    await append(system.store, QUICKER, Deposited(QUICKER, 1))
    await system.relay()
    await until(lambda: system.sees(QUICKER))
    for position in (1, 2):
        with pytest.raises(NotCaughtUp):
            await reader.wait_for(system.at(position), timeout_s=0.05)
    system.bus.let_go()
    await reader.wait_for(system.at(2), timeout_s=20)
    assert await system.sees(SLOW)


async def test_the_last_event_is_waited_for_too(system: System) -> None:
    """After the last event the relay says that it is confirmed, and handlers hear nothing of it."""
    reader = system.reader()
    await reader.start()
    relay = await system.relay()
    for number in range(1, 4):
        position = await append(system.store, SLOW, Deposited(SLOW, number))
        await reader.wait_for(system.at(position), timeout_s=20)
    found = await collect(system.bus, 4)
    assert max(d.event.confirmed for d in found) == 3
    assert all(d.event.confirmed < d.event.position for d in found if d.event.type != WATERMARK)
    status = await reader.status()
    assert (status.handled, status.letters) == (3, 0)
    assert (await relay.status()).position == 3


async def test_who_takes_over_says_what_is_confirmed(system: System) -> None:
    """When a relay dies before it has said so, the next one does, without a new event."""
    system.bus.held_back = {partition_of("ledger", PARTITIONS)}  # where it would be said
    assert partition_of(SLOW, PARTITIONS) not in system.bus.held_back
    reader = system.reader()
    await reader.start()
    first = await system.relay("first")
    position = await append(system.store, SLOW, Deposited(SLOW, 1))
    await until(lambda: system.sees(SLOW))

    async def saved() -> bool:
        (segment,) = await system.claims.segments(first.name)
        return f",{position}]" in segment.token

    await until(saved)
    await die(first._processor)
    system.bus.held_back = set()
    with pytest.raises(NotCaughtUp):
        await reader.wait_for(system.at(position), timeout_s=0.05)
    await system.relay("second")
    await reader.wait_for(system.at(position), timeout_s=20)


@pytest.mark.parametrize("system", [True], indirect=True, ids=["told"])
async def test_who_was_told_the_ends_does_not_ask_for_them(system: System) -> None:
    """A query that waits for an event costs the bus nothing but its delivery."""
    reader = system.reader()
    await reader.start()
    await system.relay()
    for account in (SLOW, QUICKER):
        first = await append(system.store, account, Deposited(account, 1))
        await reader.wait_for(system.at(first), timeout_s=20)
    asked = system.bus.asked
    for account in 5 * (SLOW, QUICKER):
        position = await append(system.store, account, Deposited(account, 1))
        await reader.wait_for(system.at(position), timeout_s=20)
    assert system.bus.asked == asked


@pytest.mark.parametrize("read", [0, 2])
async def test_what_was_forgotten_is_never_passed_over(system: System, read: int) -> None:
    """A processor that comes too late stops and says so; a replay begins with what is kept."""
    relay = await system.relay()
    reader = system.reader()
    await reader.start()
    for _ in range(read):
        await append(system.store, SLOW, Deposited(SLOW, 1))
    await reader.wait_for(system.at(read), timeout_s=20)
    await reader.stop()
    for _ in range(6):
        await append(system.store, SLOW, Deposited(SLOW, 1))
    offsets = await system.offsets(relay)
    system.bus.cut(partition_of(SLOW, PARTITIONS), offsets[-2])
    again = system.reader()
    await again.start()
    await until(lambda: "forgotten before they were read" in again.failure)
    total = await _total(system)
    assert total == read, "and nothing of what comes after"
    admin = ProcessorAdmin(Sums, source=BusSource(system.bus), views=system.views, settings=QUICK)
    await admin.reset()

    async def kept() -> bool:
        return await _total(system) == 1

    await until(kept)
    await until(lambda: not again.failure)


async def test_who_begins_gets_what_is_kept(system: System) -> None:
    """A processor that is new begins with what is there, or behind it if it says so."""
    relay = await system.relay()
    for _ in range(4):
        await append(system.store, SLOW, Deposited(SLOW, 1))
    offsets = await system.offsets(relay)
    system.bus.cut(partition_of(SLOW, PARTITIONS), offsets[1])
    source = BusSource(system.bus)
    assert (await source.begin()).offsets[partition_of(SLOW, PARTITIONS)] == offsets[1]
    assert source.reached(await source.now(), await source.head())
    await system.reader().start()

    async def kept() -> bool:
        return await _total(system) == 2

    await until(kept)


async def _total(system: System) -> int:
    found = await system.views.get(Sum, SLOW)
    return 0 if found is None else found.total
