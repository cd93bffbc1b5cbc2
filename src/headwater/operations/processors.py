"""The processors of a system, to be looked after from the command line."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import msgspec

from headwater.errors import ConfigurationError
from headwater.eventbus import EventBus
from headwater.eventstore import StreamStore
from headwater.modelling import Saga
from headwater.modelling.event_handlers import kebab
from headwater.modelling.saga import saga_type
from headwater.operations.documents import nearest
from headwater.operations.loading import load_service
from headwater.operations.stores import chosen_services, exists, require, settings_of
from headwater.operations.system import System, load_system
from headwater.processing import BusSource, ProcessorAdmin, Relay, Source, StoreSource
from headwater.processing.handling.applier import Gone
from headwater.processing.handling.dead_letters import processors_with_letters
from headwater.processing.relay import relays_of
from headwater.processing.sagas.processor import saga_applier
from headwater.service.engines import (
    EVENT_BUSES,
    EVENT_STORES,
    VIEW_STORES,
    check_owner,
    open_event_bus,
    open_stream_store,
    open_view_store,
)
from headwater.service.service import Service
from headwater.views import ViewStore


class Found(msgspec.Struct, frozen=True):
    """A processor of a service."""

    service: str
    name: str
    admin: ProcessorAdmin


class Opened(msgspec.Struct, frozen=True):
    """The processors of some services, and their relays to the bus.

    ``gone`` are processors with letters that the services do not have any more.
    """

    processors: list[Found]
    relays: list[tuple[str, Relay]]
    gone: list[Found]


@contextlib.asynccontextmanager
async def open_admins(file: Path, service: str) -> AsyncIterator[Opened]:
    """Open the databases of a service (or of all) and give access to its processors.

    Raises:
        ConfigurationError: the service is unknown, there is nothing stored yet, or what is
            stored belongs to another service.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: a database cannot be opened.
    """
    system = load_system(file)
    names = chosen_services(system, service)
    if not service:
        views = {name: settings_of(system, name).url("views") for name in names}
        names = [name for name in names if exists(views[name], VIEW_STORES)]
        if not names:
            raise ConfigurationError(
                subject=str(file), reason=f"nothing is stored in {system.data}: start the system"
            )
    async with contextlib.AsyncExitStack() as resources:
        opened = Opened([], [], [])
        for name in names:
            await _open_service(system, name, resources, opened)
        yield opened


async def _open_service(
    system: System, name: str, resources: contextlib.AsyncExitStack, opened: Opened
) -> None:
    from headwater.eventbus.memory import MemoryEventBus

    settings = settings_of(system, name)
    require(settings.url("views"), subject=f"view store of {name}", engines=VIEW_STORES)
    service = load_service(system.services[name].app, python_path=system.python_path)
    views = await open_view_store(settings.url("views"))
    resources.push_async_callback(views.close)
    check_owner(await views.owner(), service.name, name=VIEW_STORES.name_of(settings.url("views")))
    store: StreamStore | None = None
    bus: EventBus | None = None
    if (service.aggregates or service.decisions) and any(map(exists, settings.stores)):
        for url in settings.stores:
            require(url, subject=f"event store of {name}")
        store = await open_stream_store(settings.stores)
        resources.push_async_callback(store.close)
        for url, log in zip(settings.stores, store.shards, strict=True):
            check_owner(await log.owner(), service.name, name=EVENT_STORES.name_of(url))
    if settings.bus and exists(settings.url("bus"), EVENT_BUSES):
        bus = await open_event_bus(settings.url("bus"), partitions=settings.partitions)
        resources.push_async_callback(bus.close)
    admins = list(_admins(service, store, bus, views))
    opened.processors.extend(Found(name, admin.name, admin) for admin in admins)
    declared = {type(one).name for one in (*service.projections, *service.handlers)}
    declared |= {admin.name for admin in admins}
    sagas: Sequence[type[Saga]] = service.sagas
    declared |= {kebab(saga_type(one).name) for one in sagas}
    source: Source = BusSource(MemoryEventBus())
    for gone in sorted(await processors_with_letters(views) - declared):
        admin = ProcessorAdmin(Gone(source, gone), source=source, views=views)
        opened.gone.append(Found(name, gone, admin))
    if store is not None and bus is not None:
        relays = relays_of(store, bus, name=name, views=views, owner="admin")
        opened.relays.extend((name, relay) for relay in relays)


def _admins(
    service: Service, store: StreamStore | None, bus: EventBus | None, views: ViewStore
) -> Iterator[ProcessorAdmin]:
    def source(wanted: str) -> Source | None:
        if wanted == "bus":
            return BusSource(bus, codec=service.codec) if bus is not None else None
        if store is None:
            return None
        return StoreSource(store, service.name, codec=service.codec)

    for handlers in (*service.projections, *service.handlers):
        if (followed := source(handlers.source)) is not None:
            yield ProcessorAdmin(handlers, source=followed, views=views)
    for saga in service.sagas:
        if (followed := source(saga.saga_source)) is not None:
            applier = saga_applier(saga, source=followed, service=service.name)
            yield ProcessorAdmin(applier, source=followed, views=views)


def one(opened: Opened, name: str) -> Found:
    """Return the processor of a name, ``service/name`` where several services have it.

    Raises:
        ConfigurationError: there is none, or several.
    """
    found = [*opened.processors, *opened.gone]
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
