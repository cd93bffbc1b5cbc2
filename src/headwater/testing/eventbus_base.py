"""What the parts of the event bus suite share: events, subscriptions, and how a bus is opened."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar, cast

import pytest
import pytest_asyncio

from headwater.eventbus import BusEvent, Delivery, EventBus, EventBusEngine, EventType

WAIT_S_MAX = 30.0
PARTITIONS = 4
START = dict.fromkeys(range(PARTITIONS), -1)


def bus_event(
    position: int, *, stream: str = "", source: str = "accounts", epoch: str = "e1"
) -> BusEvent:
    """Return an event with all its parts in use."""
    return BusEvent(
        source=source,
        epoch=epoch,
        position=position,
        stream=stream or f"Account/{position % 7}",
        version=position,
        type="MoneyWithdrawn",
        type_version=2,
        time=1_700_000_000_123_456 + position,
        tags=("account:7", 'odd:"ü"'),
        data=b'{"amount":%d,"text":"\xc3\xbc"}' % position,
        metadata=b'{"id":"0190","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
        confirmed=position // 2,
        ends=(position // 2, 0),
    )


def event_type(source: str, field: str, *, name: str = "Moved") -> EventType:
    """Return a type with one field that must be there."""
    return EventType(name, source, f"{source}.{name}", {field: "text"}, (field,))


async def collect(
    bus: EventBus, count: int, *, after: Mapping[int, int] = START, page_size: int = 1000
) -> list[Delivery]:
    """Return the first deliveries of a subscription, at least so many as asked for."""
    found: list[Delivery] = []
    async with asyncio.timeout(WAIT_S_MAX), subscription(bus, after, page_size) as pages:
        while len(found) < count:
            found += await anext(pages)
    return found


def subscription(
    bus: EventBus, after: Mapping[int, int] = START, page_size: int = 1000
) -> "aclosing[AsyncGenerator[list[Delivery], None]]":
    """Subscribe for the length of a block."""
    pages = bus.subscribe(after=after, page_size=page_size)
    return aclosing(cast("AsyncGenerator[list[Delivery], None]", pages))


async def positions(bus: EventBus, ends: Mapping[int, int]) -> set[int]:
    """Return the positions of what there is up to some offsets."""
    left = {partition: end for partition, end in ends.items() if end >= 0}
    found: set[int] = set()
    async with subscription(bus, dict.fromkeys(left, -1)) as pages:
        while left:
            for one in await anext(pages):
                if one.offset <= ends[one.partition]:
                    found.add(one.event.position)
                if one.offset >= ends[one.partition]:
                    left.pop(one.partition, None)
    return found


class EventBusBase:
    """Subclass it, say how to open a bus, and declare what the backend can.

    Attributes:
        engine: what it says it can.
    """

    pytestmark = pytest.mark.asyncio
    engine: ClassVar[EventBusEngine]

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        """Open a bus whose data is in the directory ``place``."""
        raise NotImplementedError

    @property
    def shared(self) -> bool:
        """Whether buses at one place share their data, and keep it when all are closed."""
        return self.engine.shared

    @pytest_asyncio.fixture
    async def bus(self, tmp_path: Path) -> AsyncIterator[EventBus]:
        """Open a bus of four partitions."""
        bus = await self.open_bus(tmp_path, PARTITIONS)
        yield bus
        await bus.close()
