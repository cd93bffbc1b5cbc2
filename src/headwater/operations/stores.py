"""Opening what a system stores, for the commands that look into it."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from headwater.engines import Engine, Engines
from headwater.errors import ConfigurationError
from headwater.eventstore import ReadableLog, StreamStore
from headwater.eventstore.sharded import check_shards
from headwater.operations.documents import nearest
from headwater.operations.system import System, load_system
from headwater.service.engines import EVENT_STORES, open_event_store, open_stream_store
from headwater.service.settings import ServiceSettings, service_settings, split_urls

DEFAULT_FILE = Path("headwater.toml")


def settings_of(system: System, service: str) -> ServiceSettings:
    """Return the settings that the instances of a service have.

    Raises:
        ConfigurationError: there is no such service.
    """
    if service not in system.services:
        raise ConfigurationError(
            subject=f"service {service!r}",
            reason=f"is not in {system.file}: {nearest(service, system.services)}",
        )
    return service_settings(system.settings(service), origin=str(system.file))


def chosen_services(system: System, service: str) -> list[str]:
    """Return the named service, or all."""
    if service:
        settings_of(system, service)
        return [service]
    return list(system.services)


def exists(url: str, engines: Engines[Any] = EVENT_STORES) -> bool:
    """Whether there is something to look into; a store in memory lives in its own process only."""
    engine: Engine = engines.of(url)
    path = engine.file_of(url)
    return path.exists() if path is not None else engine.shared


def require(url: str, *, subject: str, engines: Engines[Any] = EVENT_STORES) -> None:
    """Check that there is something to look into.

    Raises:
        ConfigurationError: there is not; says why.
    """
    engine = engines.of(url)
    if not engine.shared:
        reason = "is kept in the memory of its own process: nobody else can look into it"
        raise ConfigurationError(subject=f"{subject} {url!r}", reason=reason)
    if not exists(url, engines):
        reason = (
            f"{engine.file_of(url)} does not exist: start the system first, or correct the path"
        )
        raise ConfigurationError(subject=subject, reason=reason)


@contextlib.asynccontextmanager
async def open_logs(urls: Sequence[str], *, subject: str) -> AsyncIterator[tuple[ReadableLog, ...]]:
    """Open the logs of an event store for reading, one for each shard.

    Where the engine can, nothing is written, and no right to write is needed.

    Raises:
        ConfigurationError: one does not exist, or the URL names no known engine.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: one cannot be opened.
        ShardMismatch: one is not the shard that its place among the URLs says.
    """
    async with contextlib.AsyncExitStack() as resources:
        logs: list[ReadableLog] = []
        for url in urls:
            require(url, subject=subject)
            engine = EVENT_STORES.of(url)
            logs.append(await (engine.open_log or engine.open)(url))
            resources.push_async_callback(logs[-1].close)
        if len(logs) > 1:
            await check_shards(logs, names=[EVENT_STORES.name_of(url) for url in urls])
        yield tuple(logs)


@contextlib.asynccontextmanager
async def open_streams(urls: Sequence[str], *, subject: str) -> AsyncIterator[StreamStore]:
    """Open the event store of a service, in one database or spread over several, as `open_logs`.

    One log is not settled as a store by itself: looking changes nothing.
    """
    for url in urls:
        require(url, subject=subject)
    store: StreamStore
    store = await (open_event_store(urls[0]) if len(urls) == 1 else open_stream_store(urls))
    try:
        yield store
    finally:
        await store.close()


def urls_of(store: str) -> tuple[str, ...]:
    """Return the URLs that an option gives, of which the path of a file is one, too."""
    return tuple([url if ":" in url else f"sqlite:{url}" for url in split_urls(store)])


def load_stores(file: Path, service: str, store: str) -> dict[str, tuple[str, ...]]:
    """Return the URLs of event stores by service; with ``store`` only that one.

    Raises:
        ConfigurationError: the file or the service is wrong, or nothing is stored yet.
    """
    if store:
        return {service or "store": urls_of(store)}
    system = load_system(file)
    names = chosen_services(system, service)
    urls = {name: settings_of(system, name).stores for name in names}
    if service:
        return urls
    found = {name: all_of for name, all_of in urls.items() if any(map(exists, all_of))}
    if not found:
        raise ConfigurationError(
            subject=str(file), reason=f"nothing is stored in {system.data} yet: start the system"
        )
    return found
