"""``headwater state``: an aggregate or a view as it is, or as it was."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec

from headwater.cli.logs import run_quietly
from headwater.cli.times import parse_time, show_time
from headwater.errors import ConfigurationError, HeadwaterError, ViewNotFound
from headwater.eventstore import StreamStore
from headwater.messages import Codec
from headwater.modelling import EventHandlers, Repository
from headwater.modelling.handler_tables import handler_table
from headwater.modelling.state import aggregate_type
from headwater.operations.documents import nearest
from headwater.operations.loading import load_service
from headwater.operations.stores import (
    DEFAULT_FILE,
    chosen_services,
    open_streams,
    settings_of,
    urls_of,
)
from headwater.operations.system import System, load_system
from headwater.processing import StoreSource
from headwater.processing.time_travel import view_after
from headwater.views import view_type


class Subject(msgspec.Struct, frozen=True):
    """What a name stands for in a service: an aggregate, or a view that a projection keeps."""

    service: str
    name: str
    kind: Any  # type[Aggregate], or with a projection type[View]
    projection: EventHandlers | None = None
    codec: Codec | None = None


class Point(msgspec.Struct, frozen=True):
    """A point in the past; nothing given is now. ``time`` is microseconds UTC."""

    version: int | None = None
    position: int | None = None
    time: int | None = None


def state(
    stream: str,
    *,
    at_version: int | None = None,
    at_position: int | None = None,
    at_time: str | None = None,
    service: str = "",
    store: str = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Show an aggregate or a view as JSON, by replay: now, or at any point of its past.

    Parameters
    ----------
    stream
        Which one: Aggregate/id, for example Account/7, or View/key, for example AccountView/7.
    at_version
        After so many of its events (of an aggregate).
    at_position
        As it was when the store's last event had this position (sharded: that of its shard).
    at_time
        As it was at this time (ISO 8601; without a zone: UTC).
    service
        The service that owns it, if several have one of this name.
    store
        URL of a store, or path of a file, instead of the system's.
    file
        The description of the system.
    """
    point = _point(at_version, at_position, at_time)
    name, _, id = stream.partition("/")
    if not name or not id:
        raise ConfigurationError(
            subject=stream, reason="expected Aggregate/id, for example Account/7"
        )
    system = load_system(file)
    subject = _find(system, name, service)
    urls = urls_of(store) if store else settings_of(system, subject.service).stores
    run_quietly(_show(urls, subject, id, point))


def _point(version: int | None, position: int | None, time: str | None) -> Point:
    points = {"--at-version": version, "--at-position": position, "--at-time": time}
    given = [name for name, value in points.items() if value is not None]
    if len(given) > 1:
        raise ConfigurationError(subject=" and ".join(given), reason="give only one of them")
    for option, number in (("--at-version", version), ("--at-position", position)):
        if number is not None and number < 1:
            raise ConfigurationError(subject=f"{option} {number}", reason="expected 1 or more")
    time_us = parse_time(time, option="--at-time") if time is not None else None
    return Point(version, position, time_us)


def _find(system: System, name: str, service: str) -> Subject:
    """Return what a name stands for.

    Raises:
        ConfigurationError: nothing has this name, or several services have it.
    """
    known: dict[str, list[Subject]] = {}
    for owner in chosen_services(system, service):
        for subject in _subjects(system, owner):
            known.setdefault(subject.name, []).append(subject)
    found = known.get(name, [])
    if not found:
        raise ConfigurationError(
            subject=f"{name!r}",
            reason=f"no service of {system.file} has an aggregate or view of this name: "
            f"{nearest(name, known)}",
        )
    if len(found) > 1:
        owners = ", ".join(subject.service for subject in found)
        raise ConfigurationError(
            subject=f"{name!r}", reason=f"several services have it ({owners}): add --service"
        )
    return found[0]


def _subjects(system: System, owner: str) -> Iterator[Subject]:
    loaded = load_service(system.services[owner].app, python_path=system.python_path)
    for aggregate in loaded.aggregates:
        yield Subject(owner, aggregate_type(aggregate).name, aggregate, codec=loaded.codec)
    for projection in loaded.projections:
        for view in handler_table(type(projection)).views:
            yield Subject(owner, view_type(view).name, view, projection, loaded.codec)


async def _show(urls: Sequence[str], subject: Subject, id: str, point: Point) -> None:
    async with open_streams(urls, subject=f"event store of {subject.service}") as store:
        if subject.projection is None:
            content = await _aggregate(store, subject, id, point)
        else:
            content = await _view(store, subject, subject.projection, id, point)
    text = msgspec.json.format(_encoded(content), indent=2).decode()
    sys.stdout.write(f"{text}\n")


def _encoded(content: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(content)
    except (TypeError, ValueError):  # a state that is never stored need not have a form in JSON
        return msgspec.json.encode(_readable(content))


def _readable(value: Any) -> Any:
    """Return a value with what JSON does not have written as Python does."""
    if isinstance(value, msgspec.Struct):
        return {name: _readable(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {_text(key): _readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | AbstractSet):
        return [_readable(item) for item in value]
    return value if value is None or type(value) in {bool, int, float} else _text(value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode(errors="backslashreplace").decode()


async def _aggregate(store: StreamStore, subject: Subject, id: str, point: Point) -> dict[str, Any]:
    repository: Repository[Any] = Repository(
        subject.kind, store, source=subject.service, codec=subject.codec
    )
    found = await repository.state(
        id, at_version=point.version, at_position=point.position, at_time=point.time
    )
    if point.version is not None and found.version < point.version:
        raise ConfigurationError(
            subject=f"--at-version {point.version}",
            reason=f"{repository.type.stream(id)} has {found.version} events so far",
        )
    shard = store.shard_of(repository.type.stream(id))
    return {
        "aggregate": subject.name,
        "id": id,
        "version": found.version,
        **({"shard": shard} if len(store.shards) > 1 else {}),
        "position": found.position,
        "time": show_time(found.time),
        "state": found.state,
    }


async def _view(
    store: StreamStore, subject: Subject, projection: EventHandlers, key: str, point: Point
) -> dict[str, Any]:
    from headwater.views.memory import MemoryViewStore

    if point.version is not None:
        raise ConfigurationError(
            subject=f"--at-version {point.version}",
            reason=f"{subject.name} is a view and has no versions: use --at-position or --at-time",
        )
    if projection.source != "store":
        raise ConfigurationError(
            subject=subject.name,
            reason="is kept from the event bus, which has no past to replay from: ask the service",
        )
    source = StoreSource(store, subject.service, codec=subject.codec)
    if point.position is None and point.time is None:
        goal = await source.head()
    else:
        after = None if point.time is None else point.time + 1
        goal = await source.at(position=point.position, time_us=after)
    positions = [goal.shard_position(source.name, n) for n in range(len(store.shards))]
    position = positions[0] if len(positions) == 1 else positions
    try:
        found = await view_after(
            projection,
            subject.kind,
            key,
            source=source,
            scratch=MemoryViewStore(),
            goal=goal,
        )
    except HeadwaterError:
        raise
    except Exception as error:  # whatever the projection raises
        raise ConfigurationError(
            subject=subject.name,
            reason=f"its projection fails on an event up to position {position}: "
            f"{type(error).__name__}: {error}",
        ) from error
    if found is None:
        raise ViewNotFound(view=subject.name, key=key)
    return {"view": subject.name, "key": key, "position": position, "state": found}
