"""``headwater processors``: how far they are; pause, replay, rebuild, split, merge, move."""

import asyncio
import getpass
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cyclopts import App

from headwater.cli.logs import run_quietly
from headwater.cli.terminal import console
from headwater.cli.times import parse_time, show_time
from headwater.errors import ConfigurationError
from headwater.operations import processors as operations
from headwater.operations.moving import move_to_bus
from headwater.operations.processors import (
    Figures,
    Found,
    Progress,
    figures,
    one,
    open_admins,
    relayed,
)
from headwater.operations.stores import DEFAULT_FILE
from headwater.processing import ProcessorPause, ProcessorStatus, RebuildProgress

_PAUSED = "[yellow]paused[/]"

app = App(
    name="processors",
    help="Show how far processors have come; pause, replay, rebuild, split, merge, move.",
)


@app.default
def processors(*, service: str = "", file: Path = DEFAULT_FILE) -> None:
    """Show the segments of all processors: who works on them, and how far they are.

    Parameters
    ----------
    service
        Only of this service.
    file
        The description of the system.
    """
    run_quietly(_show(file, service))


@app.command
def replay(
    name: str,
    *,
    from_start: bool = False,
    from_position: int | None = None,
    from_time: str | None = None,
    service: str = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Let a processor handle events again; a running one begins at once.

    From the start its views are emptied first. From a position or a time they stay as they are.
    To keep the old views in service meanwhile, use `rebuild`.

    Parameters
    ----------
    name
        The processor; service/name if several services have it.
    from_start
        All events, into empty views.
    from_position
        Events after this position of the store.
    from_time
        Events recorded from this time (ISO 8601; without a zone: UTC).
    service
        Only look in this service.
    file
        The description of the system.
    """
    chosen = [from_start, from_position is not None, from_time is not None]
    if sum(chosen) != 1:
        raise ConfigurationError(
            subject="processors replay",
            reason="give one of --from-start, --from-position N, --from-time T",
        )
    time_us = parse_time(from_time, option="--from-time") if from_time is not None else None
    run_quietly(_replay(file, service, name, from_position, time_us))


@app.command
def resize(name: str, *, segments: int, service: str = "", file: Path = DEFAULT_FILE) -> None:
    """Split or merge the segments of a processor; running ones go on with them at once.

    So many processes at most work on a processor at the same time.

    Parameters
    ----------
    name
        The processor; service/name if several services have it.
    segments
        How many there are to be.
    service
        Only look in this service.
    file
        The description of the system.
    """
    run_quietly(_resize(file, service, name, segments))


@app.command
def pause(name: str, *, reason: str = "", service: str = "", file: Path = DEFAULT_FILE) -> None:
    """Let nobody work on a processor, in any process, until it is resumed.

    Those who work on it finish the batch at hand. It stays paused when processes restart. A saga
    sends no commands meanwhile, a relay publishes nothing.

    Parameters
    ----------
    name
        The processor or relay; service/name if several services have it.
    reason
        Why, for those who find it paused.
    service
        Only look in this service.
    file
        The description of the system.
    """
    run_quietly(_pause(file, service, name, reason))


@app.command
def resume(name: str, *, service: str = "", file: Path = DEFAULT_FILE) -> None:
    """Let a processor that is paused go on where it is.

    Parameters
    ----------
    name
        The processor or relay; service/name if several services have it.
    service
        Only look in this service.
    file
        The description of the system.
    """
    run_quietly(_resume(file, service, name))


@app.command
def move(*, former: str, partitions: int, service: str = "", file: Path = DEFAULT_FILE) -> None:
    """Go on on another bus, which the file names by now, with all that was read on the former one.

    The system stands still meanwhile. All stores are published again when it starts.

    Parameters
    ----------
    former
        URL of the bus before.
    partitions
        How many partitions that has.
    service
        Only the processors of this service.
    file
        The description of the system, with the new bus.
    """
    run_quietly(_move(file, service, former, partitions))


@app.command
def rebuild(
    name: str,
    *,
    processes: int = 1,
    segments: int = 0,
    join: bool = False,
    service: str = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Build a projection's views anew beside the old ones, then switch over.

    Parameters
    ----------
    name
        The processor; service/name if several services have it.
    processes
        How many processes of this machine share the work.
    segments
        Into how many segments the new views are divided; 0: as many as there are.
    join
        Help with a rebuild that was begun elsewhere, instead of beginning one.
    service
        Only look in this service.
    file
        The description of the system.
    """
    if processes < 1:
        raise ConfigurationError(
            subject="processors rebuild", reason=f"--processes must be 1 or more, got {processes}"
        )
    run_quietly(_rebuild(file, service, name, processes, segments, join=join))


async def _show(file: Path, service: str) -> None:
    from rich.table import Table

    columns = ("service", "processor", "generation", "segment", "owner", "position", "lag")
    table = Table(*columns, "dead letters", "waiting", "commands")
    late: list[str] = []
    async with open_admins(file, service) as opened:
        async for found in figures(opened):
            _add_rows(table, found)
            if found.status.outbox.reason:
                late.append(_late(found))
            late += _told(found.service, found.status.name, found.status.paused)
        for relay in await relayed(opened):
            status = relay.status
            place = f"{status.position} of {status.head}"
            lag = max(0, status.head - status.position)
            owner = _PAUSED if status.paused is not None else ""
            table.add_row(relay.service, status.name, "", "to the bus", owner, place, str(lag), "")
            late += _told(relay.service, status.name, status.paused)
    console().print(table)
    for line in late:
        console().print(line, markup=False, highlight=False)


def _add_rows(table: Any, found: Figures) -> None:
    status = found.status
    if not status.segments:
        table.add_row(found.service, status.name, "", "-", "[yellow]never started[/]")
    for segment in status.segments:
        first = segment.index == 0
        table.add_row(
            found.service if first else "",
            status.name if first else "",
            _generation(status) if first else "",
            f"{segment.index} of {len(status.segments)}",
            segment.owner or (_PAUSED if status.paused is not None else "[red]nobody[/]"),
            f"{segment.position} of {segment.head}",
            f"[yellow]{segment.lag}[/]" if segment.lag else "0",
            *(_counts(status) if first else ()),
        )
    for other in status.generations:
        if other.number != status.generation and other.code:
            state = "of other code" if other.complete else "being filled"
            owners = ", ".join(other.owners) or "nobody"
            place = f"{other.position} of {other.head}"
            table.add_row("", "", f"{other.number} ({other.code})", state, owners, place, "")


def _counts(status: ProcessorStatus) -> tuple[str, str, str]:
    """Return the letters, the sequences that wait for their next try, and a saga's commands."""
    return (
        f"[red]{status.dead_letters}[/]" if status.dead_letters else "0",
        f"[yellow]{status.waiting}[/]" if status.waiting else "0",
        str(status.outbox.commands) if status.outbox.commands else "",
    )


def _late(found: Figures) -> str:
    outbox = found.status.outbox
    return (
        f"{found.service}/{found.status.name}: {outbox.commands} commands wait, the oldest for "
        f"{found.waiting_s:.0f} s: {outbox.reason}"
    )


def _told(service: str, name: str, paused: ProcessorPause | None) -> list[str]:
    if paused is None:
        return []
    by = f" by {paused.by}" if paused.by else ""
    reason = f": {paused.reason}" if paused.reason else ""
    since = show_time(int(paused.since * 1e6))
    remedy = f"let it go on with `headwater processors resume {service}/{name}`"
    return [f"{service}/{name} is paused since {since}{by}{reason}: {remedy}"]


async def _pause(file: Path, service: str, name: str, reason: str) -> None:
    async with open_admins(file, service) as opened:
        entry = operations.pausable(opened, name)
        by = f"{_user()}@{socket.gethostname()}"
        await operations.pause(entry, by=by, reason=reason)
        if busy := await operations.at_rest(entry):
            owners = ", ".join(busy)
            console().print(
                f"{entry.name} is paused, and {owners} finishes what is at hand", highlight=False
            )
        else:
            console().print(f"{entry.name} is paused: nobody works on it")


async def _resume(file: Path, service: str, name: str) -> None:
    async with open_admins(file, service) as opened:
        entry = operations.pausable(opened, name)
        was = await operations.resume(entry)
        console().print(f"{entry.name} {'goes on' if was else 'was not paused'}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return str(os.getuid())


def _generation(status: ProcessorStatus) -> str:
    codes = [g.code for g in status.generations if g.number == status.generation and g.code]
    return f"{status.generation} ({codes[0]})" if codes else str(status.generation)


async def _replay(
    file: Path, service: str, name: str, position: int | None, time_us: int | None
) -> None:
    async with open_admins(file, service) as opened:
        entry = one(opened, name)
        begun = await operations.replay(entry, position=position, time_us=time_us)
        if begun.runs:
            await _follow(entry.name, operations.catching_up(entry))
            console().print(f"{entry.name}: replayed")
        else:
            console().print(
                f"{entry.name} is reset, {begun.lag} events to go: "
                "it does not run at the moment and will replay when it is started"
            )


async def _resize(file: Path, service: str, name: str, segments: int) -> None:
    async with open_admins(file, service) as opened:
        entry = one(opened, name)
        done = await operations.resize(entry, segments)
        if done.owned:
            await _follow(f"{entry.name}: taken up", operations.taking_up(entry, segments))
        console().print(f"{entry.name}: {segments} segments, {done.before} before")


async def _follow(title: str, steps: AsyncIterator[Progress]) -> None:
    """Show a progress bar until there are no more steps."""
    from rich.progress import Progress as Bar

    with Bar(console=console()) as bar:
        task = bar.add_task(title, total=None)
        async for step in steps:
            bar.update(task, total=step.total, completed=step.done)


async def _rebuild(
    file: Path, service: str, name: str, processes: int, segments: int, *, join: bool
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    async with open_admins(file, service) as opened:
        entry = one(opened, name)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} events/s"),
        )
        helpers: list[subprocess.Popen[bytes]] = []
        with Progress(*columns, console=console()) as bar:
            task = bar.add_task(entry.name, total=None, rate=0.0)

            def show(progress: RebuildProgress) -> None:
                if not helpers and not progress.done:  # it has begun: others can join
                    helpers.extend(_helper(file, entry) for _ in range(processes - 1))
                bar.update(
                    task,
                    total=max(progress.head, 1),
                    completed=max(progress.head, 1) if progress.done else progress.position,
                    rate=progress.events_per_s,
                )

            try:
                generation = await entry.admin.rebuild(progress=show, join=join, segments=segments)
            finally:
                await asyncio.to_thread(_end, helpers)
        console().print(f"{entry.name}: generation {generation} is in service")


async def _move(file: Path, service: str, former: str, partitions: int) -> None:
    async for one_moved in move_to_bus(file, former=former, partitions=partitions, service=service):
        console().print(f"{one_moved.service}/{one_moved.name} goes on on the other bus")


def _helper(file: Path, entry: Found) -> subprocess.Popen[bytes]:
    """Start a process that joins the rebuild of a processor."""
    name = f"{entry.service}/{entry.name}"
    return subprocess.Popen(  # noqa: S603  # our own interpreter and module
        [
            *(sys.executable, "-m", "headwater.cli", "processors", "rebuild", name, "--join"),
            *("--file", str(file), "--service", entry.service),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _end(helpers: list[subprocess.Popen[bytes]]) -> None:
    """Let helpers end: what they hold can be taken by others at once then."""
    for helper in helpers:
        helper.terminate()
    for helper in helpers:
        helper.wait()
