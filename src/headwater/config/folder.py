"""Settings files in a directory: only whole files are read, and the directory is watched."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import structlog
import watchfiles

from headwater.config.api import SettingsFile, SettingsState
from headwater.config.checks import is_settings_file
from headwater.errors import ConfigurationError, StoreUnavailable

LOOK_AGAIN_S = 2.0
_READ_ATTEMPTS = 5

Signature = tuple[int, int, int]

_log = structlog.get_logger("headwater.config")


class Scan(msgspec.Struct, frozen=True):
    """What a look at the directory found.

    ``wait_s`` says when to look again: something is still changing. 0 means not before the next
    sign of a change.
    """

    state: SettingsState
    changed: bool
    wait_s: float = 0.0


class Folder:
    """Implements `SettingsSource` with the files below a directory, by relative name.

    A file is read once its inode, size and time have not changed for ``settle_s``, so that one
    that is being written is not served half; the same holds for its removal. What changes
    together (a checkout) is taken together.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settle_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe the folder; nothing is read yet.

        Raises:
            ConfigurationError: the directory does not exist.
        """
        if not directory.is_dir():
            raise ConfigurationError(
                subject=f"configuration directory {directory}",
                reason="not a directory: create it or name another",
            )
        self.directory = directory
        self._settle_s = settle_s
        self._clock = clock
        self._pending: dict[str, tuple[Signature | None, float]] = {}
        self._signatures: dict[str, Signature] = {}
        self._state = SettingsState()
        self._closed = asyncio.Event()

    @property
    def name(self) -> str:
        """See `SettingsSource.name`."""
        return str(self.directory)

    async def read(self) -> SettingsState:
        """See `SettingsSource.read`."""
        return await asyncio.to_thread(self.load)

    def load(self) -> SettingsState:
        """Read everything as it is now, without waiting for it to settle.

        Raises:
            StoreUnavailable: the directory cannot be read.
        """
        try:
            found = dict(self._look())
        except OSError as error:
            reason = f"{error.strerror}: check that it is there and may be read"
            raise StoreUnavailable(store=self.name, reason=reason, outcome="not stored") from error
        self._pending = {}
        return self._take(found, {name: self._read(name, found) for name in sorted(found)})

    async def follow(self, state: SettingsState) -> AsyncIterator[SettingsState]:
        """See `SettingsSource.follow`."""
        while not self._closed.is_set():
            try:
                async for _ in watchfiles.awatch(
                    self.directory,
                    watch_filter=None,
                    debounce=50,
                    step=10,
                    stop_event=self._closed,
                    rust_timeout=int(LOOK_AGAIN_S * 1000),
                    yield_on_timeout=True,  # signs of change get lost on some file systems
                ):
                    if (found := await self._settled()) != state:
                        state = found
                        yield state
            except OSError as error:
                _log.warning("cannot watch the directory, looking again", reason=str(error))
                if (found := await self._settled()) != state:
                    state = found
                    yield state
                await asyncio.sleep(LOOK_AGAIN_S)

    async def close(self) -> None:
        """See `SettingsSource.close`."""
        self._closed.set()

    async def _settled(self) -> SettingsState:
        scan = await asyncio.to_thread(self.scan)
        while scan.wait_s > 0:
            await asyncio.sleep(scan.wait_s)
            scan = await asyncio.to_thread(self.scan)
        return scan.state

    def scan(self) -> Scan:
        """Look at the directory; may run in another thread, one at a time."""
        before = self._state
        try:
            found = dict(self._look())
        except OSError as error:
            reason = f"{self.directory}: {error.strerror}"
            self._state = msgspec.structs.replace(before, error=reason)
            return Scan(self._state, changed=reason != before.error)
        differing: dict[str, Signature | None] = {
            name: signature
            for name, signature in found.items()
            if self._signatures.get(name) != signature
        }
        differing.update(dict.fromkeys(self._signatures.keys() - found.keys()))
        wait_s = self._wait_s(differing, self._clock())
        if not differing or wait_s > 0:
            self._state = msgspec.structs.replace(before, error="")
            return Scan(self._state, changed=bool(before.error), wait_s=wait_s)
        files = {
            name: self._read(name, found) if name in differing else before.files[name]
            for name in sorted(found)
        }
        return Scan(self._take(found, files), changed=True)

    def _take(
        self, signatures: dict[str, Signature], files: dict[str, SettingsFile]
    ) -> SettingsState:
        self._signatures, self._state = signatures, SettingsState(files)
        return self._state

    def _wait_s(self, differing: dict[str, Signature | None], now: float) -> float:
        pending = {}
        for name, signature in differing.items():
            before, since = self._pending.get(name, (signature, now))
            pending[name] = (signature, since if before == signature else now)
        self._pending = pending
        return max((since + self._settle_s - now for _, since in pending.values()), default=0.0)

    def _look(self) -> Iterator[tuple[str, Signature]]:
        for root, folders, names in os.walk(self.directory, onerror=_raise):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(root, name)
                if is_settings_file(name):
                    try:
                        stat = path.stat()
                    except FileNotFoundError:
                        continue
                    relative = path.relative_to(self.directory).as_posix()
                    yield relative, (stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def _read(self, name: str, signatures: dict[str, Signature]) -> SettingsFile:
        """Read a file; note the signature of what was read."""
        path = self.directory / name
        try:
            for _ in range(_READ_ATTEMPTS):  # until it did not change while it was read
                content = path.read_bytes()
                stat = path.stat()
                after = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
                if after == signatures[name]:
                    break
                signatures[name] = after
            return SettingsFile(name, content)
        except OSError as error:
            return SettingsFile(name, b"", error=f"{name}: {error.strerror}")


def _raise(error: OSError) -> None:
    raise error


__all__ = ["Folder", "Scan"]
