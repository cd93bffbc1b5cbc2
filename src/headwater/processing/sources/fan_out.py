"""One reader for all segments of a processor, if each has a worker of its own.

A page is read once and handed to everybody who has come as far as its begin. Who is slow finds the
last pages still there; who is slower than that reads on alone, until it meets the others again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.source import Source, SourcePage
from headwater.processing.sources.tokens import Token

_PAGES_MAX = 100  # that are kept for those who are slower


class _Run:
    """Pages that follow one another, from ``pages[0]`` to ``end``, and who reads them."""

    def __init__(self, source: Source, token: Token, types: Sequence[str], page_size: int) -> None:
        self.end = token
        self.users: set[object] = set()
        self._kept: deque[tuple[Token, SourcePage]] = deque(maxlen=_PAGES_MAX)  # with their begin
        self._source = source
        self._pages = source.follow(token, types=types, page_size=page_size)
        self._next: asyncio.Task[SourcePage] | None = None
        self._broken = False

    def kept(self, token: Token) -> SourcePage | None:
        """Return the page that begins at a token, if it is still there."""
        for begin, page in reversed(self._kept):
            if self._source.join(begin, token) is not None:
                return page
        return None

    def has(self, token: Token) -> bool:
        """Whether the page that begins at a token is there, or the next one to be read."""
        at_end = not self._broken and self._source.join(self.end, token) is not None
        return at_end or self.kept(token) is not None

    async def after(self, token: Token) -> SourcePage:
        """Return the page that begins at a token; whoever reads it, it is read once.

        Raises:
            Exception: what the source raised; the run is of no more use then.
        """
        page = self.kept(token)
        if page is not None:
            return page
        if self._next is None or self._next.done():
            self._next = asyncio.ensure_future(self._read())
        reading = self._next
        await asyncio.wait([reading])  # who is cancelled does not cancel the others
        return reading.result()

    async def _read(self) -> SourcePage:
        try:
            page = await anext(self._pages)
        except BaseException:
            self._broken = True
            raise
        self._kept.append((self.end, page))
        self.end = page.token
        return page

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait([self._next])
        await close_iterator(self._pages)


class Fanout:
    """Follows a source on behalf of several workers that follow the same types."""

    def __init__(self, source: Source, types: Sequence[str], page_size: int) -> None:
        """Read nothing yet."""
        self._source = source
        self._types = types
        self._page_size = page_size
        self._runs: list[_Run] = []

    async def follow(self, token: Token) -> AsyncIterator[SourcePage]:
        """Read on from a token for ever, as `Source.follow` does."""
        me = object()
        run: _Run | None = None
        try:
            while True:
                run = await self._move(me, run, token)
                page = await run.after(token)
                token = page.token
                yield page
        finally:
            await self._leave(me, run)

    async def _move(self, me: object, run: _Run | None, token: Token) -> _Run:
        """Join the first run that has what comes after a token."""
        chosen = next((one for one in self._runs if one.has(token)), None)
        if chosen is None:
            chosen = _Run(self._source, token, self._types, self._page_size)
            self._runs.append(chosen)
        chosen.users.add(me)
        if chosen is not run:
            await self._leave(me, run)
        return chosen

    async def _leave(self, me: object, run: _Run | None) -> None:
        if run is None:
            return
        run.users.discard(me)
        if not run.users and run in self._runs:
            self._runs.remove(run)
            await run.close()
