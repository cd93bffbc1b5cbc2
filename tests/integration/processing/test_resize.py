"""Segments split and merged while a processor works."""

import asyncio
import random

import pytest

from headwater.errors import InvalidInput
from headwater.processing import BusSource, Processor, ProcessorAdmin, rebuild
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import AccountView, Deposited, Ledger, Opened, append
from tests.integration.processing.test_faults import die

POISON = 666
ACCOUNTS = [f"a{number}" for number in range(16)]


def ledger(stores: Stores, owner: str = "one", handlers: Ledger | None = None) -> Processor:
    return Processor(
        handlers or Ledger(),
        source=stores.source,
        views=stores.views,
        owner=owner,
        settings=QUICK,
    )


def admin(stores: Stores) -> ProcessorAdmin:
    return ProcessorAdmin(Ledger, source=stores.source, views=stores.views, settings=QUICK)


async def balances(stores: Stores) -> dict[str, int]:
    found = (await stores.views.find(AccountView, limit=100)).items
    return {view.id: view.balance for view in found}


async def deposit(stores: Stores, amount: int = 1) -> None:
    for name in ACCOUNTS:
        await append(stores.store, name, Deposited(name, amount))


async def open_accounts(stores: Stores) -> None:
    for name in ACCOUNTS:
        await append(stores.store, name, Opened(name, "x"))


@pytest.mark.parametrize("seed", range(2))
async def test_resizes_under_load_lose_and_double_nothing(stores: Stores, seed: int) -> None:
    """Whoever comes, goes and dies meanwhile: each event had its effect once, in order."""
    chance = random.Random(seed)  # not for secrets
    await open_accounts(stores)
    running = [await stores.start(ledger(stores))]
    for turn in range(24):
        await deposit(stores, turn)
        if chance.random() < 0.5:
            await admin(stores).resize(chance.randrange(1, 10))
        if len(running) < 3 and chance.random() < 0.3:
            running.append(await stores.start(ledger(stores, f"owner-{turn}")))
        elif running and chance.random() < 0.3:
            leaving = running.pop(chance.randrange(len(running)))
            await (die(leaving) if chance.random() < 0.5 else leaving.stop())
            stores.clock.skip(0.5)
        for _ in range(chance.randrange(100)):  # let the others work, more or less
            await asyncio.sleep(0)
    stores.clock.skip(2)
    last = await stores.start(ledger(stores, "last"))
    await stores.caught_up(last)
    assert await balances(stores) == dict.fromkeys(ACCOUNTS, sum(range(24)))


async def test_segments_that_are_not_equally_far_can_be_merged(stores: Stores) -> None:
    """A segment that is behind does not take those along that it is merged with."""
    await open_accounts(stores)
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    await processor.stop()
    segments = await stores.views.segments("ledger")
    ahead = [await stores.views.claim(s, owner="hand", lease_s=9) for s in segments[1:]]
    assert all(ahead)
    await deposit(stores)
    helper = await stores.start(ledger(stores, "helper"))  # gets what is left: segment 0
    await until(lambda: list(helper.claims.held) == [0])
    head = await stores.store.head()
    await until(
        lambda: (
            helper.progress.tokens.get(0) and helper.progress.tokens[0].position("ledger") == head
        )
    )
    await admin(stores).resize(3)
    await admin(stores).resize(1)
    await deposit(stores)
    stores.clock.skip(10)
    await stores.caught_up(helper)
    assert await balances(stores) == dict.fromkeys(ACCOUNTS, 2)
    token = (await stores.views.segments("ledger"))[0].token
    assert "ahead" not in token


