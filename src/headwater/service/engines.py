"""From URLs to engines: the tables of those that are part of Headwater, and what opens them."""

import contextlib
from collections.abc import Sequence

from headwater.engines import Engines
from headwater.errors import ConfigurationError
from headwater.eventbus import EventBus, EventBusEngine
from headwater.eventstore import (
    EventStore,
    EventStoreEngine,
    ReadableLog,
    ShardedEventStore,
    StreamStore,
)
from headwater.eventstore.sharded import settle_whole
from headwater.views import ViewStore, ViewStoreEngine

_POSTGRES = ("postgres", "postgresql")
EVENT_STORES = Engines(
    EventStoreEngine,
    "headwater.eventstores",
    what="event store",
    own={
        "memory": "headwater.eventstore.memory:ENGINE",
        "sqlite": "headwater.eventstore.sqlite:ENGINE",
        **dict.fromkeys(_POSTGRES, "headwater.eventstore.postgres:ENGINE"),
    },
)
EVENT_BUSES = Engines(
    EventBusEngine,
    "headwater.eventbuses",
    what="event bus",
    own={
        "kafka": "headwater.eventbus.kafka:ENGINE",
        "memory": "headwater.eventbus.memory:ENGINE",
        "sqlite": "headwater.eventbus.sqlite:ENGINE",
        **dict.fromkeys(_POSTGRES, "headwater.eventbus.postgres:ENGINE"),
        "rabbitmq-stream": "headwater.eventbus.rabbitmq:ENGINE",
    },
)
VIEW_STORES = Engines(
    ViewStoreEngine,
    "headwater.viewstores",
    what="view store",
    own={
        "memory": "headwater.views.memory:ENGINE",
        "sqlite": "headwater.views.sqlite:ENGINE",
        **dict.fromkeys(_POSTGRES, "headwater.views.postgres:ENGINE"),
    },
)


async def open_stream_store(urls: Sequence[str]) -> StreamStore:
    """Open the event store of a service: in one database, or spread over several.

    Raises:
        ConfigurationError: no database is named, or one twice.
        ShardMismatch: a database is not the shard that its place among the URLs says.
        Others: as `open_event_store`.
    """
    again = [
        url
        for number, url in enumerate(urls)
        if url in urls[:number] and EVENT_STORES.of(url).shared
    ]
    if not urls or again:
        reason = (
            f"{EVENT_STORES.name_of(again[0])} is named twice" if again else "names no database"
        )
        raise ConfigurationError(
            subject="store", reason=f"{reason}: give one URL, or one for each shard"
        )
    async with contextlib.AsyncExitStack() as undo:
        logs = []
        for url in urls:
            logs.append(await open_event_store(url))
            undo.push_async_callback(logs[-1].close)
        names = [EVENT_STORES.name_of(url) for url in urls]
        opened: StreamStore
        if len(logs) == 1:
            opened = await settle_whole(logs[0], name=names[0])
        else:
            opened = await ShardedEventStore.open(logs, names=names)
        undo.pop_all()
    return opened


async def settle_owner(engine: EventStore | ViewStore, service: str, *, name: str) -> None:
    """Let a database belong to a service, if it belongs to none yet.

    Two services in one database would take the other's events, views and progress for their own,
    wherever two of their names are the same.

    Raises:
        ConfigurationError: it belongs to another service.
    """
    check_owner(await engine.owner() or await engine.settle_owner(service), service, name=name)


def check_owner(owner: str, service: str, *, name: str) -> None:
    """Check that a database belongs to a service, or to none yet.

    Raises:
        ConfigurationError: it belongs to another one.
    """
    if owner not in ("", service):
        reason = (
            f"belongs to service {owner!r}, not to {service!r}: give each service a schema or a "
            "file of its own (?schema=NAME in the URL, or another path), or correct the URL; a "
            "service keeps the name that it had first"
        )
        raise ConfigurationError(subject=name, reason=reason)


async def open_event_store(url: str) -> EventStore:
    """Open the one log that a URL names; it is made if there is none.

    Raises:
        ConfigurationError: the URL names no known engine.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: it cannot be opened.
    """
    return await EVENT_STORES.of(url).open(url)


async def open_log(url: str) -> ReadableLog:
    """Open the one log that a URL names for reading: nothing is written, and no right to needed.

    Raises:
        ConfigurationError: the URL names no known engine, or one that cannot do this.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: it cannot be opened, or is not there.
    """
    engine = EVENT_STORES.of(url)
    if engine.open_log is None:
        reason = "its engine opens no log for reading alone: open it where it is written"
        raise ConfigurationError(subject=engine.name_of(url), reason=reason)
    return await engine.open_log(url)


async def open_view_store(url: str) -> ViewStore:
    """Open the view store that a URL names; raises as `open_event_store`."""
    return await VIEW_STORES.of(url).open(url)


async def open_event_bus(url: str, *, partitions: int) -> EventBus:
    """Open the event bus that a URL names; raises as `open_event_store`."""
    return await EVENT_BUSES.of(url).open(url, partitions)
