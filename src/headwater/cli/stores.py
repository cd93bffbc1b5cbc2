"""Opening what a system stores, for the commands that look into it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from headwater.cli.documents import nearest
from headwater.cli.logs import configure_logs
from headwater.cli.system import System, load_system
from headwater.errors import ConfigurationError
from headwater.eventstore import EventStore
from headwater.service.settings import ServiceSettings, service_settings

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

    configure_logs("error")
    require(url, subject=subject)
    store = await open_event_store(url)
    try:
        yield store
    finally:
        await store.close()


def load_stores(file: Path, service: str, store: str) -> dict[str, str]:
    """Return the URLs of event stores by service; with ``store`` only that one.

    Raises:
        ConfigurationError: the file or the service is wrong, or nothing is stored yet.
    """
    if store:
        return {service or "store": store if ":" in store else f"sqlite:{store}"}
    system = load_system(file)
    names = chosen_services(system, service)
    urls = {name: settings_of(system, name).url("store") for name in names}
    if service:
        return urls
    found = {name: url for name, url in urls.items() if exists(url)}
    if not found:
        raise ConfigurationError(
            subject=str(file), reason=f"nothing is stored in {system.data} yet: start the system"
        )
    return found
