"""The time by which claims and deadlines are judged: that of the view store, on every machine."""

import time
from collections.abc import Callable

from headwater.views import ViewStore


class StoreClock:
    """The clock of a view store, carried on by the machine's monotonic one between two looks.

    So nobody's wall clock counts, whether it is wrong or set anew meanwhile.
    """

    def __init__(self, views: ViewStore, ticks: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet: `look` first; ``ticks`` is the machine's clock, seconds."""
        self._views = views
        self._ticks = ticks
        self._ahead: float | None = None  # of the machine's

    async def look(self) -> float:
        """Ask the store; return its time, seconds since 1970 UTC.

        Raises:
            StoreUnavailable: it is away.
        """
        now = await self._views.now()
        self._ahead = now - self._ticks()
        return now

    def __call__(self) -> float:
        """Return the store's time as far as it is known, which is never before it has come."""
        if self._ahead is None:
            raise RuntimeError("the store was not asked for its time yet")
        return self._ticks() + self._ahead


__all__ = ["StoreClock"]
