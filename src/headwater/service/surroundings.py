"""What an instance finds outside of itself: databases, other services, time."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from headwater.discovery import Discovery
from headwater.eventbus import EventBus
from headwater.eventstore import StreamStore
from headwater.service.engines import open_event_bus, open_stream_store, open_view_store
from headwater.views import ViewStore


class Surroundings:
    """Those of a program: engines as URLs name them, others as settings say. Tests give others.

    Attributes:
        discovery: who finds the other services where the settings name no registry.
        config: sections by name where the settings name no configuration service.
        bridged: whether brokers that the service bridges to must be named by its settings. If not,
            what follows a queue follows the event bus.
        clients: by declared interface, who answers its calls in place of the other service.
    """

    bridged: bool = True
    discovery: Discovery | None = None
    config: Mapping[str, Any] = {}
    clients: Mapping[object, object] = {}

    def ticks(self) -> float:
        """Return the time that carries a store's clock on between two looks at it, seconds."""
        return time.monotonic()

    async def open_stream_store(self, urls: Sequence[str]) -> StreamStore:
        """Open the event store; see `headwater.service.engines`."""
        return await open_stream_store(urls)

    async def open_view_store(self, url: str) -> ViewStore:
        """Open the view store; see `headwater.service.engines`."""
        return await open_view_store(url)

    async def open_event_bus(self, url: str, *, partitions: int) -> EventBus:
        """Open the event bus; see `headwater.service.engines`."""
        return await open_event_bus(url, partitions=partitions)


__all__ = ["Surroundings"]
