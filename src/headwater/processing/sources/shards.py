"""Several logs followed at once: their pages as they come, those of each log in order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog

from headwater.errors import Unavailable
from headwater.eventstore import EventFilter, Page, ReadableLog

_log = structlog.get_logger("headwater.processing")
_AGAIN_S_MAX = 2.0
_AGAIN_S = 0.05


async def following(
    logs: Sequence[ReadableLog], after: Sequence[int], *, filter: EventFilter, page_size: int
) -> AsyncIterator[tuple[int, Page]]:
    """Yield pages for ever, with the number of their log; a page of each is fetched ahead.

    With a single log, whatever it raises is raised. Of several, one that is away holds up none of
    the others, and is tried again; every other error is raised.
    """
    if len(logs) == 1:
        pages = logs[0].follow(filter=filter, after=after[0], page_size=page_size)
        try:
            async for page in pages:
                yield 0, page
        finally:
            await close_iterator(pages)
        return
    readers = [
        _Reader(log, number, position, filter=filter, page_size=page_size)
        for number, (log, position) in enumerate(zip(logs, after, strict=True))
    ]
    fetching = {asyncio.ensure_future(reader.next()): reader for reader in readers}
    try:
        while True:
            done, _ = await asyncio.wait(fetching, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda one: fetching[one].number):
                reader = fetching.pop(task)
                page = task.result()
                fetching[asyncio.ensure_future(reader.next())] = reader
                yield reader.number, page
    finally:
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)
        for reader in readers:
            await reader.close()


class _Reader:
    """Follows one log, and goes on where it was when the log is back."""

    def __init__(
        self, log: ReadableLog, number: int, position: int, *, filter: EventFilter, page_size: int
    ) -> None:
        self.number = number
        self._log = log
        self._position = position
        self._filter = filter
        self._page_size = page_size
        self._pages: AsyncIterator[Page] | None = None

    async def next(self) -> Page:
        tries = 0
        while True:
            try:
                if self._pages is None:
                    self._pages = self._log.follow(
                        filter=self._filter, after=self._position, page_size=self._page_size
                    )
                page = await anext(self._pages)
            except Unavailable as error:
                await self.close()
                if not tries:
                    _log.warning(
                        "a shard is away, the others go on", shard=self.number, reason=str(error)
                    )
                await asyncio.sleep(min(_AGAIN_S_MAX, _AGAIN_S * 2.0**tries))
                tries = min(tries + 1, 30)
            else:
                self._position = page.through
                return page

    async def close(self) -> None:
        pages, self._pages = self._pages, None
        if pages is not None:
            await close_iterator(pages)


async def close_iterator(pages: AsyncIterator[Any]) -> None:
    """Release what an iterator holds, if it holds anything."""
    close = getattr(pages, "aclose", None)
    if close is not None:
        await close()
