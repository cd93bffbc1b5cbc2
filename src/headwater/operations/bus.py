"""The event bus of a system: its partitions, who reads it and how far, and the events on it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from headwater.errors import ConfigurationError, InvalidInput
from headwater.eventbus import Delivery, EventBus
from headwater.operations.processors import Opened
from headwater.operations.stores import chosen_services, require, settings_of
from headwater.operations.system import load_system
from headwater.processing import BusSource
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.tokens import token_of
from headwater.service.engines import EVENT_BUSES, open_event_bus
from headwater.service.upkeep import not_forgetting

_LAST_EVENTS = 50  # of which the last that has a time is looked for
_LAST_S = 5.0


class OpenedBus(msgspec.Struct, frozen=True):
    """The bus of some services.

    Attributes:
        name: the bus, without passwords.
        bus: it itself.
        services: those that have it.
        forgets: whether its engine forgets what all have read; see `EventBus.forget`.
        kept_s: for how long it keeps that, seconds, as the services say; 0: for ever.
    """

    name: str
    bus: EventBus
    services: tuple[str, ...]
    forgets: bool
    kept_s: float

    @property
    def warning(self) -> str:
        """What is set and has no effect; empty when all has."""
        return not_forgetting(self.kept_s) if not self.forgets else ""


class PartitionFigures(msgspec.Struct, frozen=True):
    """One partition: what is kept, and the time of its last event, microseconds UTC (0: unknown).

    ``begin`` is the offset from which on everything is kept, ``end`` that of the last event.
    """

    partition: int
    begin: int
    end: int
    last_us: int


class ConsumerFigures(msgspec.Struct, frozen=True):
    """How far a processor is in one partition.

    Attributes:
        service, processor: which it is.
        partition: the partition.
        offset: of the last event it has read; -1: none.
        lag: how many events it has still to read, at most: offsets need not be dense.
        forgotten: whether events that it has not read are not on the bus any more.
        paused: whether it is paused.
    """

    service: str
    processor: str
    partition: int
    offset: int
    lag: int
    forgotten: bool
    paused: bool


@contextlib.asynccontextmanager
async def open_bus(file: Path, service: str) -> AsyncIterator[OpenedBus]:
    """Open the bus of a service, or the one that all services have.

    Raises:
        ConfigurationError: the service is unknown or has no bus, services have several, or there
            is nothing to look into.
        StoreUnavailable: the bus is away.
    """
    system = load_system(file)
    found: dict[str, list[str]] = {}
    for name in chosen_services(system, service):
        if settings_of(system, name).bus:
            found.setdefault(settings_of(system, name).url("bus"), []).append(name)
    if len(found) != 1:
        names = ", ".join(name for names in found.values() for name in names)
        reason = f"has several: say which by --service, one of {names}" if found else "has none"
        raise ConfigurationError(subject=f"event bus of {service or file}", reason=reason)
    [(url, services)] = found.items()
    require(url, subject="event bus", engines=EVENT_BUSES)
    settings = settings_of(system, services[0])
    bus = await open_event_bus(url, partitions=settings.partitions)
    try:
        engine = EVENT_BUSES.of(url)
        name = EVENT_BUSES.name_of(url)
        kept_s = max(settings_of(system, one).bus_kept_s for one in services)
        yield OpenedBus(name, bus, tuple(services), engine.forgets, kept_s)
    finally:
        await bus.close()


async def partitions(bus: EventBus) -> list[PartitionFigures]:
    """Return what each partition has.

    Raises:
        StoreUnavailable: the bus is away.
    """
    begin, end = await bus.begin(), await bus.end()
    times = await asyncio.gather(*(_last_us(bus, p, begin[p], end[p]) for p in sorted(end)))
    return [
        PartitionFigures(p, begin[p], end[p], last_us)
        for p, last_us in zip(sorted(end), times, strict=True)
    ]


async def _last_us(bus: EventBus, partition: int, begin: int, end: int) -> int:
    """Return the time of the last event that has one; 0 if that is not found soon."""
    last_us, first = 0, max(begin, end - _LAST_EVENTS + 1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_S):
            async for delivery in read(bus, partition=partition, first=first, limit=_LAST_EVENTS):
                last_us = delivery.event.time or last_us
    return last_us


async def consumers(opened: Opened, bus: EventBus) -> list[ConsumerFigures]:
    """Return how far those processors are that follow the bus, in each partition.

    Raises:
        StoreUnavailable: the bus or a view store is away.
    """
    begin, end = await bus.begin(), await bus.end()
    found = []
    for entry in opened.processors:
        source = entry.admin.source
        if not isinstance(source, BusSource):
            continue
        status = await entry.admin.status()
        offsets: dict[int, int] = {}
        for segment in await entry.views.segments(entry.name):
            if segment.generation == status.generation:
                token = source.restrict(token_of(segment.token), {segment.index}, segment.count)
                for partition, offset in token.offsets.items():
                    offsets[partition] = min(offset, offsets.get(partition, offset))
        found += [
            ConsumerFigures(
                service=entry.service,
                processor=entry.name,
                partition=partition,
                offset=offset,
                lag=max(0, end.get(partition, -1) - offset),
                forgotten=offset < begin.get(partition, 0) - 1,
                paused=status.paused is not None,
            )
            for partition, offset in sorted(offsets.items())
        ]
    return found


async def read(
    bus: EventBus, *, partition: int, first: int | None = None, limit: int = 20
) -> AsyncIterator[Delivery]:
    """Yield events of a partition from an offset on, up to what is there now.

    Args:
        bus: the bus.
        partition: its partition.
        first: the offset to begin at; None: so that the last ``limit`` offsets are read.
        limit: how many at most.

    Raises:
        InvalidInput: there is no such partition, or the offset or the limit is negative.
        EventsForgotten: events from the offset on are not kept any more.
        StoreUnavailable: the bus is away.
    """
    if not 0 <= partition < bus.partitions:
        reason = f"partition {partition} does not exist: the bus has 0 to {bus.partitions - 1}"
        raise InvalidInput(reason=reason)
    if limit < 0 or (first is not None and first < 0):
        reason = f"expected an offset and a limit of 0 or more, got {first} and {limit}"
        raise InvalidInput(reason=reason)
    end = (await bus.end())[partition]
    if first is None:
        first = max((await bus.begin())[partition], end - limit + 1)
    if first > end or not limit:
        return
    pages = bus.subscribe(after={partition: first - 1}, page_size=min(limit, 1000))
    left = limit
    try:
        async for page in pages:
            for delivery in page:
                yield delivery
                left -= 1
                if not left or delivery.offset >= end:
                    return
    finally:
        await close_iterator(pages)
