"""What can be set about a processor."""

import time
from collections.abc import Callable

import msgspec

from headwater.modelling.policies import Retry


class ProcessorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a processor works.

    Attributes:
        page_size: how many events at most are handled in one transaction.
        lease_s: a claim ends when it was not renewed for this long, by the view store's clock.
        renew_s: how often claims are renewed, and the work shared out anew.
        retry: how often an event is tried before its sequence is parked; handlers and sagas may
            say otherwise.
        waiting_max: so many sequences of a segment may wait for their next try; if more fail, the
            segment itself waits.
        back_off_s, back_off_max_s: what is away is tried again after the first pause, which
            doubles up to the largest.
        command_s: a command of a saga that was not acknowledged for this long after it was decided
            becomes a letter instead of being sent again: shorter than receivers know keys, or it
            could act twice; 0: it is sent for ever.
        unused_s: a generation of views that nobody's code has used for this long is dropped.
        ticks: carries the view store's clock on between two looks at it, seconds.
    """

    page_size: int = 2000
    lease_s: float = 3.0
    renew_s: float = 1.0
    retry: Retry = Retry()
    waiting_max: int = 1000
    back_off_s: float = 0.05
    back_off_max_s: float = 5.0
    command_s: float = 518_400.0
    unused_s: float = 300.0
    ticks: Callable[[], float] = time.monotonic

    def back_off(self, tries: int) -> float:
        """Return the pause after so many failed tries, seconds."""
        return min(self.back_off_max_s, self.back_off_s * 2.0 ** min(tries - 1, 30))


DEFAULTS = ProcessorSettings()
