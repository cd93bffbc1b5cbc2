"""Replay, rebuild beside the views in service, and views of the past."""

import asyncio
from datetime import UTC, datetime

import pytest

from headwater.errors import InvalidInput
from headwater.modelling import Projection, event_handler
from headwater.processing import Processor, ProcessorAdmin, RebuildProgress, rebuild, view_at
from headwater.processing.sources.tokens import Token
from headwater.views import Index, Key, View
from headwater.views.memory import MemoryViewStore
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import (
    AccountView,
    Annotated,
    Deposited,
    Ledger,
    Opened,
    append,
)


def ledger(stores: Stores, owner: str = "me") -> Processor:
    return Processor(
        Ledger(), source=stores.source, views=stores.views, owner=owner, settings=QUICK
    )


def admin(stores: Stores) -> ProcessorAdmin:
    return ProcessorAdmin(Ledger, source=stores.source, views=stores.views, settings=QUICK)


async def total(stores: Stores) -> int:
    return sum(a.balance for a in (await stores.views.find(AccountView, limit=1000)).items)


async def fill(stores: Stores, accounts: int = 20, deposits: int = 10) -> None:
    for number in range(accounts):
        name = f"a{number}"
        await append(
            stores.store, name, Opened(name, "x"), *[Deposited(name, 1) for _ in range(deposits)]
        )


async def test_replay_from_the_start_fills_empty_views(stores: Stores) -> None:
    """A replay counts nothing twice: the views begin empty and end as they were."""
    await fill(stores)
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    await admin(stores).reset()

    async def replayed() -> bool:
        status = await admin(stores).status()
        return status.generation == 2 and status.lag == 0

    await until(replayed)
    assert await total(stores) == 200
    await append(stores.store, "a0", Deposited("a0", 5))
    await until(lambda: processor.progress.generation == 2)
    await stores.caught_up(processor)
    assert await total(stores) == 205


async def test_replay_from_a_position_handles_what_comes_after_it_again(stores: Stores) -> None:
    """Events after the position come once more, those before it do not; also by time."""

    class Heard(Projection):
        heard: list[str] = []  # noqa: RUF012  # shared by the test

        @event_handler(AccountView, key="account_id")
        def opened(self, event: Opened) -> AccountView:
            self.heard.append(event.account_id)
            return AccountView(event.account_id, event.holder)

    for name in "abc":
        await append(stores.store, name, Opened(name, "x"))
    processor = await stores.start(
        Processor(Heard, source=stores.source, views=stores.views, owner="me", settings=QUICK)
    )
    await stores.caught_up(processor)
    care = ProcessorAdmin(Heard, source=stores.source, views=stores.views, settings=QUICK)
    await care.reset(position=1)
    await until(lambda: Heard.heard == ["a", "b", "c", "b", "c"])
    await care.reset(time_us=0)
    await until(lambda: len(Heard.heard) == 8)
    with pytest.raises(InvalidInput):
        await care.reset(position=1, time_us=1)


async def test_rebuild_swaps_while_events_come_and_queries_read(stores: Stores) -> None:
    """Readers with a token never see less than before, from the first to the last moment."""
    await fill(stores)
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    seen: list[RebuildProgress] = []
    stop = asyncio.Event()
    written = 200
    reads = 0

    async def write_and_read() -> None:
        nonlocal written, reads
        while not stop.is_set():
            position = await append(
                stores.store, f"a{written % 20}", Deposited(f"a{written % 20}", 1)
            )
            written += 1
            await processor.wait_for(stores.at(position), timeout_s=10)
            assert await total(stores) >= written, "a reader saw the past"
            reads += 1

    traffic = asyncio.create_task(write_and_read())
    generation = await rebuild(
        Ledger,
        source=stores.source,
        views=stores.views,
        owner="me",
        settings=QUICK,
        progress=seen.append,
    )
    before = reads
    await until(lambda: reads > before + 3 or traffic.done())
    stop.set()
    await traffic
    assert generation == 2
    assert await stores.views.generation("ledger") == 2
    assert seen[-1].done
    assert seen[-1].position >= seen[-1].head
    await stores.caught_up(processor)
    assert await total(stores) == written
    assert {s.generation for s in await stores.views.segments("ledger")} == {2}


async def test_rebuild_with_another_shape(stores: Stores) -> None:
    """A view with another index can be rebuilt where a plain start refuses it."""

    class Renamed(View):
        id: Annotated[str, Key]
        holder: Annotated[str, Index]
        balance: Annotated[int, Index] = 0

    Renamed.__name__ = "AccountView"

    class NewLedger(Projection):
        name = "ledger"

        @event_handler(Renamed, key="account_id")
        def opened(self, event: Opened) -> Renamed:
            return Renamed(event.account_id, event.holder)

        @event_handler(Renamed, key="account_id")
        def deposited(self, view: Renamed, event: Deposited) -> None:
            view.balance += event.amount

    class OldLedger(Projection):
        name = "ledger"

        @event_handler(AccountView, key="account_id")
        def opened(self, event: Opened) -> AccountView:
            return AccountView(event.account_id, event.holder)

    await fill(stores, accounts=3)
    old = Processor(OldLedger, source=stores.source, views=stores.views, owner="me", settings=QUICK)
    await old.start()
    await stores.caught_up(old)
    await old.stop()
    await rebuild(NewLedger, source=stores.source, views=stores.views, owner="me", settings=QUICK)
    found = await stores.views.find(Renamed, order_by="balance")
    assert [view.balance for view in found.items] == [10, 10, 10]


async def test_rebuild_is_shared(stores: Stores) -> None:
    """Two that rebuild at once share the segments and both return when it is in service."""
    await fill(stores)
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    options = {"source": stores.source, "views": stores.views, "settings": QUICK}
    first = asyncio.create_task(rebuild(Ledger, owner="one", **options))

    async def begun() -> bool:
        segments = await stores.views.segments("ledger")
        return any(s.generation == 2 for s in segments) or first.done()

    await until(begun)
    second = await rebuild(Ledger, owner="two", join=True, **options) if not first.done() else 2
    assert (await first, second) == (2, 2) or second == 3
    assert await total(stores) == 200


async def test_frozen_generation_is_finished_by_who_runs(stores: Stores) -> None:
    """When a rebuild dies between freeze and switch-over, running processors finish it."""
    await fill(stores)
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    await stores.views.reset("ledger", token=Token(successor=2).text, generation=1)
    await append(stores.store, "a0", Deposited("a0", 1))

    async def switched() -> bool:
        return await stores.views.generation("ledger") == 2

    await until(switched)
    await stores.caught_up(processor)
    assert await total(stores) == 201


async def test_view_of_the_past(stores: Stores) -> None:
    """A view at a position is what the projection had made of the events up to there."""
    await append(stores.store, "a", Opened("a", "Ada"), Deposited("a", 1))
    last = await append(stores.store, "a", Deposited("a", 2))
    options = {"source": stores.source}

    async def at(**place: object) -> AccountView | None:
        scratch = MemoryViewStore()
        return await view_at(Ledger, AccountView, "a", scratch=scratch, **options, **place)  # type: ignore[arg-type]  # by name

    assert await at(position=0) is None
    assert (await at(position=2)) == AccountView("a", "Ada", 1, 1, 2)
    assert (await at(position=last)) == AccountView("a", "Ada", 3, 2, 3)
    assert (await at(time=datetime.now(UTC))) == AccountView("a", "Ada", 3, 2, 3)
    assert await at(time=datetime(2000, 1, 1, tzinfo=UTC)) is None
    with pytest.raises(InvalidInput):
        await at()
