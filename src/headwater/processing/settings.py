"""What can be set about a processor."""

import time
from collections.abc import Callable

import msgspec


class ProcessorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a processor works.

    Attributes:
        page_size: how many events at most are handled in one transaction.
        lease_s: a claim ends when it was not renewed for this long.
        renew_s: how often claims are renewed, and the work shared out anew.
        attempts: how often an event is tried before its sequence is parked.
        back_off_s, back_off_max_s: the pause after the first failure; it doubles up to the
            largest.
        unused_s: a generation of views that nobody's code has used for this long is dropped.
        clock: wall clock, seconds since 1970 UTC, for leases and deadlines; the view store must
            use the same.
    """

    page_size: int = 2000
    lease_s: float = 3.0
    renew_s: float = 1.0
    attempts: int = 5
    back_off_s: float = 0.05
    back_off_max_s: float = 5.0
    unused_s: float = 300.0
    clock: Callable[[], float] = time.time

    def back_off(self, tries: int) -> float:
        """Return the pause after so many failed tries, seconds."""
        return min(self.back_off_max_s, self.back_off_s * 2.0 ** min(tries - 1, 30))


DEFAULTS = ProcessorSettings()
