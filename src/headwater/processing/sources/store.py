"""The event store as a source, in one shard or several."""

import contextlib
from asyncio import gather
from collections.abc import AsyncIterator, Collection, Sequence

from headwater.errors import InvalidInput, TokenMismatch, Unavailable
from headwater.eventstore import (
    EVERYTHING,
    EventFilter,
    FilterItem,
    Page,
    ReadableLog,
    ReadableStreams,
)
from headwater.messages import Codec
from headwater.messages.hashing import stable_hash
from headwater.processing.sources.shards import close_iterator, following
from headwater.processing.sources.source import (
    Measure,
    RawEvent,
    Source,
    SourcePage,
)
from headwater.processing.sources.tokens import Token, log_name, store_token


class StoreSource:
    """The service's own event store, all of its shards. Segments divide by the hash of the stream.

    Order is kept within a stream, as each is in one shard; between shards there is none.
    """

    rereads = False

    def __init__(self, store: ReadableStreams, name: str, *, codec: Codec | None = None) -> None:
        """Follow a store; ``name`` is the service that owns it, as consistency tokens say it."""
        self.store = store
        self.name = name
        self.codec = codec
        self._count = len(store.shards)

    def split(self, wanted: int) -> int:
        """See `Source.split`."""
        return wanted

    def whole(self) -> Source:
        """See `Source.whole`."""
        return self

    async def begin(self) -> Token:
        """See `Source.begin`."""
        return self._token([0] * self._count)

    async def head(self) -> Token:
        """See `Source.head`."""
        return self._token(await gather(*(log.head() for log in self.store.shards)))

    async def now(self) -> Token:
        """See `Source.now`."""
        return await self.head()

    async def at(self, *, position: int | None = None, time_us: int | None = None) -> Token:
        """See `Source.at`.

        Raises:
            InvalidInput: a position is asked for, and the store is sharded.
        """
        if time_us is not None:
            before = time_us - 1
            logs = self.store.shards
            return self._token(await gather(*(log.position_at(before) for log in logs)))
        if position and self._count > 1:
            reason = (
                f"the event store is spread over {self._count} databases, each with positions of "
                "its own: go by time, or from the start"
            )
            raise InvalidInput(reason=reason)
        return self._token([max(0, position or 0)] * self._count)

    def check(self, token: Token) -> None:
        """See `Source.check`."""
        for epoch, _ in token.positions.get(self.name, {}).values():
            if epoch != self.store.epoch:
                raise TokenMismatch(source=self.name, expected=self.store.epoch, actual=epoch)

    async def lost(self, token: Token) -> str:
        """See `Source.lost`."""
        for shard, (epoch, position) in token.positions.get(self.name, {}).items():
            if epoch != self.store.epoch:
                return (
                    f"position {position} of the log {epoch!r}, which is {self.store.epoch!r} now"
                )
            with contextlib.suppress(Unavailable):
                log = self.store.shards[shard]
                head = await log.head()
                if position > head:
                    return f"position {position}, and the log ends at {head}"
                if shard in token.last and not await _holds(log, *token.last[shard]):
                    return f"another event than the one at position {token.last[shard][0]} now"
        return ""

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

    def least(self, tokens: Sequence[Token]) -> Token:
        """See `Source.least`; in each shard by itself."""
        every = [self._positions(token) for token in tokens]
        return self._token([min(of_shard) for of_shard in zip(*every, strict=True)])

    def passed(self, page: SourcePage, token: Token) -> Sequence[bool]:
        """See `Source.passed`."""
        positions, shard_of = self._positions(token), self.store.shard_of
        return [event.position <= positions[shard_of(event.stream)] for event in page.events]

    def segments_of(self, page: SourcePage, count: int) -> Sequence[int]:
        """See `Source.segments_of`."""
        return [stable_hash(event.stream) % count for event in page.events]

    def segment_of(self, event: RawEvent, count: int) -> int:
        """See `Source.segment_of`."""
        return stable_hash(event.stream) % count

    def name_of(self, event: RawEvent) -> str:  # noqa: ARG002  # see Source
        """See `Source.name_of`."""
        return self.name

    def log_of(self, event: RawEvent) -> str:
        """See `Source.log_of`."""
        return log_name(self.name, self.store.shard_of(event.stream))

    def sequence_of(self, event: RawEvent) -> str:
        """See `Source.sequence_of`."""
        return event.stream

    async def follow(
        self, token: Token, *, types: Collection[str], page_size: int
    ) -> AsyncIterator[SourcePage]:
        """See `Source.follow`; a shard that is away holds up none of the others."""
        positions, last = self._positions(token), token.last
        pages = following(self.store.shards, positions, filter=_filter(types), page_size=page_size)
        try:
            async for shard, page in pages:
                positions[shard], last = page.through, _noted(last, shard, page)
                yield SourcePage(page.events, self._token(positions, last))
        finally:
            await close_iterator(pages)

    async def towards(
        self, token: Token, goal: Token, *, types: Collection[str], page_size: int
    ) -> AsyncIterator[SourcePage]:
        """See `Source.towards`; one shard after the other, those that are away last.

        Raises:
            StoreUnavailable: all is read but what is in shards that are away.
        """
        positions, last = self._positions(token), token.last
        away: Unavailable | None = None
        for shard, until in enumerate(self._positions(goal)):
            if self._count > 1 and positions[shard] >= until:
                continue
            pages = self.store.shards[shard].read(
                filter=_filter(types), after=positions[shard], until=until, page_size=page_size
            )
            try:
                async for page in pages:
                    positions[shard], last = page.through, _noted(last, shard, page)
                    yield SourcePage(page.events, self._token(positions, last))
            except Unavailable as error:
                away = error
            finally:
                await close_iterator(pages)
        if away is not None:
            raise away

    def reached(self, token: Token, goal: Token) -> bool:
        """See `Source.reached`."""
        if self._count == 1:
            return token.shard_position(self.name, 0) >= goal.shard_position(self.name, 0)
        pairs = zip(self._positions(token), self._positions(goal), strict=True)
        return all(position >= wanted for position, wanted in pairs)

    def measure(self, token: Token, head: Token) -> Measure:
        """See `Source.measure`; of several shards these are sums."""
        positions = self._positions(token)
        heads = map(max, positions, self._positions(head))  # a head may be older than a token
        return Measure(sum(positions), sum(heads))

    def _token(
        self, positions: Sequence[int], last: dict[int, tuple[int, int]] | None = None
    ) -> Token:
        return store_token(self.name, self.store.epoch, *positions, last=last)

    def _positions(self, token: Token) -> list[int]:
        return [token.shard_position(self.name, shard) for shard in range(self._count)]


def _noted(last: dict[int, tuple[int, int]], shard: int, page: Page) -> dict[int, tuple[int, int]]:
    """Return the last events of shards, with that of a page."""
    if not page.events:
        return last
    event = page.events[-1]
    return {**last, shard: (event.position, event.time)}


async def _holds(log: ReadableLog, position: int, time_us: int) -> bool:
    """Whether the event at a position is the one that was recorded at a time."""
    pages = log.read(after=position - 1, until=position, page_size=1)
    try:
        async for page in pages:
            for event in page.events:
                return event.time == time_us
    finally:
        await close_iterator(pages)
    return False


def _filter(types: Collection[str]) -> EventFilter:
    return EventFilter((FilterItem(types=tuple(types)),)) if types else EVERYTHING
