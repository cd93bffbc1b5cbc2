"""``headwater dead-letters``: events that could not be handled, and what to do with them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from cyclopts import App

from headwater.cli.logs import run_quietly
from headwater.cli.terminal import console
from headwater.cli.times import show_time
from headwater.messages.sealing import as_json
from headwater.operations import letters as operations
from headwater.operations.letters import Letters
from headwater.operations.processors import open_admins
from headwater.operations.stores import DEFAULT_FILE
from headwater.processing import DeadLetter

app = App(name="dead-letters", help="Inspect, retry and drop events that could not be handled.")


@app.command(name="list")
def list_letters(
    *, processor: str = "", service: str = "", json: bool = False, file: Path = DEFAULT_FILE
) -> None:
    """List the sequences with letters: the event that failed, and how many are with it.

    One that is waiting is tried again by itself; one that is parked waits for a retry, or a drop.

    Parameters
    ----------
    processor
        Only of this processor.
    service
        Only of this service.
    json
        All letters as one JSON array, for programs.
    file
        The description of the system.
    """
    run_quietly(_list(file, service, processor, json=json))


@app.command
def show(processor: str, sequence: str, *, service: str = "", file: Path = DEFAULT_FILE) -> None:
    """Show the letters of a sequence as JSON, one per line, in order.

    Parameters
    ----------
    processor
        The processor; service/name if several services have it.
    sequence
        The stream (or saga) that is parked, for example Account/7.
    service
        Only look in this service.
    file
        The description of the system.
    """
    run_quietly(_show(file, service, processor, sequence))


@app.command
def retry(
    processor: str, sequence: str = "", *, service: str = "", file: Path = DEFAULT_FILE
) -> None:
    """Handle the letters of a sequence again, in order; without a sequence those of all.

    Parameters
    ----------
    processor
        The processor; service/name if several services have it.
    sequence
        The stream (or saga) that is parked; default: all.
    service
        Only look in this service.
    file
        The description of the system.
    """
    sys.exit(run_quietly(_retry(file, service, processor, sequence)))


@app.command
def drop(
    processor: str,
    sequence: str,
    *,
    letter: str = "",
    service: str = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Remove the letters of a sequence for good; what was dropped is never handled.

    Parameters
    ----------
    processor
        The processor; service/name if several services have it.
    sequence
        The stream (or saga) that is parked.
    letter
        Only the letter of this id.
    service
        Only look in this service.
    file
        The description of the system.
    """
    run_quietly(_drop(file, service, processor, sequence, letter))


async def _list(file: Path, service: str, processor: str, *, json: bool) -> None:
    async with open_admins(file, service) as opened:
        found = await operations.letters(opened, processor)
    if json:
        content = [
            {"service": of.service, "processor": of.processor, **_content(letter)}
            for of in found
            for letter in of.letters
        ]
        sys.stdout.write(f"{msgspec.json.encode(content).decode()}\n")
    elif any(of.letters for of in found):
        console().print(_table(found))
    else:
        console().print("no dead letters")
    for entry in opened.gone if not json and not processor else []:
        console().print(
            f"{entry.service} has no processor {entry.name!r} any more: give the class that has "
            f'taken its place name = "{entry.name}" to retry its letters, or drop them',
            markup=False,
        )


def _table(found: Sequence[Letters]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "service", "processor", "sequence", "letters", "state", "event", "attempts", "error"
    )
    for of in found:
        for sequence, parked in of.sequences().items():
            first = parked[0]
            state = _state(first, of.now)
            cells = (of.service, of.processor, sequence, str(len(parked)), state, first.type)
            table.add_row(*map(Text, (*cells, str(first.attempts), first.error)))
    return table


def _state(letter: DeadLetter, now: float) -> str:
    if letter.state != "waiting":
        return letter.state
    return f"waiting, next try in {max(0.0, letter.due - now):.0f} s"


async def _show(file: Path, service: str, processor: str, sequence: str) -> None:
    async with open_admins(file, service) as opened:
        async for letter in operations.letters_of(opened, processor, sequence):
            sys.stdout.write(f"{msgspec.json.encode(_content(letter)).decode()}\n")


def _content(letter: DeadLetter) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": letter.id,
        "sequence": letter.sequence,
        "kind": letter.kind,
        "type": letter.type,
        "error": letter.error,
        "code": letter.code,
        "state": letter.state,
        "attempts": letter.attempts,
        "parked": show_time(letter.parked_us),
    }
    if letter.due:
        content["due"] = show_time(int(letter.due * 1_000_000))
    if letter.traceback:
        content["traceback"] = letter.traceback
    if letter.event is not None:
        event = letter.event
        content["event"] = {
            "source": event.source,
            "stream": event.stream,
            "version": event.version,
            "position": event.position,
            "time": show_time(event.time),
            "type_version": event.type_version,
            "data": msgspec.Raw(as_json(event.data)),
        }
    if letter.content:
        content["command"] = msgspec.Raw(letter.content.encode())
    return content


async def _retry(file: Path, service: str, processor: str, sequence: str) -> int:
    from rich.progress import Progress

    shown = console()
    failed = 0
    async with open_admins(file, service) as opened:
        wanted = await operations.sequences_of(opened, processor, sequence)
        with Progress(console=shown) as bar:
            task = bar.add_task("retrying", total=len(wanted))
            async for one in operations.retry(opened, processor, wanted):
                outcome = f"{one.sequence}: {one.result.handled} handled"
                if (again := one.result.failed) is not None:
                    failed += 1
                    outcome += f", then {again.type} failed again: {again.error}"
                shown.print(outcome, markup=False, highlight=False)
                bar.advance(task)
    return 1 if failed else 0


async def _drop(file: Path, service: str, processor: str, sequence: str, letter: str) -> None:
    async with open_admins(file, service) as opened:
        dropped = await operations.drop(opened, processor, sequence, letter=letter)
    sys.stdout.write(f"{sequence}: {dropped} dropped\n")
