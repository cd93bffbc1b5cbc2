"""Files that are replaced as a whole, and saved again now and then."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SOCKET_PATH_MAX = 90  # the system allows little more than 100 bytes


def write_atomically(path: Path, content: bytes) -> bool:
    """Replace a file by a rename, durably; return False, without writing, if nothing changes.

    A reader sees the old content or the new, never a part. Nothing is left over on an error.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
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