async def test_dead_letters_survive_a_resize(stores: Stores) -> None:
    """A parked stream stays parked, in order, and goes on after its letters were retried."""
    handlers = Ledger()
    handlers.poison = {POISON}
    processor = await stores.start(ledger(stores, handlers=handlers))
    await append(stores.store, "a", Opened("a", "x"), Deposited("a", POISON), Deposited("a", 2))
    await stores.caught_up(processor)
    await admin(stores).resize(7)
    await append(stores.store, "a", Deposited("a", 4))
    await stores.caught_up(processor)
    letters = [letter async for letter in admin(stores).letters("a")]
    assert [letter.event and letter.event.version for letter in letters] == [2, 3, 4]
    await admin(stores).resize(2)
    assert (await admin(stores).retry("a")).handled == 3
    await append(stores.store, "a", Deposited("a", 8))
    await stores.caught_up(processor)
    assert await balances(stores) == {"a": POISON + 14}


async def test_owners_keep_their_share(stores: Stores) -> None:
    """Two that share the work share it evenly after a split, and after a merge."""
    processors = [await stores.start(ledger(stores, owner)) for owner in ("one", "two")]
    for count in (8, 2, 6):
        await admin(stores).resize(count)
        await until(lambda: sum(len(p.claims.held) for p in processors) == count)  # noqa: B023  # awaited here
        await until(lambda: {len(p.claims.held) for p in processors} == {count // 2})  # noqa: B023  # awaited here
        status = await admin(stores).status()
        assert [s.index for s in status.segments] == list(range(count))
        assert {s.owner for s in status.segments} == {"one", "two"}


async def test_who_waits_for_a_token_is_answered_over_a_resize(stores: Stores) -> None:
    """A wait that began before a resize ends after it, here and in a process that only asks."""
    await open_accounts(stores)
    processor = await stores.start(ledger(stores))
    elsewhere = ledger(stores, "elsewhere")
    await stores.caught_up(processor)
    for count in (9, 2):
        goal = stores.at(await stores.store.head() + len(ACCOUNTS))
        waits = [
            asyncio.ensure_future(p.wait_for(goal, timeout_s=10)) for p in (processor, elsewhere)
        ]
        await admin(stores).resize(count)
        await deposit(stores)
        await asyncio.gather(*waits)
    assert set((await balances(stores)).values()) == {2}
    await elsewhere.progress.close()


async def test_a_bus_is_divided_by_its_partitions(stores: Stores) -> None:
    """Segments of a bus can be as many as it has partitions; more are refused."""
    source = BusSource(stores.bus)
    care = ProcessorAdmin(Ledger, source=source, views=stores.views, settings=QUICK)
    processor = await stores.start(
        Processor(Ledger(), source=source, views=stores.views, owner="one", settings=QUICK)
    )
    for count in (8, 1, 3):
        await care.resize(count)
        await until(lambda: len(processor.claims.held) == count)  # noqa: B023  # awaited here
    for wrong, most in ((9, 8), (0, 8), (-1, 8)):
        with pytest.raises(InvalidInput, match=f"1 to {most} segments, {wrong} were asked"):
            await care.resize(wrong)


async def test_a_new_generation_has_as_many_segments(stores: Stores) -> None:
    """Replay and rebuild keep the number; a rebuild under way goes on with a changed one."""
    with pytest.raises(InvalidInput, match="never started"):
        await admin(stores).resize(2)
    await open_accounts(stores)
    processor = await stores.start(ledger(stores))
    await admin(stores).resize(6)
    await admin(stores).reset()
    await until(lambda: processor.claims.generation == 2)
    assert len((await admin(stores).status()).segments) == 6
    applier, views = processor.applier, stores.views
    assert await views.next_generation("ledger", applier.code, applier.views, after=2) == 3
    await stores.views.ensure(applier.views, generation=3, processor="ledger")
    token = (await stores.source.begin()).text
    await stores.views.open_segments("ledger", count=6, token=token, generation=3)
    await admin(stores).resize(5)
    counts = {(s.generation, s.count) for s in await stores.views.segments("ledger")}
    assert counts == {(2, 5), (3, 5)}
    options = {"source": stores.source, "views": stores.views, "settings": QUICK}
    assert await rebuild(Ledger, owner="r", **options) == 3
    assert len((await admin(stores).status()).segments) == 5
    await until(lambda: processor.progress.generation == 3)
    await stores.caught_up(processor)
