"""Tasks of one event loop that wait for changes of a database, whoever makes them."""

import asyncio

SAFETY_S = 1.0
"""How often those who wait look for themselves, in case a wake-up was lost."""


class Waiting:
    """Wakes the tasks of one event loop.

    Use::

        while True:
            ticket = wake.ticket()      # before looking
            if something_new():
                ...
            else:
                await wake.wait(ticket)  # returns at once if woken since the ticket
    """

    def __init__(self) -> None:
        """Nobody waits yet."""
        self.heard = 0
        """How many wake-ups came from elsewhere, not from this object's own `fire`."""
        self._count = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False

    def ticket(self) -> int:
        """Return a number that changes with every wake-up; take it before looking for changes."""
        self._listen()
        return self._count

    async def wait(self, ticket: int, *, timeout_s: float = SAFETY_S) -> None:
        """Return after a wake-up later than the ticket, or after the time.

        Cancellation: nothing is left behind.
        """
        if self._count != ticket or self._closed:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(self._patience_s(timeout_s), self._lapse, future)
        self._waiting.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def fire(self) -> None:
        """Wake the tasks of this event loop; call it there."""
        self._count += 1
        for future in self._waiting:
            _settle(future)
        self._waiting.clear()

    def hear(self) -> None:
        """Wake them, because somebody else has changed something, or may have."""
        self.heard += 1
        self.fire()

    def _listen(self) -> None:
        """Hear of what others change from now on, if not already."""

    def _patience_s(self, timeout_s: float) -> float:
        """Return how long to wait where a wake-up is wanted within a time."""
        return timeout_s

    def _lapse(self, future: asyncio.Future[None]) -> None:
        _settle(future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
