"""``headwater state``: an aggregate as it is, or as it was."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headwater.cli.documents import nearest
from headwater.cli.loading import load_service
from headwater.cli.stores import DEFAULT_FILE, chosen_services, open_store, settings_of
from headwater.cli.system import System, load_system
from headwater.cli.times import parse_time, show_time
from headwater.errors import ConfigurationError
from headwater.modelling import Aggregate, Repository, aggregate_type


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
    """Show the state of an aggregate as JSON: now, or at any point of its past.

    Parameters
    ----------
    stream
        Which one, for example Account/7.
    at_version
        After so many of its events.
    at_position
        As it was when the store's last event had this position.
    at_time
        As it was at this time (ISO 8601; without a zone: UTC).
    service
        The service that owns it, if several have an aggregate of this name.
    store
        URL of a store, or path of a file, instead of the system's.
    file
        The description of the system.
    """
    points = {"--at-version": at_version, "--at-position": at_position, "--at-time": at_time}
    given = [name for name, value in points.items() if value is not None]
    if len(given) > 1:
        raise ConfigurationError(subject=" and ".join(given), reason="give only one of them")
    for option, number in (("--at-version", at_version), ("--at-position", at_position)):
        if number is not None and number < 1:
            raise ConfigurationError(subject=f"{option} {number}", reason="expected 1 or more")
    name, _, id = stream.partition("/")
    if not name or not id:
        raise ConfigurationError(
            subject=stream, reason="expected Aggregate/id, for example Account/7"
        )
    at = {
        "at_version": at_version,
        "at_position": at_position,
        "at_time": parse_time(at_time, option="--at-time") if at_time is not None else None,
    }
    system = load_system(file)
    owner, aggregate = _find(system, name, service)
    url = settings_of(system, owner).url("store")
    if store:
        url = store if ":" in store else f"sqlite:{store}"
    asyncio.run(_show(url, owner, aggregate, id, at))


def _find(system: System, name: str, service: str) -> tuple[str, type[Aggregate]]:
    """Return the service and class of an aggregate name."""
    known: dict[str, list[tuple[str, type[Aggregate]]]] = {}
    for owner in chosen_services(system, service):
        loaded = load_service(system.services[owner].app, python_path=system.python_path)
        for aggregate in loaded.aggregates:
            known.setdefault(aggregate_type(aggregate).name, []).append((owner, aggregate))
    found = known.get(name, [])
    if not found:
        raise ConfigurationError(
            subject=f"aggregate {name!r}",
            reason=f"no service of {system.file} has it: {nearest(name, known)}",
        )
    if len(found) > 1:
        owners = ", ".join(owner for owner, _ in found)
        raise ConfigurationError(
            subject=f"aggregate {name!r}", reason=f"several services have it ({owners}): --service"
        )
    return found[0]


async def _show(
    url: str, owner: str, aggregate: type[Aggregate], id: str, at: Mapping[str, int | None]
) -> None:
    async with open_store(url, subject=f"event store of {owner}") as store:
        repository: Repository[Any] = Repository(aggregate, store, source=owner)
        found = await repository.state(id, **at)
    at_version = at["at_version"]
    if at_version is not None and found.version < at_version:
        raise ConfigurationError(
            subject=f"--at-version {at_version}",
            reason=f"{repository.type.stream(id)} has {found.version} events so far",
        )
    content = {
        "aggregate": repository.type.name,
        "id": id,
        "version": found.version,
        "position": found.position,
        "time": show_time(found.time),
        "state": found.state,
    }
    text = msgspec.json.format(msgspec.json.encode(content), indent=2).decode()
    sys.stdout.write(f"{text}\n")
