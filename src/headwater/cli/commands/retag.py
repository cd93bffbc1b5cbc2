"""``headwater retag``: tags that events got later, on events that were stored before."""

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headwater.cli.logs import run_quietly
from headwater.cli.progress import progress_bar
from headwater.errors import ConfigurationError
from headwater.eventstore.copy import Progress
from headwater.eventstore.retag import Retagged
from headwater.operations import retag as operations
from headwater.operations.stores import DEFAULT_FILE
from headwater.operations.system import System, load_system


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
    names = operations.services_with_events(system, service)
    if after < 0:
        raise ConfigurationError(subject=f"--after {after}", reason="expected 0 or more")
    sys.exit(run_quietly(_retag(system, names, after, check=check, json=json)))


async def _retag(system: System, names: list[str], after: int, *, check: bool, json: bool) -> int:
    code = 0
    bars = _Bars("checking" if check else "retagging", after)
    try:
        done = operations.retag(system, names, after=after, check=check, progress=bars.begin)
        async for one in done:
            bars.end()
            report = _json if json else _text
            report(one.log, one.found, one.ambiguous, check=check)
            if one.found.unread or (check and one.found.changed):
                code = 1
    except asyncio.CancelledError:
        sys.stderr.write(f"interrupted: {bars.log} goes on with --after {bars.reached}\n")
        raise
    finally:
        bars.end()
    return code


class _Bars:
    """A progress bar for each log, one after the other."""

    def __init__(self, title: str, after: int) -> None:
        self.log = ""
        self.reached = self._after = after
        self._title = title
        self._shown = contextlib.ExitStack()

    def begin(self, log: str) -> Progress:
        self.log, self.reached = log, self._after
        bar = self._shown.enter_context(progress_bar(f"{self._title} {log}"))

        def progress(position: int, head: int) -> None:
            self.reached = position
            bar(position, head)

        return progress

    def end(self) -> None:
        self._shown.close()


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
