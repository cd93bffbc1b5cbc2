"""``headwater processors``: how far they have come; replay, rebuild, split and merge."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from cyclopts import App

from headwater.cli.logs import run_quietly
from headwater.cli.terminal import console
from headwater.cli.times import parse_time
from headwater.errors import ConfigurationError
from headwater.operations.processors import Found, one, open_admins
from headwater.operations.stores import DEFAULT_FILE
from headwater.processing import ProcessorStatus, RebuildProgress

app = App(
    name="processors", help="Show how far processors have come; replay, rebuild, split and merge."
)

_LOOK_S = 0.1


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
def rebuild(
    name: str,
    *,
    processes: int = 1,
    segments: int = 0,
    join: bool = False,
    service: str = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Build a projection's views anew beside the old ones, then swap.

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
        for entry in opened.processors:
            status = await entry.admin.status()
            if not status.segments:
                table.add_row(entry.service, status.name, "", "-", "[yellow]never started[/]")
            for segment in status.segments:
                first = segment.index == 0
                table.add_row(
                    entry.service if first else "",
                    status.name if first else "",
                    _generation(status) if first else "",
                    f"{segment.index} of {len(status.segments)}",
                    segment.owner or "[red]nobody[/]",
                    f"{segment.position} of {segment.head}",
                    f"[yellow]{segment.lag}[/]" if segment.lag else "0",
                    *(_counts(status) if first else ()),
                )
            for other in status.generations:
                if other.number != status.generation and other.code:
                    state = "of other code" if other.complete else "being filled"
                    owners = ", ".join(other.owners) or "nobody"
                    place = f"{other.position} of {other.head}"
                    name = f"{other.number} ({other.code})"
                    table.add_row("", "", name, state, owners, place, "")
            if status.outbox.reason:
                late.append(_late(entry, status))
        for owner, relay in opened.relays:
            relayed = await relay.status()
            place = f"{relayed.position} of {relayed.head}"
            lag = max(0, relayed.head - relayed.position)
            table.add_row(owner, relayed.name, "", "to the bus", "", place, str(lag), "")
    console().print(table)
    for line in late:
        console().print(line, markup=False, highlight=False)


def _counts(status: ProcessorStatus) -> tuple[str, str, str]:
    """Return the letters, the sequences that wait for their next try, and a saga's commands."""
    return (
        f"[red]{status.dead_letters}[/]" if status.dead_letters else "0",
        f"[yellow]{status.waiting}[/]" if status.waiting else "0",
        str(status.outbox.commands) if status.outbox.commands else "",
    )


def _late(entry: Found, status: ProcessorStatus) -> str:
    outbox = status.outbox
    return (
        f"{entry.service}/{entry.name}: {outbox.commands} commands wait, the oldest for "
        f"{max(0.0, time.time() - outbox.since):.0f} s: {outbox.reason}"
    )


def _generation(status: ProcessorStatus) -> str:
    codes = [g.code for g in status.generations if g.number == status.generation and g.code]
    return f"{status.generation} ({codes[0]})" if codes else str(status.generation)


async def _replay(
    file: Path, service: str, name: str, position: int | None, time_us: int | None
) -> None:
    async with open_admins(file, service) as opened:
        entry = one(opened, name)
        await entry.admin.reset(position=position, time_us=time_us)
        status = await entry.admin.status()
        if await _runs(entry):
            await _follow(entry)
            console().print(f"{entry.name}: replayed")
        else:
            console().print(
                f"{entry.name} is reset, {status.lag} events to go: "
                "it does not run at the moment and will replay when it is started"
            )


async def _resize(file: Path, service: str, name: str, segments: int) -> None:
    from rich.progress import Progress

    async with open_admins(file, service) as opened:
        entry = one(opened, name)
        before = (await entry.admin.status()).segments
        await entry.admin.resize(segments)
        if any(segment.owner for segment in before):
            with Progress(console=console()) as bar:
                task = bar.add_task(f"{entry.name}: taken up", total=segments)
                taken = 0
                for _ in range(100):
                    status = await entry.admin.status()
                    taken = sum(bool(segment.owner) for segment in status.segments)
                    bar.update(task, completed=taken)
                    if taken == segments:
                        break
                    await asyncio.sleep(_LOOK_S)
        console().print(f"{entry.name}: {segments} segments, {len(before)} before")


async def _runs(entry: Found) -> bool:
    """Whether somebody takes up the segments again, within the time that a look takes."""
    for _ in range(30):
        if any(segment.owner for segment in (await entry.admin.status()).segments):
            return True
        await asyncio.sleep(_LOOK_S)
    return False


async def _follow(entry: Found) -> None:
    """Show a progress bar until the processor has caught up."""
    from rich.progress import Progress

    with Progress(console=console()) as bar:
        task = bar.add_task(entry.name, total=None)
        while True:
            status = await entry.admin.status()
            total = sum(segment.head for segment in status.segments)
            done = sum(segment.position for segment in status.segments)
            bar.update(task, total=max(total, 1), completed=done if total else 1)
            if status.lag == 0:
                return
            if not any(segment.owner for segment in status.segments) and not await _runs(entry):
                return
            await asyncio.sleep(_LOOK_S)


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
