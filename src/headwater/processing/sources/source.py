"""What a processor can follow, and what it gets from there: the interface of sources."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

import msgspec

from headwater.eventbus import BusEvent
from headwater.eventstore import StoredEvent
from headwater.messages import Codec
from headwater.processing.sources.tokens import Token

RawEvent = StoredEvent | BusEvent
EventId = tuple[str, str, int]


def event_id(event: RawEvent) -> EventId:
    """Return what identifies an event among all that a processor handles."""
    return (getattr(event, "source", ""), event.stream, event.position)


class SourcePage(msgspec.Struct, frozen=True):
    """Some events in order, and the token of whoever has handled them.

    ``partitions`` and ``offsets`` say for each event of a bus where it came from.
    """

    events: Sequence[RawEvent]
    token: Token
    partitions: Sequence[int] = ()
    offsets: Sequence[int] = ()


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

    ``rereads``: groups that join need a new reader, because their segments read different
    partitions; otherwise every segment reads everything and takes what is its own.
    ``name``: the service whose events these all are; empty on a bus, which has those of several.
    ``codec``: what opens their contents.
    """

    rereads: bool
    name: str
    codec: Codec | None

    def split(self, wanted: int) -> int:
        """Return into how many segments the work can be divided."""

    def whole(self) -> "Source":
        """Return this source so that every segment sees all events (sagas divide by their key)."""

    async def begin(self) -> Token:
        """Return the token before the first event that is there.

        Raises:
            StoreUnavailable: the source cannot be asked.
        """

    async def head(self) -> Token:
        """Return the token of the last event."""

    async def now(self) -> Token:
        """Return the token for whoever wants to see nothing of what is there by now."""

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

    async def lost(self, token: Token) -> str:
        """Return why what a stored token has seen is not in the source; empty when it is.

        A source that is away is not blamed.
        """

    def restrict(self, token: Token, indices: Collection[int], count: int) -> Token:
        """Return what a token says about some segments."""

    def join(self, left: Token, right: Token) -> Token | None:
        """Return the token of two groups as one; None when they are not equally far."""

    def least(self, tokens: Sequence[Token]) -> Token:
        """Return the token of one segment in the place of several: nothing is left out.

        In each partition it is where the one that is furthest behind there is.
        """

    def passed(self, page: SourcePage, token: Token) -> Sequence[bool]:
        """Return for each event of a page whether it is at or before a token."""

    def segments_of(self, page: SourcePage, count: int) -> Sequence[int]:
        """Return the segment of each event."""

    def segment_of(self, event: RawEvent, count: int) -> int:
        """Return the segment of one event."""

    def name_of(self, event: RawEvent) -> str:
        """Return the service that owns an event."""

    def log_of(self, event: RawEvent) -> str:
        """Return the log that the event's position is in; unlike its service unique with it."""

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
