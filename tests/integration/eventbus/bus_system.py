"""A service that publishes on a bus, and the check that nothing of it is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

from headwater.errors import StoreUnavailable
from headwater.eventbus import WATERMARK, BusEvent, Delivery, EventBus
from headwater.eventstore.memory import MemoryEventStore
from headwater.processing import Relay
from headwater.testing.eventbus import subscription
from headwater.views.memory import MemoryViewStore
from tests.integration.processing.conftest import QUICK, until
from tests.integration.processing.domain import Deposited, append

T = TypeVar("T")
OpenBus = Callable[[], Awaitable[EventBus]]

WAIT_S_MAX = 100.0
STREAMS = [f"Account/{n}" for n in range(9)]


class Publisher:
    """An event store and its relays, each with a bus of its own."""

    def __init__(self, open_bus: OpenBus) -> None:
        """Prepare; `open_bus` is tried until a broker that comes up answers."""
        self.open_bus = open_bus
        self.store = MemoryEventStore()
        self.views = MemoryViewStore()
        self._running: list[tuple[Relay, EventBus]] = []
        self._number = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def keep_appending(self) -> None:
        """Append until it is cancelled, and let others work in between."""
        while True:
            await self.append(10)
            await asyncio.sleep(0.002)

    async def append(self, count: int) -> None:
        for _ in range(count):
            stream = STREAMS[self._number % len(STREAMS)]
            await append(self.store, stream, Deposited(account_id=stream, amount=self._number))
            self._number += 1

    async def start(
        self, *, views: MemoryViewStore | None = None, open_bus: OpenBus | None = None
    ) -> Relay:
        """Start a relay; with view stores of their own several believe to be the one."""
        bus = await when_there(open_bus or self.open_bus)
        relay = Relay(
            self.store, bus, name="ledger", epoch=self.store.epoch,
            views=views or self.views, owner=f"r{len(self._running)}", settings=QUICK,
        )  # fmt: skip
        await relay.start()
        self._running.append((relay, bus))
        return relay

    async def stop(self) -> None:
        running, self._running = self._running, []
        for relay, bus in running:
            await relay.stop()
            await bus.close()

    async def position(self) -> int:
        """Return how far the relay is that is least far."""
        return min([(await relay.status()).position for relay, _ in self._running])

    async def relayed(self) -> None:
        """Wait until all relays have published all that is in the store, and noted it."""
        head = await self.store.head()

        async def done() -> bool:
            return await self.position() == head

        await until(done, timeout_s=WAIT_S_MAX)

    async def check(self, *, most: int = 0) -> None:
        """Check that a reader finds each event of the store once, in the order of its stream.

        ``most``: how many may be there at most, with those that are there twice.
        """
        bus = await when_there(self.open_bus)
        try:
            found = [one for one in await everything(bus) if one.event.type != WATERMARK]
        finally:
            await bus.close()
        positions = [event.position for event in first_seen(found)]
        assert sorted(positions) == list(range(1, await self.store.head() + 1))
        if most:
            assert len(found) <= most


async def when_there(call: Callable[[], Awaitable[T]]) -> T:
    """Return what a call returns, as soon as a broker that has just come up can answer it."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def everything(bus: EventBus) -> list[Delivery]:
    """Return all that is on a bus."""
    left = {partition: end for partition, end in (await bus.end()).items() if end >= 0}
    ends, found = dict(left), []
    async with asyncio.timeout(WAIT_S_MAX), subscription(bus, dict.fromkeys(left, -1)) as pages:
        while left:
            for one in await anext(pages):
                found.append(one)
                if one.offset >= ends[one.partition]:
                    left.pop(one.partition, None)
    return found


def first_seen(found: list[Delivery]) -> list[BusEvent]:
    """Return what a reader handles: in each partition no position at or below the last one."""
    last: dict[tuple[int, str, str], int] = {}
    events = []
    for one in found:
        place = (one.partition, one.event.source, one.event.epoch)
        if one.event.position > last.get(place, 0):
            last[place] = one.event.position
            events.append(one.event)
    return events


__all__ = [
    "STREAMS",
    "WAIT_S_MAX",
    "OpenBus",
    "Publisher",
    "everything",
    "first_seen",
    "when_there",
]
