"""Live events one by one: tokens that pass over nothing, waiting elsewhere, and quick restarts."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import Metadata, new_id
from headwater.messages.codec import encode_metadata
from headwater.processing import Processor, StoreSource
from headwater.processing.sources.tokens import token_of
from headwater.views import ViewTransaction
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import AccountView, Ledger, Opened, append
from tests.integration.processing.test_faults import die

PASSED = 40


class Counting:
    """A view store that counts its transactions."""

    def __init__(self, stores: Stores) -> None:
        self._views: Any = stores.views
        self.transactions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._views, name)

    def transaction(self, **options: Any) -> AbstractAsyncContextManager[ViewTransaction]:
        self.transactions += 1
        found: AbstractAsyncContextManager[ViewTransaction] = self._views.transaction(**options)
        return found


def processor_on(stores: Stores, *, views: Any = None, owner: str = "one") -> Processor:
    return Processor(
        Ledger(),
        source=StoreSource(stores.store, "ledger"),
        views=views or stores.views,
        owner=owner,
        settings=QUICK,
    )


async def pass_over(stores: Stores) -> None:
    """Append an event that the ledger has no handler for."""
    identity = new_id()
    metadata = encode_metadata(Metadata(id=identity, correlation_id=identity, time=1))
    await stores.store.append([StreamWrite("x", [NewEvent("Unrelated", 1, b"{}", metadata)])])


async def committed(stores: Stores, processor: Processor) -> int:
    """Return how far all segments are in the store."""
    segments = await stores.views.segments(processor.name)
    return min(token_of(segment.token).position("ledger") for segment in segments)


async def test_events_of_no_interest_are_committed_together(stores: Stores) -> None:
    """Passing over events costs fewer transactions than events, and soon arrives in the store."""
    views = Counting(stores)
    processor = await stores.start(processor_on(stores, views=views))
    await append(stores.store, "a", Opened("a", "x"))
    await stores.caught_up(processor)
    before = views.transactions
    for _ in range(PASSED):
        await pass_over(stores)
        await stores.caught_up(processor)  # here it is known at once
    assert views.transactions - before < PASSED / 2

    async def arrived() -> bool:
        return await committed(stores, processor) == 1 + PASSED

    await until(arrived)


async def test_a_stop_commits_what_was_passed_over(stores: Stores) -> None:
    """The token in the store is where the processor was when it was stopped."""
    processor = await stores.start(processor_on(stores))
    await append(stores.store, "a", Opened("a", "x"))
    await pass_over(stores)
    await stores.caught_up(processor)
    await processor.stop()
    assert await committed(stores, processor) == 2


async def test_another_process_learns_of_what_was_passed_over(stores: Stores) -> None:
    """Who waits elsewhere gets its answer, though nothing but the token moves."""
    await stores.start(processor_on(stores))
    elsewhere = processor_on(stores, owner="two")
    for _ in range(5):
        await pass_over(stores)
        await stores.caught_up(elsewhere)
    await elsewhere.progress.close()


async def test_a_restarted_process_takes_its_claims_at_once(stores: Stores) -> None:
    """A process that died and is started again under its name need not wait for its leases."""
    first = await stores.start(processor_on(stores))
    await append(stores.store, "a", Opened("a", "x"))
    await stores.caught_up(first)
    held = {index: segment.fence for index, segment in first.claims.held.items()}
    await die(first)
    again = await stores.start(processor_on(stores))
    assert {i: s.fence for i, s in again.claims.held.items()} == {i: f + 1 for i, f in held.items()}
    await append(stores.store, "b", Opened("b", "x"))
    await stores.caught_up(again)
    assert await stores.views.get(AccountView, "b") is not None


async def test_a_process_does_not_take_from_its_twin_later(stores: Stores) -> None:
    """Only at its start does a process take claims of its own name, not again and again."""
    first = await stores.start(processor_on(stores))
    twin = await stores.start(processor_on(stores))
    await until(lambda: not first.claims.held)
    fences = {index: segment.fence for index, segment in twin.claims.held.items()}
    for _ in range(3):
        first.wake()
        await asyncio.sleep(0)
        await first._look()
    assert {index: segment.fence for index, segment in twin.claims.held.items()} == fences
    await append(stores.store, "a", Opened("a", "x"))
    await stores.caught_up(twin)
