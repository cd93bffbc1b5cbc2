"""Wake-ups between the processes that share a file, without polling.

Each process that waits binds a Unix datagram socket in a directory named after the file; whoever
commits sends one byte to every socket there. A wake-up is a hint and may be lost, so those who
wait look for themselves every `SAFETY_S` seconds; what they wait for is in the database.
"""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import socket
import stat
import tempfile
import time
from pathlib import Path

from headwater._sql.waiting import Waiting

DEAF_S = 0.05
"""The same when no socket can be bound, because the directory for them cannot be used."""

PACE_S = 0.004
"""How long at least from one look to the next while changes come faster than `PACED_PER_S`."""

PACED_PER_S = 2500
"""From so many changes a second on, to look after each takes more than it is worth."""

_WINDOW_S = 0.02

_SETTLED_NS = 50_000_000  # a directory's time is too coarse to trust a listing taken right after
_DRAINED_MAX = 1000
_ids = itertools.count()


class Pace:
    """Keeps a follower from looking after every single change, so that what it finds grows.

    While few changes come it looks at once; while many come, every `PACE_S` seconds.
    """

    def __init__(self) -> None:
        """Begin with few."""
        self._next = 0.0
        self._began = 0.0
        self._changes = 0
        self._many = False

    async def keep(self, changes: int = 1) -> None:
        """Return when it is time to look; ``changes`` is how many were found the last time."""
        now = time.monotonic()
        self._changes += changes
        if (passed := now - self._began) > _WINDOW_S:
            self._many = self._changes > passed * PACED_PER_S
            self._began, self._changes = now, 0
        if self._many and now < self._next:
            await asyncio.sleep(self._next - now)
            now = self._next
        self._next = now + PACE_S


class Wake(Waiting):
    """Wakes the tasks of one event loop, and other processes, that wait for changes of a file."""

    def __init__(self, path: Path) -> None:
        """Prepare for a file; nothing is opened before somebody waits or notifies."""
        super().__init__()
        self.directory = directory_for(path)
        self._socket: socket.socket | None = None
        self._address = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sender: socket.socket | None = None
        self._listed: tuple[int, list[str]] = (-1, [])

    def notify_others(self) -> None:
        """Wake everybody else on this file. One thread at a time; never raises, never blocks."""
        for address in self._others():
            try:
                self._send(address)
            except ConnectionRefusedError:  # its process ended without closing
                with contextlib.suppress(OSError):
                    os.unlink(address)  # noqa: PTH108  # a hot path
            except OSError:  # full: it has wake-ups pending; or just gone
                continue

    def close(self) -> None:
        """Wake those who wait a last time and release everything. Twice is fine."""
        self._closed = True
        self.fire()
        self._stop_listening()
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        with contextlib.suppress(OSError):
            self.directory.rmdir()  # works when we were the last

    def _patience_s(self, timeout_s: float) -> float:
        return timeout_s if self._socket is not None else min(timeout_s, DEAF_S)

    def _lapse(self, future: asyncio.Future[None]) -> None:
        super()._lapse(future)
        if self._address and not os.path.exists(self._address):  # noqa: PTH110  # plain text path
            self._stop_listening()  # somebody cleaned up; the next ticket binds anew

    def _listen(self) -> None:
        if self._socket is not None or self._closed:
            return
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        try:
            self._address = _bind(receiver, self.directory)
        except OSError:  # no place for sockets: whoever waits looks more often instead
            receiver.close()
            return
        self._socket = receiver
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(receiver.fileno(), self._on_wake)

    def _stop_listening(self) -> None:
        if self._socket is None:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        with contextlib.suppress(OSError):
            os.unlink(self._address)  # noqa: PTH108  # plain text path
        self._address = ""

    def _on_wake(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(BlockingIOError, InterruptedError):
                for _ in range(_DRAINED_MAX):
                    self._socket.recv(16)
        self.hear()

    def _others(self) -> list[str]:
        directory = str(self.directory)
        try:
            changed = os.stat(directory).st_mtime_ns  # noqa: PTH116  # a hot path
            if self._listed[0] == changed:
                return self._listed[1]
            names = [f"{directory}/{name}" for name in os.listdir(directory)]  # noqa: PTH208
        except OSError:
            return []
        addresses = [name for name in names if name != self._address]
        settled = time.time_ns() - changed > _SETTLED_NS  # noqa: TID251  # files' times are of the machine's clock
        self._listed = (changed if settled else -1, addresses)
        return addresses

    def _send(self, address: str) -> None:
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
        self._sender.sendto(b"\0", address)


def directory_for(path: Path) -> Path:
    """Return where the sockets of a file are: by its real path, short, and per user.

    Not below ``TMPDIR`` when there is a ``/tmp``, so that processes with different settings meet
    and the path fits the 108 bytes of a socket address.
    """
    digest = hashlib.blake2b(os.fsencode(os.path.realpath(path)), digest_size=8).hexdigest()
    base = "/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir()  # noqa: S108, PTH112  # ours below
    return Path(base) / f"headwater-{os.getuid()}" / digest


def _bind(receiver: socket.socket, directory: Path) -> str:
    """Bind under a new name; another process may remove the empty directory meanwhile."""
    for attempt in range(10):
        try:
            for part in (directory.parent, directory):
                _private(part)
            address = f"{directory}/{os.getpid()}-{next(_ids)}-{secrets.token_hex(4)}"
            receiver.bind(address)
        except FileNotFoundError:
            if attempt == 9:
                raise
        else:
            return address
    raise AssertionError  # the loop returns or raises


def _private(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "not a directory of this user alone", str(directory))
