"""An event bus that is away when its service starts: events wait in the store until it is there."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import cast

import structlog

from headwater.errors import StoreUnavailable
from headwater.eventbus import BusEvent, Delivery, EventBus, EventType
from headwater.eventbus.retention import Retention

_log = structlog.get_logger("headwater.service")

Open = Callable[[], Awaitable[EventBus]]


async def open_now_or_later(
    open_bus: Open, *, name: str, partitions: int, ordered: bool
) -> EventBus:
    """Return a bus, or, if it is away, one that is opened by the first call that finds it.

    Args:
        open_bus: opens it.
        name: for messages.
        partitions: how many it will have.
        ordered: whether it will be; see `EventBus.ordered`.

    Raises:
        ConfigurationError: it is there, and is not what the settings say.
    """
    try:
        return await open_bus()
    except StoreUnavailable as error:
        _log.warning(
            "the event bus is away: events wait in the store until it is there", reason=str(error)
        )
        return LateBus(open_bus, name=name, partitions=partitions, ordered=ordered)


class LateBus:
    """An `EventBus` that is opened by whoever calls it; those who wait share an attempt.

    Besides what the port says every call raises `ConfigurationError` as long as what is found is
    not what the settings say.
    """

    def __init__(self, open_bus: Open, *, name: str, partitions: int, ordered: bool) -> None:
        """Wait for the first call; see `open_now_or_later`."""
        self._open = open_bus
        self._name = name
        self._partitions = partitions
        self._ordered = ordered
        self._bus: EventBus | None = None
        self._opening: asyncio.Task[EventBus] | None = None
        self._closed = False

    @property
    def partitions(self) -> int:
        """See `EventBus.partitions`."""
        return self._partitions

    @property
    def ordered(self) -> bool:
        """See `EventBus.ordered`."""
        return self._ordered

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """See `EventBus.publish`."""
        await (await self._there()).publish(events)

    async def stored(self, source: str, epoch: str) -> dict[int, int]:
        """See `EventBus.stored`."""
        return await (await self._there()).stored(source, epoch)

    async def subscribe(
        self, *, after: Mapping[int, int], page_size: int = 1000
    ) -> AsyncIterator[Sequence[Delivery]]:
        """See `EventBus.subscribe`."""
        pages = (await self._there()).subscribe(after=after, page_size=page_size)
        async with contextlib.aclosing(
            cast("AsyncGenerator[Sequence[Delivery], None]", pages)
        ) as following:
            async for page in following:
                yield page

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """See `EventBus.announce`."""
        return await (await self._there()).announce(source, types)

    async def begin(self) -> dict[int, int]:
        """See `EventBus.begin`."""
        return await (await self._there()).begin()

    async def end(self) -> dict[int, int]:
        """See `EventBus.end`."""
        return await (await self._there()).end()

    async def note_reader(self, reader: str, offsets: Mapping[int, int]) -> None:
        """See `EventBus.note_reader`."""
        await (await self._there()).note_reader(reader, offsets)

    async def forget(self, retention: Retention) -> int:
        """See `EventBus.forget`."""
        return await (await self._there()).forget(retention)

    async def close(self) -> None:
        """See `EventBus.close`."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._bus is not None:
            await self._bus.close()

    async def _there(self) -> EventBus:
        if self._bus is not None:
            return self._bus
        if self._closed:
            raise self._was_closed()
        if self._opening is None:
            self._opening = asyncio.create_task(self._find(), name="late event bus")
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        opening = self._opening
        await asyncio.wait([opening])  # whoever is cancelled meanwhile leaves it to the others
        if opening.cancelled():
            raise self._was_closed()
        return opening.result()

    async def _find(self) -> EventBus:
        try:
            self._bus = await self._open()
        finally:
            self._opening = None
        _log.info("the event bus is there", bus=self._name)
        return self._bus

    def _was_closed(self) -> StoreUnavailable:
        reason = "it has been closed: open it again"
        return StoreUnavailable(store=self._name, reason=reason, outcome="not stored")


__all__ = ["LateBus", "open_now_or_later"]
