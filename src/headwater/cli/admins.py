"""The processors of a system, to be looked after from the command line."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headwater.cli.documents import nearest
from headwater.cli.loading import load_service
from headwater.cli.stores import chosen_services, exists, require, settings_of
from headwater.cli.system import System, load_system
from headwater.errors import ConfigurationError
from headwater.eventbus import EventBus
from headwater.eventstore import EventStore
from headwater.processing import BusSource, ProcessorAdmin, Source, StoreSource
from headwater.service.service import Service
from headwater.views import ViewStore


class Found(msgspec.Struct, frozen=True):
    """A processor of a service."""

    service: str
    admin: ProcessorAdmin

    @property
    def name(self) -> str:
        """The processor's name."""
        return self.admin.name


@contextlib.asynccontextmanager
async def open_admins(file: Path, service: str) -> AsyncIterator[list[Found]]:
    """Open the databases of a service (or of all) and give access to its processors.

    Raises:
        ConfigurationError: the service is unknown, or there is nothing stored yet.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: a database cannot be opened.
    """
    system = load_system(file)
    names = chosen_services(system, service)
    if not service:
        names = [name for name in names if exists(settings_of(system, name).url("views"))]
        if not names:
            raise ConfigurationError(
                subject=str(file), reason=f"nothing is stored in {system.data}: start the system"
            )
    async with contextlib.AsyncExitStack() as opened:
        found: list[Found] = []
        for name in names:
            found += await _of_service(system, name, opened)
        yield found


async def _of_service(system: System, name: str, opened: contextlib.AsyncExitStack) -> list[Found]:
    from headwater.service.engines import open_event_bus, open_event_store, open_view_store

    settings = settings_of(system, name)
    require(settings.url("views"), subject=f"view store of {name}")
    service = load_service(system.services[name].app, python_path=system.python_path)
    views = await open_view_store(settings.url("views"))
    opened.push_async_callback(views.close)
    store: EventStore | None = None
    bus: EventBus | None = None
    if (service.aggregates or service.decisions) and exists(settings.url("store")):
        store = await open_event_store(settings.url("store"))
        opened.push_async_callback(store.close)
    if settings.bus and exists(settings.url("bus")):
        bus = await open_event_bus(settings.url("bus"), partitions=settings.partitions)
        opened.push_async_callback(bus.close)
    return [Found(name, admin) for admin in _admins(service, store, bus, views)]


def _admins(
    service: Service, store: EventStore | None, bus: EventBus | None, views: ViewStore
) -> list[ProcessorAdmin]:
    def source(wanted: str) -> Source | None:
        if wanted == "bus":
            return BusSource(bus) if bus is not None else None
        return StoreSource(store, service.name) if store is not None else None

    pairs: list[tuple[Any, Source | None]] = [
        (handlers, source(handlers.source))
        for handlers in (*service.projections, *service.handlers)
    ]
    return [
        ProcessorAdmin(handlers, source=followed, views=views)
        for handlers, followed in pairs
        if followed is not None
    ]


def one(found: Sequence[Found], name: str) -> Found:
    """Return the processor of a name, ``service/name`` where several services have it.

    Raises:
        ConfigurationError: there is none, or several.
    """
    matching = [f for f in found if name in {f.name, f"{f.service}/{f.name}"}]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(f"{f.service}/{f.name}" for f in matching)
        raise ConfigurationError(subject=f"processor {name!r}", reason=f"say which one: {names}")
    raise ConfigurationError(
        subject=f"processor {name!r}",
        reason=f"does not exist: {nearest(name, [f.name for f in found])}",
    )
