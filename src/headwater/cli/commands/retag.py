"""``headwater retag``: tags that events got later, on events that were stored before."""

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headwater.cli.logs import run_quietly
from headwater.cli.progress import progress_bar
from headwater.errors import ConfigurationError, DeclarationError
from headwater.eventstore import EventStore
from headwater.eventstore.retag import Retagged, retag_store
from headwater.messages import Codec, Event, message_type
from headwater.messages.codec import EventCodec
from headwater.messages.upcasting import sources_of
from headwater.modelling import Saga
from headwater.modelling.handler_tables import handler_table
from headwater.modelling.saga import saga_type
from headwater.modelling.state import aggregate_type, model_type
from headwater.operations.loading import load_service
from headwater.operations.stores import (
    DEFAULT_FILE,
    chosen_services,
    exists,
    open_streams,
    settings_of,
)
from headwater.operations.system import System, load_system
from headwater.processing.sources.tokens import log_name
from headwater.service.service import Service


def retag(
    *,
    service: str = "",
    check: bool = False,
    after: int = 0,
    json: bool = False,
    file: Path = DEFAULT_FILE,
) -> None:
    """Give stored events the tags that their classes have today.

    Only the tags are changed. The system may run; let all its instances be of today's version, so
    that nobody stores events with the tags of yesterday. Interrupted, it goes on with --after, or
    from the beginning: what is right already is only read.

    Parameters
    ----------
    service
        Only of this service; default: of all services that store events.
    check
        Change nothing; report what would change, with exit code 1 if anything.
    after
        Begin behind this position, of a service whose events are in one database.
    json
        One JSON object for each database instead of text.
    file
        The description of the system.
    """
    system = load_system(file)
    names = _services(system, service)
    if after and (len(names) > 1 or len(settings_of(system, names[0]).stores) > 1):
        reason = "positions are counted per database: name one service, whose events are in one"
        raise ConfigurationError(subject=f"--after {after}", reason=reason)
    if after < 0:
        raise ConfigurationError(subject=f"--after {after}", reason="expected 0 or more")
    sys.exit(run_quietly(_retag(system, names, after, check=check, json=json)))


def _services(system: System, service: str) -> list[str]:
    names = chosen_services(system, service)
    if not service:
        names = [n for n in names if any(map(exists, settings_of(system, n).stores))]
    if not names:
        raise ConfigurationError(
            subject=str(system.file),
            reason=f"nothing is stored in {system.data}: start the system",
        )
    return names


async def _retag(system: System, names: list[str], after: int, *, check: bool, json: bool) -> int:
    code = 0
    for name in names:
        loaded = load_service(system.services[name].app, python_path=system.python_path)
        codec, twice = codec_of(loaded)
        urls = settings_of(system, name).stores
        async with open_streams(urls, subject=f"event store of {name}") as store:
            for shard, log in enumerate(store.shards):
                called = log_name(name, shard)
                found = await _one(log, codec, called, after, through=loaded.codec, check=check)
                report = _json if json else _text
                report(called, found, twice, check=check)
                if found.unread or (check and found.changed):
                    code = 1
    return code


async def _one(
    log: EventStore,
    codec: EventCodec,
    name: str,
    after: int,
    *,
    through: Codec | None,
    check: bool,
) -> Retagged:
    reached = after
    with progress_bar(f"{'checking' if check else 'retagging'} {name}") as bar:

        def progress(position: int, head: int) -> None:
            nonlocal reached
            reached = position
            bar(position, head)

        try:
            return await retag_store(
                log, codec, after=after, through=through, check=check, progress=progress
            )
        except asyncio.CancelledError:
            sys.stderr.write(f"interrupted: {name} goes on with --after {reached}\n")
            raise


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


def _text(name: str, found: Retagged, twice: Mapping[str, list[str]], *, check: bool) -> None:
    looked = found.position - found.began
    changed = sum(found.changed.values())
    what = "have other tags than their classes give" if check else "were given other tags"
    lines = [f"{name}: looked at {looked:,} events, {changed:,} {what}"]
    lines += [f"  {count:,} of {kind}" for kind, count in sorted(found.changed.items())]
    for kind, count in sorted(found.unknown.items()):
        why = f"it could be {' or '.join(twice[kind])}" if kind in twice else "its class is unknown"
        lines.append(f"  left as they are: {count:,} of {kind}, as {why}")
    if found.unread:
        lines.append(f"  left as they are: {found.unread:,} that cannot be read")
    lines += [
        f"    {each.stream}@{each.version} at position {each.position}: {each.reason}"
        for each in found.examples
    ]
    sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.flush()


def _json(name: str, found: Retagged, twice: Mapping[str, list[str]], *, check: bool) -> None:
    content: dict[str, Any] = {"log": name, "check": check, **msgspec.structs.asdict(found)}
    content["ambiguous"] = {kind: twice[kind] for kind in found.unknown if kind in twice}
    sys.stdout.write(f"{msgspec.json.encode(content).decode()}\n")
    sys.stdout.flush()
