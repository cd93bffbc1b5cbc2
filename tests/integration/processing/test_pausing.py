"""Processors that are paused and resumed."""

import pytest

from headwater.errors import NotCaughtUp
from headwater.processing import Processor, ProcessorAdmin, Relay
from headwater.processing.running import pausing
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import AccountView, Deposited, Ledger, Opened, append


def ledger(stores: Stores, owner: str = "one") -> Processor:
    return Processor(
        Ledger(), source=stores.source, views=stores.views, owner=owner, settings=QUICK
    )


def admin(stores: Stores) -> ProcessorAdmin:
    return ProcessorAdmin(Ledger, source=stores.source, views=stores.views, settings=QUICK)


async def balance(stores: Stores) -> int:
    view = await stores.views.get(AccountView, "a")
    assert view is not None
    return view.balance


async def at_rest(stores: Stores, *running: Processor) -> None:
    async def nobody() -> bool:
        now = await stores.views.now()
        return not any(s.is_held(now) for s in await stores.views.segments("ledger"))

    await until(nobody)
    await until(lambda: not any(one.claims.held for one in running))


async def test_nobody_works_on_what_is_paused(stores: Stores) -> None:
    """No instance handles anything, those started later neither; then each event acts once."""
    await append(stores.store, "a", Opened("a", "x"))
    running = [await stores.start(ledger(stores, owner)) for owner in ("one", "two")]
    await stores.caught_up(running[0])
    await admin(stores).pause(reason="the month is being closed")
    await at_rest(stores, *running)
    await running.pop().stop()
    for amount in (1, 2, 3):
        await append(stores.store, "a", Deposited("a", amount))
    running.append(await stores.start(ledger(stores, "three")))
    for one in running:
        await one._look()  # whatever turn it is
    assert not any(one.claims.held for one in running)
    assert await balance(stores) == 0
    assert await admin(stores).resume()
    await until(lambda: balance_is(stores, 6))


async def balance_is(stores: Stores, expected: int) -> bool:
    return await balance(stores) == expected


async def test_a_claim_that_comes_between_is_given_back(stores: Stores) -> None:
    """Whoever looked before the pause, and claims after it, holds nothing."""
    await append(stores.store, "a", Opened("a", "x"))
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    await processor.stop()
    late = ledger(stores, "late")
    await late.views.ensure([AccountView])
    segments = await stores.views.segments("ledger")
    late.claims.generation, late.claims.count = 1, len(segments)
    looked = late.claims.paused
    assert looked is not None
    answers = iter([False])  # when it looked there was no pause

    async def paused() -> bool:
        return next(answers, True)

    late.claims.paused = paused
    await admin(stores).pause()
    await late.claims.share(segments)
    assert not late.claims.held
    now = await stores.views.now()
    assert not any(s.is_held(now) for s in await stores.views.segments("ledger"))


async def test_a_pause_is_told_and_is_no_failure(stores: Stores) -> None:
    """Status, here and for all, says since when, by whom and why, and how far behind it is."""
    await append(stores.store, "a", Opened("a", "x"))
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    await admin(stores).pause(reason="a look at the books")
    await at_rest(stores, processor)
    await append(stores.store, "a", Deposited("a", 1), Deposited("a", 2))
    status = await processor.status()
    assert status.failure == ""
    assert status.paused is not None
    assert status.paused.reason == "a look at the books"
    assert max(group.lag for group in status.groups) == 2
    (told,) = await processor.concerns()
    assert "paused for" in told
    assert "a look at the books" in told
    everywhere = await admin(stores).status()
    assert everywhere.paused == status.paused
    assert everywhere.lag == 2


async def test_who_waits_for_what_is_paused_is_told(stores: Stores) -> None:
    """A query whose token is not reached yet fails in time, naming the processor and the remedy."""
    await append(stores.store, "a", Opened("a", "x"))
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    await admin(stores).pause(reason="closing")
    await at_rest(stores, processor)
    last = await append(stores.store, "a", Deposited("a", 1))
    with pytest.raises(NotCaughtUp, match=r"ledger.*paused.*closing.*processors resume ledger"):
        await processor.wait_for(stores.at(last), timeout_s=0.1)


async def test_pausing_twice_keeps_the_first_and_resuming_twice_is_fine(stores: Stores) -> None:
    """The first who paused is told; resuming what is not paused changes nothing."""
    first = await admin(stores).pause(reason="first")
    assert await admin(stores).pause(reason="second") == first
    assert await admin(stores).resume()
    assert not await admin(stores).resume()


async def test_a_paused_processor_can_be_rebuilt(stores: Stores) -> None:
    """A rebuild is somebody's wish: it goes through, and what follows waits for the resume."""
    await append(stores.store, "a", Opened("a", "x"), Deposited("a", 5))
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    await admin(stores).pause()
    await at_rest(stores, processor)
    await admin(stores).rebuild()
    assert await balance(stores) == 5
    await append(stores.store, "a", Deposited("a", 1))
    await processor._look()
    assert not processor.claims.held
    assert await balance(stores) == 5
    await admin(stores).resume()
    await until(lambda: balance_is(stores, 6))


async def test_a_paused_relay_publishes_nothing(stores: Stores) -> None:
    """What is stored stays off the bus until the relay is resumed, then all goes there."""
    relay = Relay(
        stores.store,
        stores.bus,
        name="ledger",
        epoch=stores.store.epoch,
        views=stores.views,
        owner="one",
        settings=QUICK,
    )
    await relay.start()
    stores.started.append(relay._processor)
    await append(stores.store, "a", Opened("a", "x"))
    await until(lambda: on_bus(stores, 1))
    await pausing.pause(stores.views, relay.name)
    await until(lambda: not relay.claims.held)
    await append(stores.store, "a", Deposited("a", 1))
    status = await relay.status()
    assert status.paused is not None
    assert (status.failure, status.head - status.position) == ("", 1)
    assert await on_bus(stores, 1)
    await pausing.resume(stores.views, relay.name)
    await until(lambda: on_bus(stores, 2))


async def on_bus(stores: Stores, count: int) -> bool:
    return sum(end + 1 for end in (await stores.bus.end()).values()) == count
