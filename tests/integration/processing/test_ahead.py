"""Processors that are further than their log, which was cut or replaced."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from headwater.errors import AheadOfLog, NotCaughtUp
from headwater.eventbus import EventBus
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventstore import EventStore
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages import ConsistencyToken
from headwater.modelling import EventHandlers, event_handler
from headwater.processing import BusSource, Processor, ProcessorAdmin, Relay, StoreSource
from headwater.views.memory import MemoryViewStore
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import AccountView, Deposited, Ledger, Opened, append


async def cut(store: EventStore, position: int) -> MemoryEventStore:
    """Return a log as an older backup has it: the same one, up to a position."""
    events = [event async for page in store.read(until=position) for event in page.events]
    older = MemoryEventStore()
    await older.import_events(events, epoch=store.epoch)
    return older


def processor(stores: Stores, log: EventStore, owner: str = "me", handlers: Any = Ledger) -> Any:
    return Processor(
        handlers,
        source=StoreSource(log, "ledger"),
        views=stores.views,
        owner=owner,
        settings=QUICK,
    )


async def filled(stores: Stores) -> None:
    """Let a processor handle ten deposits of an account, and stop."""
    await append(stores.store, "a", Opened("a", "x"), *[Deposited("a", 1)] * 10)
    first = await stores.start(processor(stores, stores.store))
    await stores.caught_up(first)
    await first.stop()


async def shows(stores: Stores, running: Processor, log: EventStore, balance: int) -> None:
    """Check that queries with the newest token see a balance."""
    token = ConsistencyToken.at("ledger", log.epoch, await log.head())
    await running.wait_for(token, timeout_s=10)
    found = await stores.views.get(AccountView, "a")
    assert found is not None
    assert found.balance == balance


async def test_a_log_that_was_cut(stores: Stores) -> None:
    """Views ahead of their log are filled anew; it is said where they were and where it ends."""
    await filled(stores)
    older = await cut(stores.store, 5)
    with capture_logs() as logs:
        running = await stores.start(processor(stores, older))
        assert not running.is_filled
        await asyncio.wait_for(running.filled(), 10)
    (told,) = [log["reason"] for log in logs if log["log_level"] == "error"]
    assert "'ledger' has handled what 'ledger' does not hold" in told
    assert "position 11, and the log ends at 5): its views are being filled anew" in told
    await shows(stores, running, older, 4)
    await append(older, "a", Deposited("a", 100))
    await shows(stores, running, older, 104)
    assert (await running.status()).failure == ""


@pytest.mark.parametrize("grown", [1, 7, 20])
async def test_a_log_that_was_cut_and_has_grown(stores: Stores, grown: int) -> None:
    """Other events at the positions that were handled are not taken for those that were."""
    await filled(stores)
    older = await cut(stores.store, 5)
    await append(older, "a", *[Deposited("a", 100)] * grown)
    running = await stores.start(processor(stores, older))
    await asyncio.wait_for(running.filled(), 10)
    await shows(stores, running, older, 4 + 100 * grown)


async def test_a_log_that_is_cut_while_it_is_followed(stores: Stores) -> None:
    """It is noticed while running, too: what comes is not dropped as known already."""
    await filled(stores)
    older = await cut(stores.store, 5)
    running = await stores.start(processor(stores, stores.store))
    running.source.store = older
    await append(older, "a", Deposited("a", 100))
    await until(lambda: running.claims.generation > 1)
    await shows(stores, running, older, 104)


async def test_a_generation_ahead_is_said_until_it_is_replaced(stores: Stores) -> None:
    """As long as the views are not filled anew, status says so, and who waits is told in time."""
    await filled(stores)
    older = await cut(stores.store, 5)
    running = processor(stores, older)
    running._switch_over.finish = _never  # type: ignore[method-assign]  # holds the switch-over up
    await stores.start(running)
    await until(lambda: running.claims.generation == 2)
    await running._look()
    assert not running.is_filled
    assert "position 11, and the log ends at 5" in (await running.status()).failure
    token = ConsistencyToken.at("ledger", older.epoch, 5)
    with pytest.raises(NotCaughtUp, match="just being switched over"):
        await running.wait_for(token, timeout_s=0.05)


async def _never(*_: object) -> bool:
    return False


async def test_a_token_ahead_of_the_log(stores: Stores) -> None:
    """A client's token past the end of the log is answered in time, saying where it ends."""
    await filled(stores)
    running = await stores.start(processor(stores, await cut(stores.store, 5)))
    await asyncio.wait_for(running.filled(), 10)
    with pytest.raises(NotCaughtUp, match="the event store ends at 5"):
        await running.wait_for(stores.at(11), timeout_s=0.05)


