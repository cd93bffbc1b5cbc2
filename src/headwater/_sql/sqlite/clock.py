"""The clock of a file: it runs with the machine, whatever its wall clock is set to.

The processes of a machine share a clock that counts from its start and that nobody sets. When it
began is read off the wall clock once, by the first process that opens the file after that start.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_TABLE = """
CREATE TABLE IF NOT EXISTS headwater_clock (
    only_row  INTEGER PRIMARY KEY CHECK (only_row = 1),
    boot      TEXT NOT NULL, -- of the machine
    began     REAL NOT NULL  -- seconds since 1970 UTC
)
"""
_READ = "SELECT boot, began FROM headwater_clock"
_WRITE = "INSERT OR REPLACE INTO headwater_clock VALUES (1, ?, ?)"


def settled(writer: apsw.Connection) -> Callable[[], float]:
    """Return the clock of a file, in a transaction: seconds since 1970 UTC."""
    if not _BOOT.exists():  # another system: its wall clock has to do
        return time.time  # noqa: TID251  # the clock of the store, where there is no better one
    writer.execute(_TABLE)
    boot = _BOOT.read_text(encoding="ascii").strip()
    stored: Any = writer.execute(_READ).fetchall()
    if not stored or stored[0][0] != boot:
        stored = [(boot, time.clock_gettime(time.CLOCK_REALTIME) - _since_boot())]
        writer.execute(_WRITE, stored[0])
    began = float(stored[0][1])
    return lambda: began + _since_boot()


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


__all__ = ["settled"]
