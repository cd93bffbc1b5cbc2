"""Stored states of aggregates: whether they are right, and how to be rid of them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from headwater.errors import ConfigurationError
from headwater.messages import Codec
from headwater.modelling.snapshot_check import CheckedSnapshot, check_snapshots
from headwater.modelling.state import aggregate_type
from headwater.operations.documents import nearest
from headwater.operations.loading import load_service
from headwater.operations.stores import chosen_services, exists, open_streams, settings_of
from headwater.operations.system import System


class Chosen(msgspec.Struct, frozen=True):
    """An aggregate class of a service; with an id only one aggregate."""

    service: str
    name: str
    cls: Any
    id: str = ""
    codec: Codec | None = None

    @property
    def stream(self) -> str:
        """The name of its stream, or the beginning of those of all."""
        return f"{self.name}/{self.id}"


def choose(system: System, wanted: str, service: str) -> list[Chosen]:
    """Return the classes that a name stands for; without one those of all that is stored.

    Raises:
        ConfigurationError: no aggregate has the name.
    """
    name, separator, id = wanted.partition("/")
    known = list(_aggregates(system, service))
    if not wanted:
        return [e for e in known if service or any(map(exists, _stores(system, e)))]
    found = [msgspec.structs.replace(each, id=id) for each in known if each.name == name]
    if not found or (separator and not id):
        reason = f"expected an aggregate: {nearest(name, [each.name for each in known])}"
        raise ConfigurationError(subject=f"{wanted!r}", reason=reason)
    return found


def _aggregates(system: System, service: str) -> Iterator[Chosen]:
    for owner in chosen_services(system, service):
        loaded = load_service(system.services[owner].app, python_path=system.python_path)
        for aggregate in loaded.aggregates:
            yield Chosen(owner, aggregate_type(aggregate).name, aggregate, codec=loaded.codec)


def _stores(system: System, chosen: Chosen) -> tuple[str, ...]:
    return settings_of(system, chosen.service).stores


async def check(system: System, chosen: Chosen) -> AsyncIterator[CheckedSnapshot]:
    """Compare the snapshots of a class, or of one aggregate, with what the events lead to.

    Raises:
        ConfigurationError: nothing is stored yet.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: the store cannot be used.
    """
    urls, subject = _stores(system, chosen), f"event store of {chosen.service}"
    async with open_streams(urls, subject=subject) as store:
        async for one in check_snapshots(
            chosen.cls, store, prefix=chosen.stream, codec=chosen.codec
        ):
            if not chosen.id or one.stream == chosen.stream:  # else its name only begins alike
                yield one


async def drop(system: System, chosen: Chosen) -> int:
    """Remove the snapshots of a class, or of one aggregate; return how many.

    Raises:
        ConfigurationError: nothing is stored yet.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: the store cannot be used.
    """
    urls, subject = _stores(system, chosen), f"event store of {chosen.service}"
    async with open_streams(urls, subject=subject) as store:
        if chosen.id:
            return int(await store.drop_snapshot(chosen.stream))
        return await store.drop_snapshots(chosen.stream)
