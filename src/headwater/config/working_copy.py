"""A directory in which a person edits the settings of a store: taken from it, and given back.

A hidden file in the directory says which change it was last equal to. From there, what was edited
here and what others stored meanwhile are told apart.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from headwater._os.files import write_atomically
from headwater.config.api import SettingsChange, SettingsState, SettingsStore
from headwater.config.changes import difference, touched
from headwater.config.checks import check_files, check_name
from headwater.config.folder import Folder
from headwater.errors import ChangeNotFound, ConfigurationError

MARK = ".headwater-config"


class _Mark(msgspec.Struct, frozen=True):
    store: str
    change: int


class Plan(msgspec.Struct, frozen=True):
    """What a push would do.

    Attributes:
        state: what is stored.
        contents: what is in the directory.
        change: from the one to the other.
        expected: the change that the directory is based on; None when it is not known.
    """

    state: SettingsState
    contents: Mapping[str, bytes]
    change: SettingsChange
    expected: int | None


class WorkingCopy:
    """A directory, and the store that its files belong to."""

    def __init__(self, directory: Path, store: SettingsStore) -> None:
        """Relate the two; nothing is read yet."""
        self.directory = directory
        self._store = store

    async def plan(self) -> Plan:
        """Return what a push would do.

        Raises:
            ConfigurationError: the directory does not exist or has no settings files, or one is
                bad; with its line.
            StoreUnavailable, StoreError: the directory or the store cannot be read.
        """
        contents = await self._contents()
        if not contents:
            raise ConfigurationError(
                subject=str(self.directory), reason="has no settings files: name another directory"
            )
        check_files(contents)
        state = await self._store.read()
        change = difference(state.contents(), contents)
        expected = state.change if state.change == 0 else self._base()
        return Plan(state, contents, change, expected)

    async def push(self, *, author: str, comment: str, overwrite: bool) -> SettingsChange | None:
        """Store the directory as one change; return it, None when nothing differs.

        Args:
            author: who does it.
            comment: why.
            overwrite: whatever was stored since the directory was last equal to the store.

        Raises:
            ConfigurationError: as `plan`, or it is not known what the directory is based on.
            SettingsConflict: something was stored since then. Nothing was changed.
            StoreUnavailable, StoreError, DiskFull: as `SettingsStore.push`.
        """
        plan = await self.plan()
        expected = plan.state.change if overwrite else plan.expected
        number = plan.state.change
        change = None
        if touched(plan.change):
            if expected is None:
                raise self._unknown(plan.change)
            change = await self._store.push(
                plan.contents, expected=expected, author=author, comment=comment
            )
            number = change.number if change else number
        self.remember(number)
        return change

    async def pull(self, *, overwrite: bool) -> SettingsChange:
        """Bring what was stored into the directory, and keep what was edited here.

        Args:
            overwrite: do not keep it: make the directory equal to the store.

        Returns:
            What was done to the directory, with the number of the change it is based on now.

        Raises:
            ConfigurationError: a file was changed both here and in the store; nothing was written.
            StoreUnavailable, StoreError: the directory or the store cannot be read.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        mine, state = await self._contents(), await self._store.read()
        theirs = state.contents()
        merged, clashing = merge(await self._based_on(), mine, theirs)
        if overwrite:
            merged = theirs
        elif clashing:
            raise ConfigurationError(
                subject=str(self.directory),
                reason=f"{', '.join(clashing)}: edited here, but stored otherwise meanwhile: pull "
                "into an empty directory and edit there, or give up the edits with --overwrite",
            )
        done = difference(mine, merged, number=state.change)
        for name in touched(done):
            check_name(name)  # whatever somebody wrote into the database by hand
        for name in (*done.added, *done.changed):
            _write(self.directory / name, merged[name])
        for name in done.removed:
            (self.directory / name).unlink(missing_ok=True)
        self.remember(state.change)
        return done

    def remember(self, change: int) -> None:
        """Note that the directory is based on this change; a directory that is read-only is not."""
        with contextlib.suppress(OSError):
            _write(self.directory / MARK, msgspec.json.encode(_Mark(self._store.id, change)))

    async def _contents(self) -> dict[str, bytes]:
        state = await Folder(self.directory).read()
        for file in state.files.values():
            if file.error:
                subject, _, reason = file.error.partition(": ")
                raise ConfigurationError(subject=subject, reason=f"cannot be read: {reason}")
        return state.contents()

    def _base(self) -> int | None:
        try:
            mark = msgspec.json.decode((self.directory / MARK).read_bytes(), type=_Mark)
        except (OSError, msgspec.MsgspecError):
            return None
        return mark.change if mark.store == self._store.id else None

    async def _based_on(self) -> dict[str, bytes]:
        base = self._base()
        with contextlib.suppress(ChangeNotFound):  # the database was put back to a backup
            return (await self._store.at(base)).contents() if base is not None else {}
        return {}

    def _unknown(self, change: SettingsChange) -> ConfigurationError:
        return ConfigurationError(
            subject=str(self.directory),
            reason=f"differs from the database in {', '.join(touched(change))}, and was not pulled "
            "from it before, so that it is not known who is right: see `headwater config push "
            "--dry-run`, then pull, or push with --overwrite",
        )


def merge(
    base: Mapping[str, bytes], mine: Mapping[str, bytes], theirs: Mapping[str, bytes]
) -> tuple[dict[str, bytes], list[str]]:
    """Join two sets of files that come from the same one; whole files, not lines. Pure.

    Returns:
        The files, and the names of those that were changed on both sides and differ.
    """
    merged: dict[str, bytes] = {}
    clashing = []
    for name in sorted({*mine, *theirs}):
        was, here, there = base.get(name), mine.get(name), theirs.get(name)
        chosen = there if here == was else here
        if chosen is not None:
            merged[name] = chosen
        if here not in (was, there) and there != was:
            clashing.append(name)
    return merged, clashing


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


__all__ = ["MARK", "Plan", "WorkingCopy", "merge"]
