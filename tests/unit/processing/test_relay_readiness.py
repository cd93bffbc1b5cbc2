"""What a relay says of itself while there is nothing to publish."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from headwater.errors import StoreUnavailable
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventstore import Page
from headwater.eventstore.memory import MemoryEventStore
from headwater.processing import Relay
from headwater.processing.settings import ProcessorSettings
from headwater.views.memory import MemoryViewStore

WAIT_S_MAX = 30.0
QUICK = ProcessorSettings(back_off_s=0.01, back_off_max_s=0.05)


class AwayStore(MemoryEventStore):
    """A store that cannot be read for a while."""

    away = False

    async def follow(self, **how: Any) -> AsyncIterator[Page]:
        if self.away:
            raise StoreUnavailable(store="memory", reason="away", outcome="not stored")
        async for page in super().follow(**how):
            yield page

    async def head(self) -> int:
        if self.away:
            raise StoreUnavailable(store="memory", reason="away", outcome="not stored")
        return await super().head()


async def until(relay: Relay, *, fails: bool) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            if bool(relay.failure) is fails:
                return
            await asyncio.sleep(0.005)


async def test_a_store_that_is_back_needs_no_event() -> None:
    """A relay that failed is well again when its store is, without an event to publish."""
    store = AwayStore()
    store.away = True
    relay = Relay(
        store,
        MemoryEventBus(),
        name="s",
        epoch=store.epoch,
        views=MemoryViewStore(),
        owner="me",
        settings=QUICK,
    )
    await relay.start()
    try:
        await until(relay, fails=True)
        store.away = False
        await until(relay, fails=False)
    finally:
        await relay.stop()
