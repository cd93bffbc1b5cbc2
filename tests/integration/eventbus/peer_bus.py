"""A process that shares an event bus: ``peer_bus.py <role> <path or URL> <source>``."""

import asyncio
import sys
import time

from headwater.eventbus import BusEvent, EventBus
from headwater.eventbus.postgres import PostgresEventBus
from headwater.eventbus.sqlite import SQLiteEventBus

EVENTS = 400


def event(position: int, source: str) -> BusEvent:
    """Return the event of a position; 11 streams."""
    stream = f"Account/{position % 11}"
    return BusEvent(
        source, "e", position, stream, position, "Deposited", 1, position, (), b"{}", b"{}"
    )


async def open_bus(place: str) -> EventBus:
    """Open the bus in a file or at a URL."""
    if "://" in place:
        return await PostgresEventBus.open(place)
    return await SQLiteEventBus.open(place)


async def heard() -> str:
    return (await asyncio.to_thread(sys.stdin.readline)).rstrip("\n")


def say(text: object) -> None:
    print(text, flush=True)  # noqa: T201  # how it talks to the test


async def publish(bus: EventBus, source: str) -> None:
    """Publish events of a source of our own, and the same again that the others publish."""
    for first in range(1, EVENTS + 1, 20):
        for name in (source, "shared"):
            await bus.publish([event(n, name) for n in range(first, first + 20)])
    say("done")


async def endless(bus: EventBus, source: str) -> None:
    """Publish until killed, and say what is acknowledged."""
    for n in range(1, 1_000_000):
        await bus.publish([event(n, source)])
        say(n)


async def whenever(bus: EventBus, source: str) -> None:
    """Publish one event whenever told, and say when it was acknowledged."""
    while (line := await heard()) != "stop":
        await bus.publish([event(int(line), source)])
        say(time.monotonic())


async def main() -> None:
    """Play a role."""
    role, place, source = sys.argv[1:]
    bus = await open_bus(place)
    await {"publish": publish, "endless": endless, "whenever": whenever}[role](bus, source)
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main())
