"""Recorded time: that of the store's clock, however wrong one was before."""

import time
from collections.abc import Iterable

from headwater.eventstore.api import AHEAD_US_MAX, StoredEvent


def machine_us() -> int:
    """Return what the clock of the machine says, which its processes share: microseconds UTC."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1000


def recorded(clock: int, last: int) -> int:
    """Return the time of an event that is stored when the clock says ``clock``.

    That of the event before, ``last``, if the clock is a little behind it. One that is further
    ahead was stamped by a clock that was wrong, and is not followed.
    """
    return max(clock, last) if last <= clock + AHEAD_US_MAX else clock


def runs_of(events: Iterable[StoredEvent], last: int) -> list[tuple[int, int]]:
    """Return position and time of the events whose time is less than that of the one before.

    Each begins a run, within which time does not fall; ``last`` is the time of the event before.
    """
    runs = []
    for event in events:
        if event.time < last:
            runs.append((event.position, event.time))
        last = event.time
    return runs
