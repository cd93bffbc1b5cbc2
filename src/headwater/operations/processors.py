"""The processors of a system: how far they are; replay, rebuild, split and merge."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import msgspec

from headwater.errors import ConfigurationError
from headwater.eventbus import EventBus
from headwater.eventstore import StreamStore
from headwater.modelling import Saga
from headwater.modelling.event_handlers import kebab
from headwater.modelling.foreign import FollowedSource
from headwater.modelling.saga import saga_type
from headwater.operations.documents import nearest
from headwater.operations.loading import load_service
from headwater.operations.stores import chosen_services, exists, require, settings_of
from headwater.operations.system import System, load_system
from headwater.processing import (
    BusSource,
    ProcessorAdmin,
    ProcessorStatus,
    Relay,
    RelayStatus,
    Source,
    StoreSource,
)
from headwater.processing.handling.applier import Unhandled
from headwater.processing.handling.dead_letters import processors_with_letters
from headwater.processing.relay import relays_of
from headwater.processing.running import pausing
from headwater.processing.running.pausing import ProcessorPause
from headwater.processing.sagas.processor import saga_applier
from headwater.processing.scheduling import schedule_applier
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

_LOOK_S = 0.1
_RUN_LOOKS = 30
_TAKE_UP_LOOKS = 100


class Found(msgspec.Struct, frozen=True):
    """A processor of a service, and the view store that it keeps its progress in."""

    service: str
    name: str
    admin: ProcessorAdmin
    views: ViewStore


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
    opened.processors.extend(Found(name, admin.name, admin, views) for admin in admins)
    declared = {type(one).name for one in (*service.projections, *service.handlers)}
    declared |= {admin.name for admin in admins}
    sagas: Sequence[type[Saga]] = service.sagas
    declared |= {kebab(saga_type(one).name) for one in sagas}
    source: Source = BusSource(MemoryEventBus())
    for gone in sorted(await processors_with_letters(views) - declared):
        admin = ProcessorAdmin(Unhandled(source, gone), source=source, views=views)
        opened.gone.append(Found(name, gone, admin, views))
    if store is not None and bus is not None:
        relays = relays_of(store, bus, name=name, views=views, owner="admin")
        opened.relays.extend((name, relay) for relay in relays)


def _admins(
    service: Service, store: StreamStore | None, bus: EventBus | None, views: ViewStore
) -> Iterator[ProcessorAdmin]:
    def source(wanted: FollowedSource) -> Source | None:
        if not isinstance(wanted, str):  # a queue of another broker has no progress to look at
            return None
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
    if service.scheduling:
        applier = schedule_applier(service=service.name, recurring=service.recurring)
        yield ProcessorAdmin(applier, source=applier.source, views=views)


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


class Pausable(msgspec.Struct, frozen=True):
    """What can be paused: a processor or a relay of a service, by its name in its view store."""

    service: str
    name: str
    views: ViewStore


def pausable(opened: Opened, name: str) -> Pausable:
    """Return the processor or relay of a name, ``service/name`` where several services have it.

    Raises:
        ConfigurationError: there is none, or several.
    """
    relays = [Pausable(service, relay.name, relay.views) for service, relay in opened.relays]
    found = [r for r in relays if name in {r.name, f"{r.service}/{r.name}"}]
    if len(found) == 1:
        return found[0]
    processor = one(opened, name)
    return Pausable(processor.service, processor.name, processor.views)


async def pause(entry: Pausable, *, by: str = "", reason: str = "") -> ProcessorPause:
    """Let nobody work on a processor until `resume`; see `ProcessorAdmin.pause`.

    Raises:
        StoreUnavailable: the view store is away.
    """
    return await pausing.pause(entry.views, entry.name, by=by, reason=reason)


async def resume(entry: Pausable) -> bool:
    """Let a processor go on where it is; return whether it was paused.

    Raises:
        StoreUnavailable: the view store is away.
    """
    return await pausing.resume(entry.views, entry.name)


async def at_rest(entry: Pausable) -> tuple[str, ...]:
    """Return who still works on a processor that is paused, after some seconds at most.

    Raises:
        StoreUnavailable: the view store is away.
    """
    owners: set[str] = set()
    for _ in range(_TAKE_UP_LOOKS):
        now = await entry.views.now()
        held = [s for s in await entry.views.segments(entry.name) if s.is_held(now)]
        owners = {s.owner for s in held if not s.owner.endswith("/rebuild")}
        if not owners:
            break
        await asyncio.sleep(_LOOK_S)
    return tuple(sorted(owners))


class Figures(msgspec.Struct, frozen=True):
    """A processor of a service as it is now, and for how long its oldest command waits, seconds."""

    service: str
    status: ProcessorStatus
    waiting_s: float


class Relayed(msgspec.Struct, frozen=True):
    """A relay of a service to the bus as it is now."""

    service: str
    status: RelayStatus


async def figures(opened: Opened) -> AsyncIterator[Figures]:
    """Yield how each processor is; times are those of its store.

    Raises:
        StoreUnavailable: a store is away.
    """
    for entry in opened.processors:
        status = await entry.admin.status()
        waiting_s = 0.0
        if status.outbox.commands:
            waiting_s = max(0.0, await entry.views.now() - status.outbox.since)
        yield Figures(entry.service, status, waiting_s)


async def relayed(opened: Opened) -> list[Relayed]:
    """Return how far each relay is.

    Raises:
        StoreUnavailable: a store is away.
    """
    return [Relayed(name, await relay.status()) for name, relay in opened.relays]


class Replay(msgspec.Struct, frozen=True):
    """A replay that has begun: events to go, and whether somebody works on it."""

    lag: int
    runs: bool


async def replay(
    entry: Found, *, position: int | None = None, time_us: int | None = None
) -> Replay:
    """Let a processor handle events again; see `ProcessorAdmin.reset`.

    Whether somebody takes it up is watched for a few seconds.

    Raises:
        InvalidInput: it cannot be replayed, or not from there.
        StoreUnavailable: a store is away.
    """
    await entry.admin.reset(position=position, time_us=time_us)
    status = await entry.admin.status()
    return Replay(status.lag, await _runs(entry))


class Progress(msgspec.Struct, frozen=True):
    """How much of something is done."""

    done: int
    total: int


async def catching_up(entry: Found) -> AsyncIterator[Progress]:
    """Yield how far a processor is over all its segments, until it is at the head.

    Ends before when nobody works on it any more.

    Raises:
        StoreUnavailable: a store is away.
    """
    while True:
        status = await entry.admin.status()
        total = sum(segment.head for segment in status.segments)
        done = sum(segment.position for segment in status.segments)
        yield Progress(done if total else 1, max(total, 1))
        if status.lag == 0 or (not _owned(status) and not await _runs(entry)):
            return
        await asyncio.sleep(_LOOK_S)


class Resized(msgspec.Struct, frozen=True):
    """Segments before, and how many of them somebody worked on."""

    before: int
    owned: int


async def resize(entry: Found, segments: int) -> Resized:
    """Split or merge the segments of a processor; see `ProcessorAdmin.resize`.

    Raises:
        InvalidInput: there cannot be so many, or it was never started.
        StoreUnavailable: a store is away.
    """
    before = await entry.admin.status()
    await entry.admin.resize(segments)
    return Resized(len(before.segments), _owned(before))


async def taking_up(entry: Found, segments: int) -> AsyncIterator[Progress]:
    """Yield how many of its new segments have an owner, until all have, within some seconds.

    Raises:
        StoreUnavailable: a store is away.
    """
    for _ in range(_TAKE_UP_LOOKS):
        taken = _owned(await entry.admin.status())
        yield Progress(taken, segments)
        if taken == segments:
            return
        await asyncio.sleep(_LOOK_S)


def _owned(status: ProcessorStatus) -> int:
    return sum(bool(segment.owner) for segment in status.segments)


async def _runs(entry: Found) -> bool:
    """Whether somebody takes up the segments again, within the time that a look takes."""
    for _ in range(_RUN_LOOKS):
        if _owned(await entry.admin.status()):
            return True
        await asyncio.sleep(_LOOK_S)
    return False
