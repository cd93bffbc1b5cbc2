"""``headwater snapshots``: what is kept of states, whether it is right, and how to be rid of it."""

import sys
from pathlib import Path

import msgspec
from cyclopts import App

from headwater.cli.logs import run_quietly
from headwater.errors import ConfigurationError
from headwater.modelling.snapshot_check import CheckedSnapshot
from headwater.operations import snapshots as operations
from headwater.operations.snapshots import Chosen
from headwater.operations.stores import DEFAULT_FILE
from headwater.operations.system import System, load_system

app = App(name="snapshots", help="Check and drop the stored states of aggregates.")


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
    chosen = operations.choose(system, aggregate, service)
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
    found = operations.choose(system, aggregate, service)
    if len(found) > 1:
        owners = ", ".join(each.service for each in found)
        reason = f"several services have it ({owners}): add --service"
        raise ConfigurationError(subject=f"{aggregate!r}", reason=reason)
    run_quietly(_drop(system, found[0]))


async def _check(system: System, found: list[Chosen], *, json: bool) -> int:
    code = 0
    for chosen in found:
        counts: dict[str, int] = {}
        async for one in operations.check(system, chosen):
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
    dropped = await operations.drop(system, chosen)
    sys.stdout.write(f"{chosen.stream}: {dropped:,} dropped\n")
