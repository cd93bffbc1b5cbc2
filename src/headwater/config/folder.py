"""Reads a directory of settings files: only whole files, and never a bad one over a good one."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from headwater.config.files import SUFFIXES, Document, parse
from headwater.errors import ConfigurationError

_READ_ATTEMPTS = 5

Signature = tuple[int, int, int]


class SettingsFile(msgspec.Struct, frozen=True):
    """One file: its last good content, and why its present content is refused, if it is."""

    name: str
    signature: Signature
    document: Document | None
    error: str = ""


class Scan(msgspec.Struct, frozen=True):
    """What a look at the directory found.

    ``wait_s`` says when to look again: something is still changing. 0 means not before the next
    sign of a change.
    """

    files: dict[str, SettingsFile]
    error: str
    changed: bool
    wait_s: float


class Folder:
    """The files below a directory, by relative name.

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
        self.files: dict[str, SettingsFile] = {}
        self.error = ""

    def load(self) -> None:
        """Read everything as it is now."""
        for name, signature in self._signatures():
            self.files[name] = self._read(name, signature)

    def scan(self) -> "Scan":
        """Look at the directory; may run in another thread, one at a time. `take` the result."""
        try:
            found = dict(self._signatures())
        except OSError as error:
            reason = f"{self.directory}: {error.strerror}"
            return Scan(self.files, reason, changed=reason != self.error, wait_s=0.0)
        now = self._clock()
        differing: dict[str, Signature | None] = {
            name: signature
            for name, signature in found.items()
            if name not in self.files or self.files[name].signature != signature
        }
        differing.update(dict.fromkeys(self.files.keys() - found.keys()))
        wait_s = self._wait_s(differing, now)
        if not differing or wait_s > 0:
            return Scan(self.files, "", changed=bool(self.error), wait_s=wait_s)
        files = {name: file for name, file in self.files.items() if name in found}
        for name, signature in differing.items():
            if signature is not None:
                files[name] = self._read(name, signature)
        return Scan(files, "", changed=True, wait_s=0.0)

    def take(self, scan: "Scan") -> None:
        """Take over what a scan found."""
        self.files, self.error = scan.files, scan.error

    def _wait_s(self, differing: dict[str, Signature | None], now: float) -> float:
        pending = {}
        for name, signature in differing.items():
            before, since = self._pending.get(name, (signature, now))
            pending[name] = (signature, since if before == signature else now)
        self._pending = pending
        return max((since + self._settle_s - now for _, since in pending.values()), default=0.0)

    def _signatures(self) -> Iterator[tuple[str, Signature]]:
        for root, folders, names in os.walk(self.directory, onerror=_raise):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(root, name)
                if path.suffix in SUFFIXES and not name.startswith("."):
                    try:
                        stat = path.stat()
                    except FileNotFoundError:
                        continue
                    relative = path.relative_to(self.directory).as_posix()
                    yield relative, (stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def _read(self, name: str, signature: Signature) -> SettingsFile:
        known = self.files.get(name)
        good = known.document if known else None
        path = self.directory / name
        try:
            for _ in range(_READ_ATTEMPTS):  # until it did not change while it was read
                content = path.read_bytes()
                stat = path.stat()
                after = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
                if after == signature:
                    break
                signature = after
            return SettingsFile(name, signature, parse(content, name=name))
        except ConfigurationError as error:
            return SettingsFile(name, signature, good, str(error))
        except OSError as error:
            return SettingsFile(name, signature, good, f"{name}: {error.strerror}")


def _raise(error: OSError) -> None:
    raise error


__all__ = ["Folder", "Scan", "SettingsFile"]
