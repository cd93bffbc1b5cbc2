"""From URLs to engines; with `testing` and `cli` the only place that knows technologies."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from headwater._sql.postgres.url import Place
from headwater.errors import ConfigurationError
from headwater.eventbus import EventBus
from headwater.eventstore import EventStore, ShardedEventStore, StreamStore
from headwater.eventstore.sharded import settle_whole
from headwater.views import ViewStore


def _split(url: str, *, engine: str) -> tuple[str, Path]:
    scheme, separator, rest = url.partition(":")
    if separator and scheme in ("postgres", "postgresql"):
        return "postgresql", Path()
    if not separator or scheme not in ("sqlite", "memory") or (scheme == "sqlite" and not rest):
        raise ConfigurationError(
            subject=f"{engine} {url!r}",
            reason="expected 'sqlite:<path>', 'postgresql://...' or 'memory:'",
        )
    return scheme, Path(rest)


async def open_stream_store(urls: Sequence[str]) -> StreamStore:
    """Open the event store of a service: in one database, or spread over several.

    Raises:
        ConfigurationError: no database is named, or one twice.
        ShardMismatch: a database is not the shard that its place among the URLs says.
        Others: as `open_event_store`.
    """
    again = [url for number, url in enumerate(urls) if url in urls[:number] and url != "memory:"]
    if not urls or again:
        reason = f"{name_of(again[0])} is named twice" if again else "names no database"
        raise ConfigurationError(
            subject="store", reason=f"{reason}: give one URL, or one for each shard"
        )
    async with contextlib.AsyncExitStack() as undo:
        logs = []
        for url in urls:
            logs.append(await open_event_store(url))
            undo.push_async_callback(logs[-1].close)
        names = [name_of(url) for url in urls]
        opened: StreamStore
        if len(logs) == 1:
            opened = await settle_whole(logs[0], name=names[0])
        else:
            opened = await ShardedEventStore.open(logs, names=names)
        undo.pop_all()
    return opened


def name_of(url: str) -> str:
    """Return what a store is called in messages, without user and password."""
    scheme, _ = _split(url, engine="store")
    return Place.parse(url).name if scheme == "postgresql" else url


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
    """Open the one log that a URL names.

    Raises:
        ConfigurationError: the URL names no known engine.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: it cannot be opened.
    """
    scheme, path = _split(url, engine="event store")
    if scheme == "memory":
        from headwater.eventstore.memory import MemoryEventStore

        return MemoryEventStore()
    if scheme == "postgresql":
        from headwater.eventstore.postgres import PostgresEventStore

        return await PostgresEventStore.open(url)
    from headwater.eventstore.sqlite import SQLiteEventStore

    return await SQLiteEventStore.open(path)


async def open_view_store(url: str) -> ViewStore:
    """Open the view store that a URL names; raises as `open_event_store`."""
    scheme, path = _split(url, engine="view store")
    if scheme == "memory":
        from headwater.views.memory import MemoryViewStore

        return MemoryViewStore()
    if scheme == "postgresql":
        from headwater.views.postgres import PostgresViewStore

        return await PostgresViewStore.open(url)
    from headwater.views.sqlite import SQLiteViewStore

    return await SQLiteViewStore.open(path)


async def open_event_bus(url: str, *, partitions: int) -> EventBus:
    """Open the event bus that a URL names; raises as `open_event_store`."""
    scheme, path = _split(url, engine="event bus")
    if scheme == "memory":
        from headwater.eventbus.memory import MemoryEventBus

        return MemoryEventBus(partitions=partitions)
    if scheme == "postgresql":
        from headwater.eventbus.postgres import PostgresEventBus

        return await PostgresEventBus.open(url, partitions=partitions)
    from headwater.eventbus.sqlite import SQLiteEventBus

    return await SQLiteEventBus.open(path, partitions=partitions)
