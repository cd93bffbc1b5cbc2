"""Files that are replaced as a whole, files that one process owns, and folders for sockets."""

import contextlib
import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_SOCKET_PATH_MAX = 90  # the system allows little more than 100 bytes


def write_atomically(
    path: Path, content: bytes, *, private: bool = False, durable: bool = True
) -> bool:
    """Replace a file by a rename; return False, without writing, if nothing changes.

    A reader sees the old content or the new, never a part. Nothing is left over on an error.

    Args:
        path: the file; its directory exists.
        content: what is to be in it.
        private: only this user may read it.
        durable: it is on disk when this returns, whatever happens to the machine.

    Raises:
        OSError: it cannot be written; the old content is there.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(temporary, flags, 0o600 if private else 0o666), "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def sockets_in(data: Path) -> Iterator[Path]:
    """Give a directory for Unix sockets: in the data directory, or elsewhere if that is too deep.

    It is for this user only, and is removed with what is in it.
    """
    parent = data if len(bytes(data)) < _SOCKET_PATH_MAX else None
    with tempfile.TemporaryDirectory(prefix="s-", dir=parent) as made:
        yield Path(made)


@contextlib.contextmanager
def owned(path: Path) -> Iterator[None]:
    """Own a file, made if it is missing; the system releases it whatever happens to this process.

    Raises:
        BlockingIOError: another process owns it.
        OSError: it cannot be opened.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror, str(path)) from error
        yield
