"""A source without events, for what only works on what is stored and what is due."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

from headwater.errors import InvalidInput
from headwater.messages import Codec
from headwater.processing.sources.source import Measure, RawEvent, SourcePage
from headwater.processing.sources.tokens import Token


class Nothing:
    """Implements `Source` for who follows no events; it has one segment."""

    rereads = False
    name = ""
    codec: Codec | None = None

    def split(self, wanted: int) -> int:  # noqa: ARG002
        """See `Source.split`."""
        return 1

    def whole(self) -> "Nothing":
        """See `Source.whole`."""
        return self

    async def begin(self) -> Token:
        """See `Source.begin`."""
        return Token()

    async def head(self) -> Token:
        """See `Source.head`."""
        return Token()

    async def now(self) -> Token:
        """See `Source.now`."""
        return Token()

    async def at(self, *, position: int | None = None, time_us: int | None = None) -> Token:
        """See `Source.at`.

        Raises:
            InvalidInput: always.
        """
        raise InvalidInput(reason=f"there are no events to read again ({position}, {time_us})")

    def check(self, token: Token) -> None:
        """See `Source.check`."""

    async def lost(self, token: Token) -> str:  # noqa: ARG002
        """See `Source.lost`."""
        return ""

    def restrict(self, token: Token, indices: Collection[int], count: int) -> Token:  # noqa: ARG002
        """See `Source.restrict`."""
        return token

    def join(self, left: Token, right: Token) -> Token | None:  # noqa: ARG002
        """See `Source.join`."""
        return left

    def least(self, tokens: Sequence[Token]) -> Token:
        """See `Source.least`."""
        return tokens[0]

    def passed(self, page: SourcePage, token: Token) -> Sequence[bool]:  # noqa: ARG002
        """See `Source.passed`."""
        return [True] * len(page.events)

    def segments_of(self, page: SourcePage, count: int) -> Sequence[int]:  # noqa: ARG002
        """See `Source.segments_of`."""
        return [0] * len(page.events)

    def segment_of(self, event: RawEvent, count: int) -> int:  # noqa: ARG002
        """See `Source.segment_of`."""
        return 0

    def name_of(self, event: RawEvent) -> str:  # noqa: ARG002
        """See `Source.name_of`."""
        return ""

    def log_of(self, event: RawEvent) -> str:  # noqa: ARG002
        """See `Source.log_of`."""
        return ""

    def sequence_of(self, event: RawEvent) -> str:
        """See `Source.sequence_of`."""
        return event.stream

    async def follow(
        self,
        token: Token,
        *,
        types: Collection[str],  # noqa: ARG002
        page_size: int,  # noqa: ARG002
    ) -> AsyncIterator[SourcePage]:
        """See `Source.follow`: nothing ever comes."""
        await asyncio.Event().wait()
        yield SourcePage((), token)

    async def towards(
        self,
        token: Token,  # noqa: ARG002
        goal: Token,  # noqa: ARG002
        *,
        types: Collection[str],  # noqa: ARG002
        page_size: int,  # noqa: ARG002
    ) -> AsyncIterator[SourcePage]:
        """See `Source.towards`: one is there already."""
        no_pages: tuple[SourcePage, ...] = ()
        for page in no_pages:
            yield page

    def reached(self, token: Token, goal: Token) -> bool:  # noqa: ARG002
        """See `Source.reached`."""
        return True

    def measure(self, token: Token, head: Token) -> Measure:  # noqa: ARG002
        """See `Source.measure`."""
        return Measure(0, 0)


__all__ = ["Nothing"]
