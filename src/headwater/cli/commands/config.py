"""``headwater config``: the settings of a system that are in a database."""

import difflib
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from headwater.cli.logs import run_quietly
from headwater.cli.terminal import console
from headwater.cli.times import show_time
from headwater.config import SettingsChange, SettingsStore
from headwater.errors import ConfigurationError
from headwater.operations import settings as operations
from headwater.operations.settings import content_of, open_settings
from headwater.operations.stores import DEFAULT_FILE
from headwater.operations.system import load_system

app = App(name="config", help="Push, pull and restore settings that are in a database.")

Where = Annotated[
    str, Parameter(name="--database", help="URL of the database; default: the one of the system.")
]
Comment = Annotated[str, Parameter(name=["--message", "-m"], help="Why, for the history.")]


@app.command
def push(
    directory: Path | None = None,
    *,
    message: Comment = "",
    dry_run: bool = False,
    overwrite: bool = False,
    database: Where = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Store the settings files of a directory, as one change; services have them at once.

    A bad file is refused with its line. When somebody has stored something since the directory
    was pulled, nothing is stored: pull (edits are kept), then push again.

    Parameters
    ----------
    directory
        All settings files; default: the one of the system.
    dry_run
        Store nothing; show what differs, line by line, secrets included.
    overwrite
        Whatever was stored meanwhile; the history keeps it.
    file
        The description of the system.
    """
    run_quietly(_push(_place(file, database, directory), message, dry_run, overwrite))


@app.command
def pull(
    directory: Path | None = None,
    *,
    overwrite: bool = False,
    database: Where = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Bring the stored settings files into a directory; files that were edited there are kept.

    Parameters
    ----------
    directory
        Made if missing; default: the one of the system.
    overwrite
        Give up what was edited: make the directory equal to the database.
    file
        The description of the system.
    """
    run_quietly(_pull(_place(file, database, directory), overwrite))


@app.command(name="list")
def list_files(*, database: Where = "", file: Path = DEFAULT_FILE) -> None:
    """List the settings files that are served.

    Parameters
    ----------
    file
        The description of the system.
    """
    run_quietly(_list(_place(file, database)))


@app.command
def show(
    name: str, *, at: int | None = None, database: Where = "", file: Path = DEFAULT_FILE
) -> None:
    """Print a settings file, secrets included.

    Parameters
    ----------
    name
        The settings file, for example accounts.yaml.
    at
        As it was after this change.
    file
        The description of the system.
    """
    run_quietly(_show(_place(file, database), name, at))


@app.command
def history(
    name: str = "", *, limit: int = 20, database: Where = "", file: Path = DEFAULT_FILE
) -> None:
    """List the latest changes, the newest first.

    Parameters
    ----------
    name
        Only those of this settings file.
    limit
        How many at most.
    file
        The description of the system.
    """
    run_quietly(_history(_place(file, database), name, limit))


@app.command
def restore(
    change: int,
    name: str = "",
    *,
    message: Comment = "",
    database: Where = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Make the settings what they were after a change; that is a new change, nothing is lost.

    Parameters
    ----------
    change
        Its number; `headwater config history` lists them.
    name
        Only this settings file.
    file
        The description of the system.
    """
    run_quietly(_restore(_place(file, database), change, name, message))


class _Place:
    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory

    def open(self) -> AbstractAsyncContextManager[SettingsStore]:
        return open_settings(self.url)


def _place(file: Path, database: str, directory: Path | None = None) -> _Place:
    """Return the database and the directory that are meant.

    Raises:
        ConfigurationError: none is, or the system serves a directory.
    """
    url = database or os.environ.get("HEADWATER_DATABASE", "")
    if url and not file.exists():  # a machine of an operator, without the system
        return _Place(url, directory or Path("config"))
    system = load_system(file)
    url = database or system.config_database
    if not url:
        raise ConfigurationError(
            subject=str(file),
            reason=f"the settings are the files in {system.config_directory}: edit them there; "
            "with `database` in [system] or [config] they are in PostgreSQL",
        )
    return _Place(url, directory or system.config_directory)


async def _push(place: _Place, message: str, dry_run: bool, overwrite: bool) -> None:
    from headwater.config.seed import author
    from headwater.config.working_copy import WorkingCopy

    async with place.open() as store:
        copy = WorkingCopy(place.directory, store)
        if dry_run:
            plan = await copy.plan()
            _show_lines(plan.state.contents(), plan.contents, plan.change)
            if plan.expected != plan.state.change and not overwrite:
                based = plan.expected if plan.expected is not None else "an unknown change"
                _say(
                    f"it would be refused: {place.directory} is based on {based}, "
                    f"the database is at change {plan.state.change}"
                )
            return
        change = await copy.push(author=author(), comment=message, overwrite=overwrite)
    _say_change(change, "stored as change")


async def _pull(place: _Place, overwrite: bool) -> None:
    from headwater.config.working_copy import WorkingCopy

    async with place.open() as store:
        done = await WorkingCopy(place.directory, store).pull(overwrite=overwrite)
    _say(f"{place.directory} has everything up to change {done.number}")
    _say_files(done)


async def _list(place: _Place) -> None:
    from rich.markup import escape

    async with place.open() as store:
        state = await store.read()
        changes = {change.number: change for change in await store.history(limit=10_000)}
    shown = _table("file", "bytes", "change", "time", "author")
    for name, found in state.files.items():
        change = changes.get(found.change)
        when, who = (show_time(change.time), change.author) if change else ("", "")
        shown.add_row(name, str(len(found.content)), str(found.change), when, escape(who))
    console().print(shown if state.files else "no settings files yet")


async def _show(place: _Place, name: str, at: int | None) -> None:
    async with place.open() as store:
        content = await content_of(store, name, at=at)
    sys.stdout.write(content.decode())
    sys.stdout.flush()


async def _history(place: _Place, name: str, limit: int) -> None:
    from rich.markup import escape

    async with place.open() as store:
        changes = await store.history(file=name, limit=limit)
    shown = _table("change", "time", "author", "files", "message")
    for change in changes:
        files = [*(f"+{name}" for name in change.added), *change.changed]
        files += [f"-{name}" for name in change.removed]
        when = show_time(change.time)
        texts = (change.author, " ".join(files), change.comment)
        shown.add_row(str(change.number), when, *map(escape, texts))
    console().print(shown if changes else "no changes yet")


async def _restore(place: _Place, number: int, name: str, message: str) -> None:
    from headwater.config.seed import author

    async with place.open() as store:
        change = await operations.restore(
            store, number, name=name, author=author(), comment=message
        )
    _say_change(change, "restored, as change")


def _show_lines(
    before: Mapping[str, bytes], after: Mapping[str, bytes], change: SettingsChange
) -> None:
    for name in sorted((*change.added, *change.changed, *change.removed)):
        old, new = (files.get(name, b"").decode().splitlines() for files in (before, after))
        names = (f"stored/{name}", f"directory/{name}")
        for line in difflib.unified_diff(old, new, *names, lineterm=""):
            _say(line)
    _say_files(change)


def _say_change(change: SettingsChange | None, words: str) -> None:
    if change is None:
        _say("nothing differs, nothing was stored")
    else:
        _say(f"{words} {change.number}")
        _say_files(change)


def _say_files(change: SettingsChange) -> None:
    for word in ("added", "changed", "removed"):
        for name in getattr(change, word):
            _say(f"  {word:<8} {name}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
