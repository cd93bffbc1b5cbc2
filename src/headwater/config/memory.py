"""Settings files in the memory of one process, with their history."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence

from headwater._http.signal import Signal
from headwater.config.api import SettingsChange, SettingsFile, SettingsState
from headwater.config.changes import difference, touched
from headwater.config.checks import check_files
from headwater.errors import ChangeNotFound, SettingsConflict
from headwater.messages import now_us


class MemorySettingsStore:
    """Implements `SettingsStore` for tests; it ends with its process."""

    def __init__(self) -> None:
        """Begin without files."""
        self._id = str(uuid.uuid4())
        self._states = [SettingsState()]
        self._changes: list[SettingsChange] = []
        self._signal = Signal()

    @property
    def name(self) -> str:
        """See `SettingsSource.name`."""
        return "memory"

    @property
    def id(self) -> str:
        """See `SettingsStore.id`."""
        return self._id

    async def read(self) -> SettingsState:
        """See `SettingsSource.read`."""
        return self._states[-1]

    async def follow(self, state: SettingsState) -> AsyncIterator[SettingsState]:
        """See `SettingsSource.follow`."""
        while True:
            following = self._signal.next
            if state != self._states[-1]:
                state = self._states[-1]
                yield state
            else:
                await following.wait()

    async def push(
        self, files: Mapping[str, bytes], *, expected: int, author: str = "", comment: str = ""
    ) -> SettingsChange | None:
        """See `SettingsStore.push`."""
        await asyncio.to_thread(check_files, files)
        before = self._states[-1]
        change = difference(
            before.contents(),
            files,
            number=before.change + 1,
            time=now_us(),
            author=author,
            comment=comment,
        )
        if not touched(change):
            return None
        if expected != before.change:
            latest = self._changes[-1].author if self._changes else "nobody"
            raise SettingsConflict(expected=expected, actual=before.change, author=latest)
        stored = {
            name: SettingsFile(name, content, change.number)
            if name in touched(change)
            else before.files[name]
            for name, content in sorted(files.items())
        }
        self._states.append(SettingsState(stored, change.number))
        self._changes.append(change)
        self._signal.send()
        return change

    async def history(self, *, file: str = "", limit: int = 100) -> Sequence[SettingsChange]:
        """See `SettingsStore.history`."""
        found = (c for c in reversed(self._changes) if not file or file in touched(c))
        return [change for change, _ in zip(found, range(limit), strict=False)]

    async def at(self, number: int) -> SettingsState:
        """See `SettingsStore.at`."""
        if not 0 <= number < len(self._states):
            raise ChangeNotFound(number=number, latest=len(self._changes))
        return self._states[number]

    async def close(self) -> None:
        """See `SettingsSource.close`; what is stored stays, for whoever has this object."""


__all__ = ["MemorySettingsStore"]
