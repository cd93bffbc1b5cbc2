"""Waking any number of waiting tasks at each change, without queues that could overflow."""

import asyncio


class Signal:
    """Something happens again and again; tasks wait for the next time.

    A waiter takes `next` *before* it looks at the state, then awaits it: a change between the
    look and the wait is not lost. Waiters that are slow see the newest state, not every change.
    """

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._event = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """The event that is set when it happens the next time."""
        return self._event

    def send(self) -> None:
        """Wake all who wait. Only from the thread of the event loop."""
        event, self._event = self._event, asyncio.Event()
        event.set()


async def wait_for(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait at most so long; whether the event is set."""
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


__all__ = ["Signal", "wait_for"]
