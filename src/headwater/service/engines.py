"""From URLs to engines; with `testing` and `cli` the only place that knows technologies."""

from pathlib import Path

from headwater.errors import ConfigurationError
from headwater.eventbus import EventBus
from headwater.eventstore import EventStore
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


async def open_event_store(url: str) -> EventStore:
    """Open the event store that a URL names.

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
