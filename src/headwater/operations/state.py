"""Aggregates and views as they are, or as they were: by replay, nothing is changed."""

import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from headwater.errors import ConfigurationError, HeadwaterError, ViewNotFound
from headwater.eventstore import StreamStore
from headwater.messages import Codec
from headwater.modelling import EventHandlers, Repository
from headwater.modelling.handler_tables import handler_table
from headwater.modelling.state import aggregate_type
from headwater.operations.documents import nearest
from headwater.operations.loading import load_service
from headwater.operations.stores import chosen_services, open_streams
from headwater.operations.system import System
from headwater.processing import StoreSource
from headwater.processing.time_travel import view_after
from headwater.views import SqlTable, ViewStore, view_type


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


class AggregateState(msgspec.Struct, frozen=True):
    """An aggregate at a point.

    Attributes:
        name, id: which one.
        version: after so many of its events.
        shard: which database of the store it is in; None when there is one.
        position, time: of the event that led to it, microseconds UTC; 0 without one.
        state: what its handlers made of its events.
    """

    name: str
    id: str
    version: int
    shard: int | None
    position: int
    time: int
    state: Any


class ViewState(msgspec.Struct, frozen=True):
    """A view at a point; ``position`` is that of the log, or of each shard in order."""

    name: str
    key: str
    position: int | tuple[int, ...]
    state: Any


def find_subject(system: System, name: str, service: str) -> Subject:
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
        for view in handler_table(type(projection)).documents:
            yield Subject(owner, view_type(view).name, view, projection, loaded.codec)


async def state_at(
    urls: Sequence[str], subject: Subject, id: str, point: Point
) -> AggregateState | ViewState:
    """Return an aggregate or a view as it was at a point of its past.

    Args:
        urls: those of the event store.
        subject: what it is; see `find_subject`.
        id: which one; the key of a view.
        point: when.

    Raises:
        ConfigurationError: there is no such version, or nothing can be replayed to tell.
        ViewNotFound: there was no such view then.
        StoreUnavailable, EventUnreadable: the events cannot be read.
    """
    async with open_streams(urls, subject=f"event store of {subject.service}") as store:
        if subject.projection is None:
            return await _aggregate(store, subject, id, point)
        return await _view(store, subject, subject.projection, id, point)


async def _aggregate(store: StreamStore, subject: Subject, id: str, point: Point) -> AggregateState:
    repository: Repository[Any] = Repository(
        subject.kind, store, source=subject.service, codec=subject.codec
    )
    found = await repository.state(
        id, at_version=point.version, at_position=point.position, at_time=point.time
    )
    if point.version is not None and found.version < point.version:
        raise ConfigurationError(
            subject=f"{subject.name} {id!r} at version {point.version}",
            reason=f"{repository.type.stream(id)} has {found.version} events so far",
        )
    shard = store.shard_of(repository.type.stream(id))
    return AggregateState(
        name=subject.name,
        id=id,
        version=found.version,
        shard=shard if len(store.shards) > 1 else None,
        position=found.position,
        time=found.time,
        state=found.state,
    )


async def _view(
    store: StreamStore, subject: Subject, projection: EventHandlers, key: str, point: Point
) -> ViewState:
    if point.version is not None:
        raise ConfigurationError(
            subject=f"{subject.name} {key!r} at version {point.version}",
            reason=f"{subject.name} is a view and has no versions: use --at-position or --at-time",
        )
    if projection.source != "store":
        raise ConfigurationError(
            subject=subject.name,
            reason="is kept from a bus or a queue, with no past to replay from: ask the service",
        )
    source = StoreSource(store, subject.service, codec=subject.codec)
    if point.position is None and point.time is None:
        goal = await source.head()
    else:
        after = None if point.time is None else point.time + 1
        goal = await source.at(position=point.position, time_us=after)
    positions = tuple([goal.shard_position(source.name, n) for n in range(len(store.shards))])
    position = positions[0] if len(positions) == 1 else positions
    try:
        async with scratch_for(projection) as scratch:
            found = await view_after(
                projection,
                subject.kind,
                key,
                source=source,
                scratch=scratch,
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
    return ViewState(subject.name, key, position, found)


@asynccontextmanager
async def scratch_for(projection: EventHandlers) -> AsyncIterator[ViewStore]:
    """Open an empty view store: in memory, or in a file if the projection has tables of SQL."""
    from headwater.views.memory import MemoryViewStore
    from headwater.views.sqlite import SQLiteViewStore

    if not any(issubclass(model, SqlTable) for model in handler_table(type(projection)).views):
        yield MemoryViewStore()
        return
    with tempfile.TemporaryDirectory(prefix="headwater-state-") as folder:
        store = await SQLiteViewStore.open(Path(folder) / "views.db")
        try:
            yield store
        finally:
            await store.close()