async def test_handlers_with_effects_stop(stores: Stores) -> None:
    """What acts outside is stopped, says so with the remedy, and goes on once told from where."""
    heard: list[int] = []

    class Mailer(EventHandlers):
        start = "beginning"

        @event_handler
        async def deposited(self, event: Deposited) -> None:
            heard.append(event.amount)

    await append(stores.store, "a", Opened("a", "x"), *[Deposited("a", 1)] * 10)
    first = await stores.start(processor(stores, stores.store, handlers=Mailer))
    await until(lambda: len(heard) == 10)
    await stores.caught_up(first)
    await first.stop()
    older = await cut(stores.store, 5)
    running = await stores.start(processor(stores, older, handlers=Mailer))
    await append(older, "a", Deposited("a", 100))
    assert "headwater processors replay" in (await running.status()).failure
    assert not running.claims.held
    assert running.is_filled  # it holds up nobody else
    with pytest.raises(AheadOfLog, match="position 11, and the log ends at 5"):
        await running.wait_for(stores.at(6), timeout_s=10)
    options = {"source": StoreSource(older, "ledger"), "views": stores.views}
    await ProcessorAdmin(Mailer, **options, settings=QUICK).reset(position=5)  # type: ignore[arg-type]  # by name
    await until(lambda: heard[10:] == [100])

    async def well() -> bool:
        return not (await running.status()).failure

    await until(well)


async def test_a_log_that_comes_back(stores: Stores) -> None:
    """When the log is the right one again, what was stopped goes on by itself."""
    heard: list[int] = []

    class Mailer(EventHandlers):
        start = "beginning"

        @event_handler
        async def deposited(self, event: Deposited) -> None:
            heard.append(event.amount)

    await append(stores.store, "a", Opened("a", "x"), Deposited("a", 1))
    first = await stores.start(processor(stores, stores.store, handlers=Mailer))
    await stores.caught_up(first)
    await first.stop()
    running = await stores.start(processor(stores, await cut(stores.store, 1), handlers=Mailer))
    assert (await running.status()).failure
    running.source.store = stores.store
    await append(stores.store, "a", Deposited("a", 2))
    await until(lambda: heard == [1, 2])


async def test_a_relay_ahead_of_its_log(stores: Stores) -> None:
    """A relay does not leave out what stands where other events were; it stops and says so."""
    await append(stores.store, "a", Opened("a", "x"), *[Deposited("a", 1)] * 10)
    bus = MemoryEventBus(partitions=1)

    async def relayed(log: EventStore, wanted: int) -> Relay:
        relay = Relay(
            log, bus, name="ledger", epoch=log.epoch, views=stores.views, owner="me",
            settings=QUICK,
        )  # fmt: skip
        await relay.start()
        if wanted:
            await until(lambda: _saved(relay, wanted))
        return relay

    await (await relayed(stores.store, 11)).stop()
    for grown in (0, 20):
        older = await cut(stores.store, 5)
        await append(older, "a", *[Deposited("a", 100)] * (grown or 1))
        relay = await relayed(older, 0)
        await until(lambda: "bring back the log" in relay.failure)  # noqa: B023  # awaited here
        assert (await bus.end())[0] == 10
        await relay.stop()


async def _saved(relay: Relay, position: int) -> bool:
    return (await relay.status()).position == position


async def test_a_bus_that_was_cut(stores: Stores) -> None:
    """Offsets past the end of a bus are noticed; views of it are filled from what it has."""
    fuller, other = MemoryEventBus(partitions=1), MemoryEventBus(partitions=1)

    async def published(bus: EventBus, *amounts: int) -> None:
        log = MemoryEventStore()
        await append(log, "a", Opened("a", "x"), *[Deposited("a", amount) for amount in amounts])
        relay = Relay(
            log, bus, name="far", epoch=log.epoch, views=MemoryViewStore(), owner=log.epoch,
            settings=QUICK,
        )  # fmt: skip
        await relay.start()
        await until(lambda: _saved(relay, 1 + len(amounts)))
        await relay.stop()

    await published(fuller, 1, 2, 3)
    await published(other, 10)
    for bus, expected in ((fuller, 6), (other, 10)):
        running = await stores.start(
            Processor(Ledger, source=BusSource(bus), views=stores.views, owner="me", settings=QUICK)
        )
        await asyncio.wait_for(running.filled(), 10)

        async def there() -> bool:
            found = await stores.views.get(AccountView, "a")
            return found is not None and found.balance == expected  # noqa: B023  # awaited here

        await until(there)
        await running.stop()
