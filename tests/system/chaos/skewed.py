"""``headwater`` with a clock that is wrong: ``skewed.py FILE ARGUMENTS...``.

The file holds by how many seconds, and may change at any time.
"""

import mmap
import struct
import sys
import time
from pathlib import Path

SIZE = 8
_seconds = struct.Struct("d")


def set_skew(file: Path, seconds: float) -> None:
    """Let the clocks that follow a file be wrong by so much, from now on."""
    with file.open("r+b" if file.exists() else "w+b") as opened:
        opened.write(_seconds.pack(seconds))


def _follow(file: Path) -> None:
    with file.open("rb") as opened:
        shown = mmap.mmap(opened.fileno(), SIZE, access=mmap.ACCESS_READ)
    true, true_ns = time.time, time.time_ns

    def wrong() -> float:
        return true() + float(_seconds.unpack_from(shown)[0])

    def wrong_ns() -> int:
        return true_ns() + int(_seconds.unpack_from(shown)[0] * 1e9)

    time.time, time.time_ns = wrong, wrong_ns


if __name__ == "__main__":
    _follow(Path(sys.argv[1]))
    sys.argv[1:] = sys.argv[2:]
    from headwater.cli import main

    main()
