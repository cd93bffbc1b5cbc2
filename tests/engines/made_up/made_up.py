"""Engines for ``made-up:<directory>``, as a package outside of Headwater would have them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headwater.errors import ConfigurationError
from headwater.eventbus import EventBus, EventBusEngine
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventstore import EventStore, EventStoreEngine, StoredEvent, StoredKey
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.views import ViewStore, ViewStoreEngine
from headwater.views.sqlite import SQLiteViewStore


class MadeUpEventStore(SQLiteEventStore):
    """An event store that takes no events of others."""

    async def import_events(
        self, events: Sequence[StoredEvent], *, epoch: str, keys: Sequence[StoredKey] = ()
    ) -> None:
        reason = "takes no events of other stores: copy into one of another engine"
        raise ConfigurationError(subject="made-up store", reason=reason)


def file_of(url: str) -> Path:
    return Path(url.partition(":")[2]) / "events.made-up"


async def open_store(url: str, **options: Any) -> EventStore:
    return await MadeUpEventStore.open(file_of(url), **options)


async def open_bus(_url: str, partitions: int) -> EventBus:
    return MemoryEventBus(partitions)


async def open_views(url: str, clock: Callable[[], float] | None = None) -> ViewStore:
    return await SQLiteViewStore.open(file_of(url).with_suffix(".views"), clock=clock)


EVENT_STORE = EventStoreEngine(open=open_store, file_of=file_of, shared=True, imports=False)
EVENT_BUS = EventBusEngine(open=open_bus, shared=False, ordered=True, drops_repeated=True)
VIEW_STORE = ViewStoreEngine(open=open_views, shared=True, sql="sqlite")
