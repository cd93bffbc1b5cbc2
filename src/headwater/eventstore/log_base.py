"""What the logs that are read by queries share: which pages there are, and how far they reach."""

import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Generic, Protocol, Self, TypeVar

import msgspec

from headwater.eventstore.api import EVERYTHING, EventFilter, Page, Snapshot, StoredEvent, StoredKey
from headwater.eventstore.checks import check_range

END = 2**63 - 1


class Found(msgspec.Struct, frozen=True):
    """What a fetch found.

    Attributes:
        events: in reading order.
        head: the last number there is (the log's last position, or the stream's version), or
            a number from which on there was nothing; None when more may be left.
        full: as many as asked for, so there may be more.
    """

    events: tuple[StoredEvent, ...]
    head: int | None
    full: bool


class NumberedQuery(Protocol):
    """A query for events by number: by position, or by the version in a stream."""

    @property
    def number(self) -> Callable[[StoredEvent], int]:
        """Return what tells the number of an event."""


T = TypeVar("T")
Q = TypeVar("Q", bound=NumberedQuery)


class LogBase(ABC, Generic[Q]):
    """Reads pages; a technology says what its queries are, and fetches."""

    _epoch: str

    @abstractmethod
    def _of_log(self, filter: EventFilter, *, backwards: bool) -> Q:
        """Return the query for what a filter selects of the log."""

    @abstractmethod
    def _of_stream(self, stream: str, *, backwards: bool) -> Q:
        """Return the query for one stream."""

    @abstractmethod
    async def _fetch(self, query: Q, low: int, high: int, limit: int, *, head: bool) -> Found:
        """Fetch at most ``limit`` events with a number above ``low`` and up to ``high``.

        With ``head`` what is found has the head of the same moment, unless the page is full.
        """

    @abstractmethod
    def _follow(self, filter: EventFilter, after: int, page_size: int) -> AsyncIterator[Page]:
        """See `ReadableLog.follow`."""

    @abstractmethod
    def _keys(self, since: int, page_size: int) -> AsyncIterator[tuple[StoredKey, ...]]:
        """See `ReadableLog.read_keys`."""

    def _own(self, after: int, limit: int) -> tuple[StoredEvent, ...]:  # noqa: ARG002  # for stores
        """Return events after a position that this process has stored itself, and still knows.

        What others have stored is in between nowhere, but may be behind: see `Waiting.heard`.
        """
        return ()

    @property
    def epoch(self) -> str:
        """See `ReadableStreams.epoch`."""
        return self._epoch

    @property
    def shards(self) -> Sequence[Self]:
        """See `ReadableStreams.shards`."""
        return (self,)

    def shard_of(self, stream: str) -> int:  # noqa: ARG002  # all of them
        """See `ReadableStreams.shard_of`."""
        return 0

    def read(
        self,
        *,
        filter: EventFilter = EVERYTHING,
        after: int = 0,
        until: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        page_size: int = 1000,
    ) -> AsyncIterator[Page]:
        """See `ReadableLog.read`."""
        check_range(after=after, until=until, limit=limit, page_size=page_size)
        query = self._of_log(filter, backwards=backwards)
        return self._pages(query, after, until, limit, page_size, backwards=backwards)

    def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        until: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        page_size: int = 1000,
    ) -> AsyncIterator[Page]:
        """See `ReadableStreams.read_stream`."""
        check_range(after=after, until=until, limit=limit, page_size=page_size)
        query = self._of_stream(stream, backwards=backwards)
        return self._pages(query, after, until, limit, page_size, backwards=backwards)

    def follow(
        self, *, filter: EventFilter = EVERYTHING, after: int = 0, page_size: int = 1000
    ) -> AsyncIterator[Page]:
        """See `ReadableLog.follow`."""
        check_range(after=after, until=None, limit=None, page_size=page_size)
        return self._follow(filter, after, page_size)

    def read_keys(
        self, *, since: int = 0, page_size: int = 1000
    ) -> AsyncIterator[tuple[StoredKey, ...]]:
        """See `ReadableLog.read_keys`."""
        check_range(after=since, until=None, limit=None, page_size=page_size)
        return self._keys(since, page_size)

    async def _pages(
        self,
        query: Q,
        after: int,
        until: int | None,
        limit: int | None,
        page_size: int,
        *,
        backwards: bool,
    ) -> AsyncIterator[Page]:
        left = sys.maxsize if limit is None else limit
        low, high, first = after, END if until is None else until, True
        while True:
            wanted = min(page_size, left)
            found = await self._fetch(query, low, high, wanted, head=first)
            if first:  # what comes later is not part of this reading
                first, high = False, max(low, min(high, found.head or 0))
            left -= len(found.events)
            if found.events and found.full:
                last = query.number(found.events[-1])
                low, high = (low, last - 1) if backwards else (last, high)
            elif wanted:
                low, high = (low, low) if backwards else (high, high)
            yield Page(found.events, high if backwards else low)
            if not left or low >= high:
                return


def selected(events: tuple[StoredEvent, ...], filter: EventFilter) -> tuple[StoredEvent, ...]:
    """Return those events that a filter selects."""
    if not filter.items:
        return events
    return tuple(event for event in events if filter.matches(event.type, event.tags))


async def snapshot_pages(
    fetch: Callable[[str, int], Awaitable[tuple[Snapshot, ...]]], prefix: str, page_size: int
) -> AsyncIterator[tuple[Snapshot, ...]]:
    """See `StreamStore.read_snapshots`; ``fetch`` gets some from a stream on."""
    begin = prefix
    while True:
        page = await fetch(begin, page_size)
        if page:
            yield page
        if len(page) < page_size:
            return
        begin = page[-1].stream + "\0"


def through(query: NumberedQuery, found: Found) -> int:
    """Return how far a reader has come who follows, by what was found from there on."""
    return query.number(found.events[-1]) if found.full else found.head or 0


__all__ = ["END", "Found", "LogBase", "NumberedQuery", "T", "selected", "snapshot_pages", "through"]
