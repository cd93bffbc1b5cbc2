"""A system moves to another bus, for example one with more partitions, while it stands still."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from headwater.errors import InvalidInput
from headwater.eventbus import EventBus
from headwater.operations.processors import open_admins
from headwater.operations.stores import settings_of
from headwater.operations.system import load_system
from headwater.processing import BusSource, move_processor, move_relay
from headwater.service.engines import open_event_bus


class Moved(msgspec.Struct, frozen=True):
    """A processor, or a relay, that goes on on the other bus."""

    service: str
    name: str


async def move_to_bus(
    file: Path, *, former: str, partitions: int, service: str = ""
) -> AsyncIterator[Moved]:
    """Let the processors of a system go on on the bus that its description names by now.

    Yields each that has moved. Whoever is interrupted, or refused, begins again.

    Args:
        file: the description, with the new bus.
        former: the URL of the bus before.
        partitions: how many that has.
        service: only those of this service; empty: of all.

    Raises:
        InvalidInput: both are the same; or see `move_processor`.
        ConfigurationError: a bus is not what is said of it.
        StoreUnavailable: a bus or a database is away.
    """
    system = load_system(file)
    async with contextlib.AsyncExitStack() as resources:
        opened = await resources.enter_async_context(open_admins(file, service))
        buses: dict[str, EventBus] = {}
        for entry in opened.processors:
            source = entry.admin.source
            if not isinstance(source, BusSource):
                continue
            settings = settings_of(system, entry.service)
            url = msgspec.structs.replace(settings, bus=former).url("bus")
            if url == settings.url("bus"):
                reason = "the bus before is the one of the description: name a new one there"
                raise InvalidInput(reason=reason)
            if url not in buses:
                buses[url] = await open_event_bus(url, partitions=partitions)
                resources.push_async_callback(buses[url].close)
            before = source.on(buses[url])
            await move_processor(entry.name, entry.views, former=before, following=source)
            yield Moved(entry.service, entry.name)
        for name, relay in opened.relays:
            await move_relay(relay.name, relay.views)
            yield Moved(name, relay.name)


__all__ = ["Moved", "move_to_bus"]
