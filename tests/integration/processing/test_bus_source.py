"""Following the bus: at least once comes in, every effect is there once."""

from collections.abc import Sequence

import pytest

from headwater.errors import (
    EventParked,
    InvalidInput,
    NotCaughtUp,
    StoreUnavailable,
    TokenMismatch,
)
from headwater.eventbus import BusEvent
from headwater.messages import ConsistencyToken, Event
from headwater.processing import BusSource, Processor, ProcessorAdmin, Relay
from tests.integration.processing.conftest import QUICK, Stores, publish_again, until
from tests.integration.processing.domain import (
    AccountView,
    Deposited,
    Ledger,
    Opened,
    append,
    stored,
)
from tests.integration.processing.test_faults import die


def on_bus(
    position: int, stream: str, event: Event, *, source: str = "ledger", epoch: str = "e1"
) -> BusEvent:
    made = stored(event)
    return BusEvent(
        source, epoch, position, stream, position, made.type, 1, position, (), made.data,
        made.metadata, confirmed=position,
    )  # fmt: skip


def reader(stores: Stores, owner: str = "me", handlers: Ledger | None = None) -> Processor:
    return Processor(
        handlers or Ledger(),
        source=BusSource(stores.bus),
        views=stores.views,
        owner=owner,
        settings=QUICK,
    )


def at(position: int, *, source: str = "ledger", epoch: str = "e1") -> ConsistencyToken:
    return ConsistencyToken.at(source, epoch, position)


async def balances(stores: Stores) -> dict[str, int]:
    return {a.id: a.balance for a in (await stores.views.find(AccountView, limit=1000)).items}


async def test_redelivered_events_have_no_second_effect(stores: Stores) -> None:
    """What is published again, across batches and restarts, is recognised by its position."""
    events = [on_bus(n + 1, f"a{n}", Opened(f"a{n}", "x")) for n in range(10)]
    events += [on_bus(n + 11, f"a{n % 10}", Deposited(f"a{n % 10}", 1)) for n in range(30)]
    processor = reader(stores)
    await processor.start()
    await stores.bus.publish(events[:25])
    await processor.wait_for(at(25), timeout_s=10)
    await stores.bus.publish(events[15:35])  # a relay that crashed before its checkpoint
    await processor.wait_for(at(35), timeout_s=10)
    await processor.stop()
    await stores.bus.publish(events[30:])
    processor = await stores.start(reader(stores, "after"))
    await processor.wait_for(at(40), timeout_s=10)
    assert await balances(stores) == {f"a{n}": 3 for n in range(10)}


async def test_wait_for_covers_all_partitions(stores: Stores) -> None:
    """A token is covered when every partition is past what was published up to it."""
    processor = await stores.start(reader(stores))
    with pytest.raises(NotCaughtUp):
        await processor.wait_for(at(1), timeout_s=0.02)
    for n in range(50):
        await stores.bus.publish([on_bus(n + 1, f"a{n}", Opened(f"a{n}", "x"))])
        await processor.wait_for(at(n + 1), timeout_s=10)
        assert await stores.views.get(AccountView, f"a{n}") is not None
    with pytest.raises(TokenMismatch):
        await processor.wait_for(at(1, epoch="other"), timeout_s=1)


async def test_a_parked_stream_holds_up_no_other(stores: Stores) -> None:
    """Parking works by source and stream; the other streams of the partition go on."""
    handlers = Ledger()
    handlers.poison = {666}
    processor = await stores.start(reader(stores, handlers=handlers))
    await stores.bus.publish(
        [
            *[on_bus(n + 1, f"a{n}", Opened(f"a{n}", "x")) for n in range(20)],
            on_bus(21, "a3", Deposited("a3", 666)),
            *[on_bus(n + 22, f"a{n}", Deposited(f"a{n}", 1)) for n in range(20)],
        ]
    )
    await processor.wait_for(at(41), timeout_s=10)
    await stores.bus.publish([on_bus(42, "a3", Deposited("a3", 2))])
    with pytest.raises(EventParked):
        await processor.wait_for(at(42), timeout_s=10)
    assert await balances(stores) == {f"a{n}": 0 if n == 3 else 1 for n in range(20)}
    handlers.poison = set()
    admin = ProcessorAdmin(
        handlers, source=BusSource(stores.bus), views=stores.views, settings=QUICK
    )
    assert [letter.sequence async for letter in admin.letters()] == ["ledger:a3"] * 3
    assert (await admin.retry("ledger:a3")).handled == 3
    assert (await balances(stores))["a3"] == 669


