"""One writer at a time, and an error instead of a task that waits for itself."""

import asyncio

from headwater.errors import StoreError


class Exclusive:
    """A lock for ``async with``; first come, first served."""

    def __init__(self, store: str) -> None:
        """Start free.

        Args:
            store: the store's name in errors.
        """
        self._store = store
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[object] | None = None

    async def __aenter__(self) -> None:
        """Wait until it is free.

        Raises:
            StoreError: this task has it already.
        """
        task = asyncio.current_task()
        if task is not None and task is self._owner:
            reason = (
                "this task is inside a transaction, whose end the call would wait for: use the "
                "transaction's own methods, or move the call behind the block"
            )
            raise StoreError(store=self._store, reason=reason, outcome="not stored")
        await self._lock.acquire()
        self._owner = task

    async def __aexit__(self, *error: object) -> None:
        """Give it back."""
        self._owner = None
        self._lock.release()
