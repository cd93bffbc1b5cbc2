"""Tags that events got later, on events that were stored before."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import msgspec

from headwater.errors import ConfigurationError, DeclarationError
from headwater.eventstore.copy import Progress
from headwater.eventstore.retag import Retagged, retag_store
from headwater.messages import Event, message_type
from headwater.messages.codec import EventCodec
from headwater.messages.upcasting import sources_of
from headwater.modelling import Saga
from headwater.modelling.handler_tables import handler_table
from headwater.modelling.saga import saga_type
from headwater.modelling.state import aggregate_type, model_type
from headwater.operations.loading import load_service
from headwater.operations.stores import chosen_services, exists, open_streams, settings_of
from headwater.operations.system import System
from headwater.processing.sources.tokens import log_name
from headwater.service.service import Service


class RetaggedLog(msgspec.Struct, frozen=True):
    """What was done to one log of a service.

    ``ambiguous`` are the wire names that were left out, with the classes that have each.
    """

    log: str
    found: Retagged
    ambiguous: dict[str, list[str]]


def services_with_events(system: System, service: str = "") -> list[str]:
    """Return the named service, or all that have stored events.

    Raises:
        ConfigurationError: there is none.
    """
    names = chosen_services(system, service)
    if not service:
        names = [n for n in names if any(map(exists, settings_of(system, n).stores))]
    if not names:
        raise ConfigurationError(
            subject=str(system.file),
            reason=f"nothing is stored in {system.data}: start the system",
        )
    return names


async def retag(
    system: System,
    services: Sequence[str],
    *,
    after: int = 0,
    check: bool = False,
    progress: Callable[[str], Progress],
) -> AsyncIterator[RetaggedLog]:
    """Give stored events the tags that their classes have today, log by log.

    Args:
        system: whose services.
        services: which of them.
        after: begin behind this position, of a service whose events are in one database.
        check: change nothing.
        progress: gives for each log what is told how far it is.

    Raises:
        ConfigurationError: positions are given for more than one log, or a service is unknown.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: a store cannot be used.
    """
    if after and (len(services) > 1 or len(settings_of(system, services[0]).stores) > 1):
        reason = "positions are counted per database: name one service, whose events are in one"
        raise ConfigurationError(subject=f"--after {after}", reason=reason)
    for name in services:
        loaded = load_service(system.services[name].app, python_path=system.python_path)
        codec, ambiguous = codec_of(loaded)
        urls = settings_of(system, name).stores
        async with open_streams(urls, subject=f"event store of {name}") as store:
            for shard, log in enumerate(store.shards):
                called = log_name(name, shard)
                told = progress(called)
                found = await retag_store(
                    log, codec, after=after, through=loaded.codec, check=check, progress=told
                )
                yield RetaggedLog(called, found, ambiguous)


def codec_of(service: Service) -> tuple[EventCodec, dict[str, list[str]]]:
    """Return what reads the events of a service's own store, and what cannot be told apart.

    The classes that its aggregates and decision models are made of come first, then those that
    its other handlers take from the store, then all that its modules have imported. Of two classes
    of one wire name the one that comes first counts; two that come last are left out.

    Returns:
        The codec, and for each wire name that was left out the classes that have it.
    """
    codec = EventCodec()
    taken: dict[str, type[Event]] = {}
    for event in _declared(service):
        for cls in (event, *sources_of(event)):
            if _add(codec, cls):
                taken = {**dict.fromkeys(_names(cls), cls), **taken}
    others: dict[str, list[type[Event]]] = {}
    for cls in dict.fromkeys(_subclasses(Event)):
        names = _names(cls, service.name)
        if taken.keys().isdisjoint(names):
            for name in names:
                others.setdefault(name, []).append(cls)
    twice = {name: classes for name, classes in others.items() if len(classes) > 1}
    unclear = {cls for classes in twice.values() for cls in classes}
    for classes in others.values():
        if classes[0] not in unclear:
            _add(codec, classes[0])
    return codec, {name: [_place(cls) for cls in classes] for name, classes in twice.items()}


def _declared(service: Service) -> Iterator[type[Event]]:
    for aggregate in service.aggregates:
        yield from aggregate_type(aggregate).events
    for model in service.decisions:
        yield from model_type(model).events
    for aggregate in service.aggregates:
        for handler in aggregate_type(aggregate).commands.values():
            for needed in handler.models:
                yield from model_type(needed).events
    for handlers in (*service.projections, *service.handlers):
        if handlers.source == "store":
            yield from handler_table(type(handlers)).events
    sagas: Sequence[type[Saga]] = service.sagas
    for saga in sagas:
        if saga.saga_source == "store":
            yield from saga_type(saga).events


def _subclasses(cls: type[Event]) -> Iterator[type[Event]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _add(codec: EventCodec, event: type[Event]) -> bool:
    """Let a codec know a class, unless it knows another of its name or it cannot be read."""
    try:
        codec.add(event)
    except (DeclarationError, NameError):
        return False
    return True


def _names(cls: type[Event], service: str = "") -> tuple[str, ...]:
    """Return the wire names of an event; none, if a service's store cannot have it."""
    try:
        kind = message_type(cls)
    except (NameError, DeclarationError):  # nobody could store it, as it is declared
        return ()
    return kind.names if not service or kind.source in {"", service} else ()


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
