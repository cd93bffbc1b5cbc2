"""Groups: segments that are equally far, read once and handled as one batch."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection

import msgspec

from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.source import EventId, RawEvent, SourcePage
from headwater.processing.sources.tokens import Token
from headwater.views import Segment

SKIPPED_S = 0.01
"""How long the token may wait for its commit when there was nothing to do but to move it."""


class Poison(msgspec.Struct, frozen=True):
    """From this event on, its sequence is to be parked."""

    event: RawEvent
    error: BaseException


class SegmentGroup:
    """Segments at one token.

    ``not_before`` is when it goes on after it could not (monotonic seconds). ``commit_at`` is when
    a token is to be committed at the latest that has moved over events of no interest only.
    ``done`` are the events of a page whose handlers outside of the transaction have run,
    ``poison`` those that failed, by sequence: their letters are written with the page.
    """

    __slots__ = (
        "commit_at",
        "done",
        "error",
        "not_before",
        "poison",
        "segments",
        "token",
        "tries",
    )

    def __init__(self, segments: dict[int, Segment], token: Token) -> None:
        """Begin at a token, with the claims under which it was read."""
        self.segments = segments
        self.token = token
        self.poison: dict[str, Poison] = {}
        self.tries = 0
        self.not_before = 0.0
        self.error = ""
        self.commit_at: float | None = None
        self.done: set[EventId] = set()

    @property
    def indices(self) -> Collection[int]:
        """The numbers of its segments."""
        return self.segments.keys()

    @property
    def due(self) -> bool:
        """Whether it may be worked on now."""
        return self.not_before <= time.monotonic()

    def advanced(self, token: Token) -> None:
        """Note that everything up to a token is done."""
        self.token = token
        self.done.clear()
        self.poison.clear()
        self.tries = 0
        self.not_before = 0.0
        self.error = ""
        self.commit_at = None

    def skipped(self, token: Token) -> None:
        """Note that there was nothing to do up to a token, which is still to be committed."""
        self.token = token
        if self.commit_at is None:
            self.commit_at = time.monotonic() + SKIPPED_S


class Reader:
    """Reads pages, and says when one is there: one ahead while there are many events, or none.

    When there are few, what is read ahead would have to wait while the page before it is worked on,
    and what comes meanwhile for one page more. Read afterwards, both are in one page.
    """

    def __init__(
        self, pages: AsyncIterator[SourcePage], wake: Callable[[], None], *, page_size: int
    ) -> None:
        """Begin to read; ``wake`` is called whenever a page is there."""
        self._pages = pages
        self._wake = wake
        self._many = page_size // 2
        self._task: asyncio.Task[SourcePage] | None = self._fetch()

    @property
    def ready(self) -> bool:
        """Whether `take` returns at once."""
        return self._task is not None and self._task.done()

    def take(self) -> SourcePage:
        """Return the page that was read; call `read_on` when it was worked on.

        Raises:
            Exception: what the source raised; the reader is of no more use then.
        """
        assert self._task is not None
        page = self._task.result()
        few = 0 < len(page.events) <= self._many
        self._task = None if few else self._fetch()
        return page

    def read_on(self) -> None:
        """Begin to read the next page, unless that is under way."""
        if self._task is None:
            self._task = self._fetch()

    async def close(self) -> None:
        """Stop reading and release the iterator."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.exception()  # seen
        await close_iterator(self._pages)

    def _fetch(self) -> "asyncio.Task[SourcePage]":
        task = asyncio.ensure_future(self._next())
        task.add_done_callback(lambda _: self._wake())
        return task

    async def _next(self) -> SourcePage:
        try:
            return await anext(self._pages)
        except StopAsyncIteration:
            msg = "the source ended although it is followed for ever"
            raise RuntimeError(msg) from None
