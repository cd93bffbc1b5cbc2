"""``headwater dead-letters``: events that could not be handled, and what to do with them."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from cyclopts import App

from headwater.cli.logs import run_quietly
from headwater.cli.terminal import console
from headwater.cli.times import show_time
from headwater.errors import ConfigurationError
from headwater.messages.sealing import as_json
from headwater.operations.processors import Found, one, open_admins
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
        everything = [*opened.processors, *opened.gone]
        entries = [one(opened, processor)] if processor else everything
        found = [(entry, [letter async for letter in entry.admin.letters()]) for entry in entries]
    if json:
        names = [(e, letter) for e, letters in found for letter in letters]
        content = [
            {"service": e.service, "processor": e.name, **_content(letter)} for e, letter in names
        ]
        sys.stdout.write(f"{msgspec.json.encode(content).decode()}\n")
    elif any(letters for _, letters in found):
        console().print(_table(found))
    else:
        console().print("no dead letters")
    for entry in opened.gone if not json and not processor else []:
        console().print(
            f"{entry.service} has no processor {entry.name!r} any more: give the class that has "
            f'taken its place name = "{entry.name}" to retry its letters, or drop them',
            markup=False,
        )


def _table(found: Sequence[tuple[Found, Sequence[DeadLetter]]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "service", "processor", "sequence", "letters", "state", "event", "attempts", "error"
    )
    for entry, letters in found:
        sequences: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            sequences.setdefault(letter.sequence, []).append(letter)
        for sequence, parked in sequences.items():
            first = parked[0]
            state = _state(first)
            cells = (entry.service, entry.name, sequence, str(len(parked)), state, first.type)
            table.add_row(*map(Text, (*cells, str(first.attempts), first.error)))
    return table


def _state(letter: DeadLetter) -> str:
    if letter.state != "waiting":
        return letter.state
    return f"waiting, next try in {max(0.0, letter.due - time.time()):.0f} s"


async def _show(file: Path, service: str, processor: str, sequence: str) -> None:
    async with open_admins(file, service) as opened:
        count = 0
        async for letter in one(opened, processor).admin.letters(sequence):
            sys.stdout.write(f"{msgspec.json.encode(_content(letter)).decode()}\n")
            count += 1
    if not count:
        raise _none(processor, sequence)


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
    from rich.progress import track

    shown = console()
    failed = 0
    async with open_admins(file, service) as opened:
        admin = one(opened, processor).admin
        wanted = {letter.sequence: None async for letter in admin.letters(sequence)}
        if sequence and not wanted:
            raise _none(processor, sequence)
        for parked in track(list(wanted), description="retrying", console=shown):
            result = await admin.retry(parked)
            outcome = f"{parked}: {result.handled} handled"
            if result.failed is not None:
                failed += 1
                outcome += f", then {result.failed.type} failed again: {result.failed.error}"
            shown.print(outcome, markup=False, highlight=False)
    return 1 if failed else 0


async def _drop(file: Path, service: str, processor: str, sequence: str, letter: str) -> None:
    async with open_admins(file, service) as opened:
        dropped = await one(opened, processor).admin.drop(sequence, letter=letter)
    if not dropped:
        raise _none(processor, sequence)
    sys.stdout.write(f"{sequence}: {dropped} dropped\n")


def _none(processor: str, sequence: str) -> ConfigurationError:
    return ConfigurationError(
        subject=f"sequence {sequence!r} of {processor!r}",
        reason="has no dead letters: `headwater dead-letters list` shows those that have",
    )
