"""``headwater snapshots``: what is kept of states, whether it is right, and how to be rid of it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from cyclopts import App

from headwater.cli.logs import run_quietly
from headwater.errors import ConfigurationError
from headwater.messages import Codec
from headwater.modelling.snapshot_check import CheckedSnapshot, check_snapshots
from headwater.modelling.state import aggregate_type
from headwater.operations.documents import nearest
from headwater.operations.loading import load_service
from headwater.operations.stores import (
    DEFAULT_FILE,
    chosen_services,
    exists,
    open_streams,
    settings_of,
)
from headwater.operations.system import System, load_system

app = App(name="snapshots", help="Check and drop the stored states of aggregates.")


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


@app.command
def check(
    aggregate: str = "", *, service: str = "", json: bool = False, file: Path = DEFAULT_FILE
) -> None:
    """Compare snapshots with what the events lead to today; exit code 1 when some differ.

    Those of another revision or shape are ignored by the service, and so here.

    Parameters
    ----------
    aggregate
        Of one class, for example Account, or of one aggregate, for example Account/7; default:
        all.
    service
        Only of this service.
    json
        One JSON object for each snapshot instead of text.
    file
        The description of the system.
    """
    system = load_system(file)
    chosen = _chosen(system, aggregate, service)
    sys.exit(run_quietly(_check(system, chosen, json=json)))


@app.command
def drop(aggregate: str, *, service: str = "", file: Path = DEFAULT_FILE) -> None:
    """Remove snapshots; the aggregates are loaded from their events then, and new ones taken.

    Instances that run have states in memory, too, and store them: to be rid of what a wrong
    handler made, stop those that have it first, or raise the `revision` of the class instead.

    Parameters
    ----------
    aggregate
        Of one class, for example Account, or of one aggregate, for example Account/7.
    service
        The service that owns it, if several have one of this name.
    file
        The description of the system.
    """
    system = load_system(file)
    found = _chosen(system, aggregate, service)
    if len(found) > 1:
        owners = ", ".join(each.service for each in found)
        reason = f"several services have it ({owners}): add --service"
        raise ConfigurationError(subject=f"{aggregate!r}", reason=reason)
    run_quietly(_drop(system, found[0]))


def _chosen(system: System, wanted: str, service: str) -> list[Chosen]:
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


async def _check(system: System, found: list[Chosen], *, json: bool) -> int:
    code = 0
    for chosen in found:
        counts: dict[str, int] = {}
        urls, subject = _stores(system, chosen), f"event store of {chosen.service}"
        async with open_streams(urls, subject=subject) as store:
            async for one in check_snapshots(
                chosen.cls, store, prefix=chosen.stream, codec=chosen.codec
            ):
                if chosen.id and one.stream != chosen.stream:
                    continue  # its name only begins alike
                counts[one.verdict] = counts.get(one.verdict, 0) + 1
                code = 1 if one.verdict == "different" else code
                _show(chosen, one, json=json)
        if not json:
            told = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(counts.items()))
            sys.stdout.write(f"{chosen.service}: {chosen.stream}: {told or 'no snapshots'}\n")
    return code


def _show(chosen: Chosen, one: CheckedSnapshot, *, json: bool) -> None:
    if json:
        content = {"service": chosen.service, **msgspec.structs.asdict(one)}
        sys.stdout.write(f"{msgspec.json.encode(content).decode()}\n")
    elif one.reason:
        sys.stdout.write(f"{one.stream}@{one.version}: {one.verdict}: {one.reason}\n")


async def _drop(system: System, chosen: Chosen) -> None:
    urls, subject = _stores(system, chosen), f"event store of {chosen.service}"
    async with open_streams(urls, subject=subject) as store:
        if chosen.id:
            dropped = int(await store.drop_snapshot(chosen.stream))
        else:
            dropped = await store.drop_snapshots(chosen.stream)
    sys.stdout.write(f"{chosen.stream}: {dropped:,} dropped\n")
