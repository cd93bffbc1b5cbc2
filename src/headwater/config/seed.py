"""A directory beside a store: it fills an empty store once, then only the store counts."""

import contextlib
import getpass
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from headwater.config.api import SettingsChange, SettingsState, SettingsStore
from headwater.config.changes import difference, touched
from headwater.config.folder import Folder
from headwater.config.working_copy import WorkingCopy
from headwater.errors import SettingsConflict

_log = structlog.get_logger("headwater.config")


async def seed(store: SettingsStore, directory: Path) -> SettingsChange | None:
    """Put the files of a directory into a store that never had any; return the change, if any.

    Several processes may do it at once: one does.

    Raises:
        ConfigurationError: a file is bad; nothing was stored.
        StoreUnavailable, StoreError: as `WorkingCopy.push`.
    """
    copy = WorkingCopy(directory, store)
    if (await store.read()).change or not (await Folder(directory).read()).files:
        return None
    try:
        change = await copy.push(
            author=author(), comment=f"first start, from {directory}", overwrite=False
        )
    except SettingsConflict:  # another process was faster
        return None
    if change is not None:
        _log.info(
            "the database had no settings, and has those of the directory now",
            directory=str(directory),
            files=len(change.added),
        )
    return change


async def tell_differences(directory: Path, served: Callable[[], SettingsState]) -> None:
    """Log, now and whenever files of the directory change, that others are served.

    Somebody may have forgotten that the database is what counts. Runs until it is cancelled.

    Args:
        directory: where somebody may edit.
        served: what is served at the moment.
    """
    folder = Folder(directory)
    state = await folder.read()
    _tell(directory, state, served())
    async with contextlib.aclosing(folder.follow(state)) as states:  # type: ignore[type-var] # an async generator
        async for later in states:
            _tell(directory, later, served())


def _tell(directory: Path, state: SettingsState, served: SettingsState) -> None:
    names = touched(difference(served.contents(), state.contents()))
    if names:
        _log.warning(
            "the database is served, and the directory differs from it: "
            "`headwater config push` or `headwater config pull` makes them equal",
            directory=str(directory),
            files=", ".join(names),
        )


def author() -> str:
    """Return who runs this process, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without that user
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


__all__ = ["author", "seed", "tell_differences"]
