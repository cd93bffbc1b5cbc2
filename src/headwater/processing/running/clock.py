"""The time by which claims and deadlines are judged: that of the view store, on every machine."""

import time

from headwater.views import ViewStore


class StoreClock:
    """The clock of a view store, carried on by the machine's monotonic one between two looks.

    So nobody's wall clock counts, whether it is wrong or set anew meanwhile.
    """

    def __init__(self, views: ViewStore) -> None:
        """Know nothing yet: `look` first."""
        self._views = views
        self._ahead: float | None = None  # of the monotonic clock

    async def look(self) -> float:
        """Ask the store; return its time, seconds since 1970 UTC.

        Raises:
            StoreUnavailable: it is away.
        """
        now = await self._views.now()
        self._ahead = now - time.monotonic()
        return now

    def __call__(self) -> float:
        """Return the store's time as far as it is known, which is never before it has come."""
        if self._ahead is None:
            raise RuntimeError("the store was not asked for its time yet")
        return time.monotonic() + self._ahead


__all__ = ["StoreClock"]
