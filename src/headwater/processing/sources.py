"""What a processor can follow: the local event store, or the event bus."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Protocol

import msgspec

from headwater.errors import TokenMismatch
from headwater.eventbus import BusEvent
from headwater.eventstore import EVERYTHING, EventFilter, EventStore, FilterItem, StoredEvent
from headwater.messages import stable_hash
from headwater.processing.tokens import Token, store_token

RawEvent = StoredEvent | BusEvent


class SourcePage(msgspec.Struct, frozen=True):
    """Some events in order, and the token of whoever has handled them.

    ``partitions`` says for each event of a bus where it came from.
    """

    events: Sequence[RawEvent]
    token: Token
    partitions: Sequence[int] = ()


class Measure(msgspec.Struct, frozen=True):
    """How far a token is from the head, in positions (a store) or offsets (a bus)."""

    position: int
    head: int

    @property
    def lag(self) -> int:
        """What is still to be read."""
        return max(0, self.head - self.position)


class Source(Protocol):
    """An ordered source of events, divided into segments.

    ``rereads``: lanes that join need a new reader, because their segments read different
    partitions; otherwise every segment reads everything and takes what is its own.
    """

    rereads: bool

    def split(self, wanted: int) -> int:
        """Return into how many segments the work can be divided."""

    def whole(self) -> "Source":
        """Return this source so that every segment sees all events (sagas divide by their key)."""

    def start(self) -> Token:
        """Return the token before the first event."""

    async def head(self) -> Token:
        """Return the token of the last event."""

    async def at(self, *, position: int | None = None, time_us: int | None = None) -> Token:
        """Return the token from which events after a position, or from a time, are read again.

        Raises:
            InvalidInput: the source cannot be read from there.
        """

    def check(self, token: Token) -> None:
        """Check that a stored token belongs to this source.

        Raises:
            TokenMismatch: the source was replaced.
        """

    def restrict(self, token: Token, indices: Collection[int], count: int) -> Token:
        """Return what a token says about some segments."""

    def join(self, left: Token, right: Token) -> Token | None:
        """Return the token of two lanes as one; None when they are not equally far."""

    def segments_of(self, page: SourcePage, count: int) -> Sequence[int]:
        """Return the segment of each event."""

    def name_of(self, event: RawEvent) -> str:
        """Return the service that owns an event."""

    def sequence_of(self, event: RawEvent) -> str:
        """Return what must be handled in order: the event's stream."""

    def follow(
        self, token: Token, *, types: Collection[str], page_size: int
    ) -> AsyncIterator[SourcePage]:
        """Read on from a token for ever; other types than these may be left out."""

    def towards(
        self, token: Token, goal: Token, *, types: Collection[str], page_size: int
    ) -> AsyncIterator[SourcePage]:
        """Read on from a token to another one, and end there."""

    def reached(self, token: Token, goal: Token) -> bool:
        """Whether a token (of one segment) is at or past a goal."""

    def measure(self, token: Token, head: Token) -> Measure:
        """Return how far a token (of one segment) is from the head."""


class StoreSource:
    """The service's own event store. Segments divide by the hash of the stream."""

    rereads = False

    def __init__(self, store: EventStore, name: str) -> None:
        """Follow a store; ``name`` is the service that owns it, as consistency tokens say it."""
        self.store = store
        self.name = name

    def split(self, wanted: int) -> int:
        """See `Source.split`."""
        return wanted

    def whole(self) -> Source:
        """See `Source.whole`."""
        return self

    def start(self) -> Token:
        """See `Source.start`."""
        return store_token(self.name, self.store.epoch, 0)

    async def head(self) -> Token:
        """See `Source.head`."""
        return store_token(self.name, self.store.epoch, await self.store.head())

    async def at(self, *, position: int | None = None, time_us: int | None = None) -> Token:
        """See `Source.at`."""
        if time_us is not None:
            position = await self.store.position_at(time_us - 1)
        return store_token(self.name, self.store.epoch, max(0, position or 0))

    def check(self, token: Token) -> None:
        """See `Source.check`."""
        epoch, _ = self._mark(token)
        if epoch != self.store.epoch:
            raise TokenMismatch(source=self.name, expected=self.store.epoch, actual=epoch)

    def restrict(
        self,
        token: Token,
        indices: Collection[int],  # noqa: ARG002  # every segment reads everything
        count: int,  # noqa: ARG002
    ) -> Token:
        """See `Source.restrict`."""
        return token

    def join(self, left: Token, right: Token) -> Token | None:
        """See `Source.join`."""
        return left if left.positions == right.positions else None

    def segments_of(self, page: SourcePage, count: int) -> Sequence[int]:
        """See `Source.segments_of`."""
        return [stable_hash(event.stream) % count for event in page.events]

    def name_of(self, event: RawEvent) -> str:  # noqa: ARG002  # see Source
        """See `Source.name_of`."""
        return self.name

    def sequence_of(self, event: RawEvent) -> str:
        """See `Source.sequence_of`."""
        return event.stream

    async def follow(
        self, token: Token, *, types: Collection[str], page_size: int
    ) -> AsyncIterator[SourcePage]:
        """See `Source.follow`."""
        pages = self.store.follow(
            filter=_filter(types), after=self._mark(token)[1], page_size=page_size
        )
        try:
            async for page in pages:
                token = store_token(self.name, self.store.epoch, page.through)
                yield SourcePage(page.events, token)
        finally:
            await close_iterator(pages)

    async def towards(
        self, token: Token, goal: Token, *, types: Collection[str], page_size: int
    ) -> AsyncIterator[SourcePage]:
        """See `Source.towards`."""
        until = self._mark(goal)[1]
        pages = self.store.read(
            filter=_filter(types),
            after=self._mark(token)[1],
            until=until,
            page_size=page_size,
        )
        try:
            async for page in pages:
                token = store_token(self.name, self.store.epoch, page.through)
                yield SourcePage(page.events, token)
        finally:
            await close_iterator(pages)

    def reached(self, token: Token, goal: Token) -> bool:
        """See `Source.reached`."""
        return self._mark(token)[1] >= self._mark(goal)[1]

    def measure(self, token: Token, head: Token) -> Measure:
        """See `Source.measure`."""
        return Measure(self._mark(token)[1], self._mark(head)[1])

    def _mark(self, token: Token) -> tuple[str, int]:
        return token.positions.get(self.name, {}).get(0, (self.store.epoch, 0))


def _filter(types: Collection[str]) -> EventFilter:
    return EventFilter((FilterItem(types=tuple(types)),)) if types else EVERYTHING


async def close_iterator(pages: AsyncIterator[Any]) -> None:
    """Release what an iterator holds, if it holds anything."""
    close = getattr(pages, "aclose", None)
    if close is not None:
        await close()