async def test_owners_share_the_partitions(stores: Stores) -> None:
    """Two processes read different partitions, and together each event once."""
    first = await stores.start(reader(stores, "one"))
    second = await stores.start(reader(stores, "two"))
    await until(lambda: (len(first.claims.held), len(second.claims.held)) == (2, 2))
    await stores.bus.publish([on_bus(n + 1, f"a{n}", Opened(f"a{n}", "x")) for n in range(100)])
    await first.wait_for(at(100), timeout_s=10)
    assert len(await balances(stores)) == 100
    counts = [(await processor.status()).handled for processor in (first, second)]
    assert sum(counts) == 100
    assert min(counts) > 0


async def test_sources_can_be_chosen(stores: Stores) -> None:
    """Events of services that are not wanted are passed over."""
    processor = await stores.start(
        Processor(
            Ledger,
            source=BusSource(stores.bus, sources=["ledger"]),
            views=stores.views,
            owner="me",
            settings=QUICK,
        )
    )
    await stores.bus.publish([on_bus(1, "b", Opened("b", "x"), source="other")])
    await stores.bus.publish([on_bus(1, "a", Opened("a", "x"))])
    await processor.wait_for(at(1), timeout_s=10)
    await processor.wait_for(at(1).merge(at(99, source="other")), timeout_s=10)
    await processor.wait_for(at(99, source="other"), timeout_s=10)
    assert await balances(stores) == {"a": 0}


async def test_replay_of_a_bus(stores: Stores) -> None:
    """A bus is replayed from its start or from a time, not from a position."""
    processor = await stores.start(reader(stores))
    await stores.bus.publish([on_bus(1, "a", Opened("a", "x")), on_bus(2, "a", Deposited("a", 5))])
    await processor.wait_for(at(2), timeout_s=10)
    admin = ProcessorAdmin(Ledger, source=BusSource(stores.bus), views=stores.views, settings=QUICK)
    with pytest.raises(InvalidInput):
        await admin.reset(position=1)
    await admin.reset()

    async def replayed() -> bool:
        return await stores.views.generation("ledger") == 2 and await balances(stores) == {"a": 5}

    await until(replayed)


class Flaky:
    """A bus whose publish stores a prefix and then fails, now and then."""

    ordered = True

    def __init__(self, stores: Stores) -> None:
        self._bus = stores.bus
        self.failures = 0

    async def publish(self, events: Sequence[BusEvent]) -> None:
        if self.failures < 5 and len(events) > 1:
            self.failures += 1
            await self._bus.publish(events[: len(events) // 2])
            raise StoreUnavailable(store="bus", reason="the line was cut")
        await self._bus.publish(events)

    async def stored(self, source: str, epoch: str) -> dict[int, int]:
        return await self._bus.stored(source, epoch)


def relay(stores: Stores, owner: str = "me", bus: object = None) -> Relay:
    return Relay(
        stores.store,
        bus or stores.bus,  # type: ignore[arg-type]  # the relay only publishes
        name="ledger",
        epoch=stores.store.epoch,
        views=stores.views,
        owner=owner,
        settings=QUICK,
    )


async def test_relay_loses_nothing_and_effects_are_there_once(stores: Stores) -> None:
    """A publish that fails half-way is repeated; subscribers see every event's effect once."""
    for n in range(20):
        await append(stores.store, f"a{n}", Opened(f"a{n}", "x"), Deposited(f"a{n}", 1))
    flaky = Flaky(stores)
    sending = relay(stores, bus=flaky)
    await sending.start()
    processor = await stores.start(reader(stores))
    for n in range(20):
        await append(stores.store, f"a{n}", Deposited(f"a{n}", 2))
    await stores.caught_up(processor)
    assert flaky.failures > 0

    async def told() -> bool:  # its checkpoint comes a little after what it has published
        status = await sending.status()
        return (status.active, status.position, status.failure) == (True, 60, "")

    await until(told)
    await sending.stop()
    assert await balances(stores) == {f"a{n}": 3 for n in range(20)}


async def test_relay_that_dies_before_its_checkpoint_is_taken_over(stores: Stores) -> None:
    """The next one begins at the checkpoint; what is published twice has one effect."""
    processor = await stores.start(reader(stores))
    await append(stores.store, "a", Opened("a", "x"), Deposited("a", 1))
    first = relay(stores, "one")
    await first.start()
    await stores.caught_up(processor)

    async def checkpointed() -> bool:
        segments = await stores.views.segments(first.name)
        return '"ledger"' in segments[0].token and ",2]" in segments[0].token

    await until(checkpointed)
    await die(first._processor)
    position = await append(stores.store, "a", Deposited("a", 2))
    await publish_again(stores.store, stores.bus, "ledger")  # published, but not checkpointed
    second = relay(stores, "two")
    await second.start()
    await append(stores.store, "a", Deposited("a", 4))
    await stores.caught_up(processor)
    await second.stop()
    assert await balances(stores) == {"a": 7}
    assert position == 3
