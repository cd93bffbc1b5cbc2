"""``headwater schemas``: released schemas of events, and whether today's go with them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from cyclopts import App

from headwater.operations.stores import DEFAULT_FILE

if TYPE_CHECKING:
    from headwater.operations.schemas import Change
    from headwater.service.service import Service

app = App(
    name="schemas", help="Release the schemas of events; check today's against those released."
)

Require = Literal["backward", "forward", "full", "any"]
_FOLDER = Path("schemas")


@app.command
def release(
    target: str = "",
    *,
    folder: Path = _FOLDER,
    require: Require = "backward",
    force: bool = False,
    file: Path = DEFAULT_FILE,
) -> None:
    """Write the schemas of the services' events, to be committed with the code.

    What does not go with the last release is told, and nothing is written, with exit code 1.

    Parameters
    ----------
    target
        `module:service` or a file such as `shop.py`; default: all services of the system.
    folder
        Where the files are, one for each service.
    require
        What must hold, as for `headwater schemas check`.
    force
        Write in any case.
    file
        The description of the system.
    """
    from headwater.operations import schemas

    written = []
    for service in _services(target, file):
        place = folder / f"{service.name}.json"
        before = schemas.read_release(place) if place.exists() else None
        changes = schemas.compare(service, before) if before else []
        short = [change for change in changes if not change.enough(require)]
        if short and not force:
            sys.stdout.write(f"{service.name}: does not go with {place}; nothing is written\n")
            _tell(short)
            sys.exit(1)
        written.append((place, schemas.release_of(service, before)))
    for place, released in written:
        schemas.write_release(place, released)
        sys.stdout.write(f"{place}: {len(released.events)} events\n")


@app.command
def check(
    target: str = "",
    *,
    folder: Path = _FOLDER,
    require: Require = "backward",
    json: bool = False,
    file: Path = DEFAULT_FILE,
) -> None:
    """Compare the services' events with those last released; exit code 1 when that is broken.

    For each event: `backward` (this program reads what was stored), `forward` (programs that were
    released read what this one publishes), `full` (both) or `broken` (neither), and what changed.

    Parameters
    ----------
    target
        `module:service` or a file such as `shop.py`; default: all services of the system.
    folder
        Where the files are, one for each service.
    require
        What must hold of each event; `any`: whatever is not `broken`.
    json
        One JSON object for each event instead of text.
    file
        The description of the system.
    """
    from headwater.operations import schemas

    short = False
    for service in _services(target, file):
        released = schemas.read_release(folder / f"{service.name}.json")
        changes = schemas.compare(service, released)
        if json:
            for change in changes:
                line = {"service": service.name, **msgspec.structs.asdict(change)}
                sys.stdout.write(f"{msgspec.json.encode(line).decode()}\n")
        else:
            sys.stdout.write(f"{service.name}: {len(changes)} events\n")
            _tell(change for change in changes if change.changes or change.reasons)
        short = short or not all(change.enough(require) for change in changes)
    sys.exit(1 if short else 0)


def _services(target: str, file: Path) -> "Iterator[Service]":
    """Yield the services that are meant."""
    from headwater.operations.loading import load_service
    from headwater.operations.system import load_system

    if target:
        yield load_service(target, python_path=[Path.cwd()])
        return
    system = load_system(file)
    for section in system.services.values():
        yield load_service(section.app, python_path=system.python_path)


def _tell(changes: "Iterator[Change] | list[Change]") -> None:
    for change in changes:
        lines = [f"  {change.event}: {change.verdict}"]
        lines += [f"    {each}" for each in change.changes]
        lines += [f"    {each}" for each in change.reasons]
        lines += [f"    could not be tried: {each}" for each in change.doubts]
        sys.stdout.write("\n".join([*lines, ""]))


__all__ = ["app"]
