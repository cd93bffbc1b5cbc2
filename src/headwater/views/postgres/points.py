"""Point reads that come at the same time go to the database together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headwater.views.postgres.columns import escape
from headwater.views.postgres.tables import Table

_TOGETHER_MAX = 500

Fetch = Callable[[Callable[[Any, Table], Awaitable[Any]]], Awaitable[Any]]
Found = tuple[Table, str | None]


class Points:
    """Reads documents of one view type by key.

    One read goes at once. Those that come before it is answered go next, as one statement. So a
    read never sees an older state than when it was asked for, and under load a round trip serves
    many.
    """

    def __init__(self, fetch: Fetch) -> None:
        """Read through ``fetch``, which runs work on a connection and the active table."""
        self._fetch = fetch
        self._busy = False
        self._waiting: list[tuple[str, asyncio.Future[Found]]] = []
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: str) -> Any:
        """Return a document, or None.

        Raises:
            StoreUnavailable, ConfigurationError: as `ViewStore.get`.
        """
        stored = escape(key)
        if self._busy:
            future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
            self._waiting.append((stored, future))
            target, document = await future
        else:
            target, document = await self._alone(stored)
        return None if document is None else target.kind.decode(document)

    async def _alone(self, key: str) -> Found:
        async def work(connection: Any, target: Table) -> Found:
            return target, await connection.fetchval(target.get, key)

        self._busy = True
        try:
            found: Found = await self._fetch(work)
        finally:
            if self._waiting:
                self._task = asyncio.create_task(self._serve())
            else:
                self._busy = False
        return found

    async def _serve(self) -> None:
        """Read for those who wait, until nobody does."""
        try:
            while self._waiting:
                batch = self._waiting[:_TOGETHER_MAX]
                del self._waiting[:_TOGETHER_MAX]
                await self._together(batch)
        finally:
            self._busy = False

    async def _together(self, batch: Sequence[tuple[str, asyncio.Future[Found]]]) -> None:
        keys = [key for key, future in batch if not future.done()]

        async def work(connection: Any, target: Table) -> tuple[Table, dict[str, str]]:
            return target, dict(await connection.fetch(target.load, keys))

        try:
            target, documents = await self._fetch(work)
        except BaseException as error:
            for _, future in batch:
                if future.done():
                    continue
                if isinstance(error, Exception):
                    future.set_exception(error)
                else:
                    future.cancel()
            if not isinstance(error, Exception):
                raise
            return
        for key, future in batch:
            if not future.done():
                future.set_result((target, documents.get(key)))
