"""What a process knows of how far its views are, while it looks, commits and swaps."""

from tests.integration.processing.conftest import Stores
from tests.integration.processing.domain import Deposited, append
from tests.integration.processing.test_races import (
    Between,
    balances,
    in_service,
    processor,
    three_accounts,
)


async def test_progress_does_not_go_back(stores: Stores) -> None:
    """Who has looked before a switch-over, and says so after it, is not listened to."""
    progress = processor(stores).progress
    progress.use(2, 4)
    progress.use(1, 4)
    assert progress.generation == 2


async def test_who_has_looked_before_a_commit_does_not_take_it_back(stores: Stores) -> None:
    """What this process has committed while the store was read stays known: nobody else tells."""
    await three_accounts(stores)
    views = Between(stores.views, after=True)
    started = await in_service(stores, views=views)

    async def deposit() -> None:
        position = await append(stores.store, "a", Deposited("a", 1))
        await started.progress.wait_for(stores.at(position), timeout_s=5)

    views.hooks["segments"] = deposit
    await started.progress.look()
    await started.progress.wait_for(stores.at(await stores.store.head()), timeout_s=0)
    assert (await balances(stores))["a"] == 2


async def test_who_waits_asks_for_what_is_not_known_here(stores: Stores) -> None:
    """A process that works on everything, but has forgotten where a segment is, looks it up."""
    await three_accounts(stores)
    await (await in_service(stores)).stop()
    progress = processor(stores).progress
    progress.use(1, 4, all_local=True)
    await progress.wait_for(stores.at(await stores.store.head()), timeout_s=5)
    await progress.close()
