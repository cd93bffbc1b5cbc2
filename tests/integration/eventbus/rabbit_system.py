"""A service that publishes on a RabbitMQ bus, and the check that nothing of it is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

from headwater.errors import StoreUnavailable
from headwater.eventbus import WATERMARK, BusEvent, Delivery, EventBus
from headwater.eventbus.rabbitmq import RabbitMQEventBus
from headwater.eventstore.memory import MemoryEventStore
from headwater.processing import Relay
from headwater.testing.eventbus import PARTITIONS, subscription
from headwater.views.memory import MemoryViewStore
from tests.integration.processing.conftest import QUICK, until
from tests.integration.processing.domain import Deposited, append

T = TypeVar("T")

WAIT_S_MAX = 100.0
STREAMS = [f"Account/{n}" for n in range(9)]


class Publisher:
    """An event store and its relays, each with a bus of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
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

    async def start(self, *, views: MemoryViewStore | None = None, url: str = "") -> Relay:
        """Start a relay; with view stores of their own several believe to be the one."""
        bus = await when_there(lambda: RabbitMQEventBus.open(url or self.url))
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

    async def relayed(self) -> None:
        """Wait until all relays have published all that is in the store, and noted it."""
        head = await self.store.head()

        async def done() -> bool:
            states = [await relay.status() for relay, _ in self._running]
            return all(state.position == head for state in states)

        await until(done, timeout_s=WAIT_S_MAX)

    async def check(self, *, most: int = 0) -> None:
        """Check that each partition has the events of its streams, in order.

        ``most``: how many may be there at most, with those that are there twice.
        """
        bus = await when_there(lambda: RabbitMQEventBus.open(self.url))
        try:
            found = [one for one in await everything(bus) if one.event.type != WATERMARK]
        finally:
            await bus.close()
        head = await self.store.head()
        positions = [event.position for event in first_seen(found)]
        assert sorted(positions) == list(range(1, head + 1))
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
    ends = {partition: end for partition, end in (await bus.end()).items() if end >= 0}
    found: list[Delivery] = []
    left = dict(ends)
    async with asyncio.timeout(WAIT_S_MAX), subscription(bus, dict.fromkeys(left, -1)) as pages:
        while left:
            for one in await anext(pages):
                found.append(one)
                if one.offset >= ends[one.partition]:
                    left.pop(one.partition, None)
    return found


def first_seen(found: list[Delivery]) -> list[BusEvent]:
    """Return what a reader handles: in each partition no position at or below the last one."""
    last: dict[tuple[int, str], int] = {}
    events = []
    for one in found:
        place = (one.partition, one.event.source)
        if one.event.position > last.get(place, 0):
            last[place] = one.event.position
            events.append(one.event)
    return events


__all__ = [
    "PARTITIONS",
    "STREAMS",
    "WAIT_S_MAX",
    "Publisher",
    "everything",
    "first_seen",
    "when_there",
]
