"""Opening what a system stores, for the commands that look into it."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from headwater.errors import ConfigurationError
from headwater.eventstore import EventStore, StreamStore
from headwater.operations.documents import nearest
from headwater.operations.system import System, load_system
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


def file_of(url: str) -> Path | None:
    """Return the file of an embedded store; None for others."""
    scheme, _, path = url.partition(":")
    return Path(path) if scheme == "sqlite" else None


def exists(url: str) -> bool:
    """Whether there is something to look into; a store in memory lives in its own process only."""
    path = file_of(url)
    return path.exists() if path is not None else not url.startswith("memory:")


def require(url: str, *, subject: str) -> None:
    """Check that there is something to look into.

    Raises:
        ConfigurationError: there is not; says why.
    """
    if url.startswith("memory:"):
        reason = "is kept in the memory of its own process: nobody else can look into it"
        raise ConfigurationError(subject=f"{subject} {url!r}", reason=reason)
    if not exists(url):
        reason = f"{file_of(url)} does not exist: start the system first, or correct the path"
        raise ConfigurationError(subject=subject, reason=reason)


@contextlib.asynccontextmanager
async def open_store(url: str, *, subject: str) -> AsyncIterator[EventStore]:
    """Open an event store that exists, and close it at the end.

    Raises:
        ConfigurationError: it does not exist, or the URL names no known engine.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: it cannot be opened.
    """
    from headwater.service.engines import open_event_store

    require(url, subject=subject)
    store = await open_event_store(url)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def open_streams(urls: Sequence[str], *, subject: str) -> AsyncIterator[StreamStore]:
    """Open the event store of a service, in one database or spread over several, as `open_store`.

    Raises:
        ShardMismatch: a database is not the shard that its place among the URLs says.
        Others: as `open_store`.
    """
    from headwater.service.engines import open_stream_store

    if len(urls) == 1:  # which is not settled as a store by itself: looking changes nothing
        async with open_store(urls[0], subject=subject) as log:
            yield log
        return
    for url in urls:
        require(url, subject=subject)
    store = await open_stream_store(urls)
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
