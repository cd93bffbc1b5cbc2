"""The event bus as a source: at least once comes in, each position goes out once."""

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence

import msgspec

from headwater.errors import InvalidInput, Unavailable
from headwater.eventbus import WATERMARK, Delivery, EventBus, partition_of
from headwater.messages import Codec
from headwater.messages.hashing import stable_hash
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.source import Measure, RawEvent, SourcePage
from headwater.processing.sources.strangers import Strangers
from headwater.processing.sources.tokens import Token, service_of

_REPEATED_MAX = 1000  # a relay publishes once more what it did within a moment before its end


class BusSource:
    """The event bus. Segments divide its partitions, or by key when it is `whole`."""

    name = ""

    def __init__(
        self,
        bus: EventBus,
        *,
        sources: Collection[str] | None = None,
        whole: bool = False,
        codec: Codec | None = None,
    ) -> None:
        """Follow a bus.

        Args:
            bus: the bus.
            sources: the services whose events are wanted; None: of all.
            whole: every segment reads all partitions.
            codec: opens the contents of events.
        """
        self.bus = bus
        self.sources = None if sources is None else frozenset(sources)
        self.rereads = not whole
        self._whole = whole
        self.codec = codec
        self.ends: dict[tuple[str, str], tuple[int, tuple[int, ...]]] = {}
        """For each source and epoch what it has said last: see `BusEvent.ends`."""

    def split(self, wanted: int) -> int:
        """See `Source.split`."""
        return wanted if self._whole else max(1, min(wanted, self.bus.partitions))

    def whole(self) -> "BusSource":
        """See `Source.whole`."""
        return BusSource(self.bus, sources=self.sources, whole=True, codec=self.codec)

    def on(self, bus: EventBus) -> "BusSource":
        """Return the same on another bus."""
        return BusSource(bus, sources=self.sources, whole=self._whole, codec=self.codec)

    async def begin(self) -> Token:
        """See `Source.begin`."""
        return Token(offsets={p: offset - 1 for p, offset in (await self.bus.begin()).items()})

    async def head(self) -> Token:
        """See `Source.head`."""
        return Token(offsets=await self.bus.end())

    async def now(self) -> Token:
        """See `Source.now`; the last events are read, as those may be delivered once more."""
        token, head = await self.begin(), await self.head()
        late = {p: max(head.offsets[p] - _REPEATED_MAX, n) for p, n in token.offsets.items()}
        token = Token(offsets=late)
        pages = self.towards(token, head, types=(), page_size=_REPEATED_MAX)
        try:
            async for page in pages:
                token = page.token
        finally:
            await close_iterator(pages)
        return token

    async def at(self, *, position: int | None = None, time_us: int | None = None) -> Token:
        """See `Source.at`; a bus is read from its begin, skipping what is older than the time.

        Raises:
            InvalidInput: a position is asked for.
        """
        if position:
            reason = "the event bus has no single position: replay from the start or from a time"
            raise InvalidInput(reason=reason)
        return msgspec.structs.replace(await self.begin(), since=time_us or 0)

    def check(self, token: Token) -> None:
        """See `Source.check`; epochs change within a bus, so every token fits."""

    async def lost(self, token: Token) -> str:
        """See `Source.lost`; which events there were is known by their number only."""
        with contextlib.suppress(Unavailable):
            ends = await self.bus.end()
            for partition, offset in token.offsets.items():
                if offset > ends.get(partition, -1):
                    end = ends.get(partition, -1)
                    return f"offset {offset} of partition {partition}, which ends at {end}"
        return ""

    def restrict(self, token: Token, indices: Collection[int], count: int) -> Token:
        """See `Source.restrict`."""
        every = range(self.bus.partitions)
        mine = {p for p in every if self._whole or p % count in indices}
        return msgspec.structs.replace(
            token,
            offsets={p: token.offsets.get(p, -1) for p in mine},
            positions={
                source: {p: place for p, place in places.items() if p in mine}
                for source, places in token.positions.items()
            },
            strangers={p: known for p, known in token.strangers.items() if p in mine},
        )

    def join(self, left: Token, right: Token) -> Token | None:
        """See `Source.join`; groups of different partitions can always be read together."""
        if self._whole:
            return left if left.offsets == right.offsets else None
        positions = {source: dict(places) for source, places in left.positions.items()}
        for source, places in right.positions.items():
            positions.setdefault(source, {}).update(places)
        return msgspec.structs.replace(
            left,
            offsets={**left.offsets, **right.offsets},
            positions=positions,
            confirmed=_most(left, right),
            strangers={**left.strangers, **right.strangers},
        )

    def least(self, tokens: Sequence[Token]) -> Token:
        """See `Source.least`; what was delivered last goes with the offset it was read at."""
        behind: dict[int, Token] = {}
        for token in tokens:
            for partition, offset in token.offsets.items():
                other = behind.get(partition)
                if other is None or offset < other.offsets[partition]:
                    behind[partition] = token
        positions: dict[str, dict[int, tuple[str, int]]] = {}
        for partition, token in behind.items():
            for source, places in token.positions.items():
                if partition in places:
                    positions.setdefault(source, {})[partition] = places[partition]
        offsets = {partition: token.offsets[partition] for partition, token in behind.items()}
        return msgspec.structs.replace(
            tokens[0],
            offsets=offsets,
            positions=positions,
            confirmed=_most(*tokens),
            strangers={p: t.strangers[p] for p, t in behind.items() if p in t.strangers},
        )

    def passed(self, page: SourcePage, token: Token) -> Sequence[bool]:
        """See `Source.passed`."""
        return [
            offset <= token.offsets.get(partition, -1)
            for partition, offset in zip(page.partitions, page.offsets, strict=True)
        ]

    def segments_of(self, page: SourcePage, count: int) -> Sequence[int]:
        """See `Source.segments_of`."""
        if self._whole:
            return [stable_hash(event.stream) % count for event in page.events]
        return [partition % count for partition in page.partitions]

    def segment_of(self, event: RawEvent, count: int) -> int:
        """See `Source.segment_of`; who publishes puts a stream in its partition."""
        if self._whole:
            return stable_hash(event.stream) % count
        return partition_of(event.stream, self.bus.partitions) % count

    def name_of(self, event: RawEvent) -> str:
        """See `Source.name_of`; other programs, whose events have no epoch, name as they like."""
        source = self.log_of(event)
        return service_of(source) if getattr(event, "epoch", "") else source

    def log_of(self, event: RawEvent) -> str:
        """See `Source.log_of`."""
        return getattr(event, "source", "")

    def sequence_of(self, event: RawEvent) -> str:
        """See `Source.sequence_of`; streams of two services may have the same name."""
        return f"{self.name_of(event)}:{event.stream}"

    async def follow(
        self,
        token: Token,
        *,
        types: Collection[str],  # noqa: ARG002  # a bus delivers all types
        page_size: int,
    ) -> AsyncIterator[SourcePage]:
        """See `Source.follow`."""
        pages = self.bus.subscribe(after=token.offsets, page_size=page_size)
        try:
            async for deliveries in pages:
                page = self._page(token, deliveries)
                token = page.token
                yield page
        finally:
            await close_iterator(pages)

    async def towards(
        self,
        token: Token,
        goal: Token,
        *,
        types: Collection[str],  # noqa: ARG002  # a bus delivers all types
        page_size: int,
    ) -> AsyncIterator[SourcePage]:
        """See `Source.towards`."""
        while not self.reached(token, goal):
            behind = {
                p: offset for p, offset in token.offsets.items() if offset < goal.offsets.get(p, -1)
            }
            pages = self.bus.subscribe(after=behind, page_size=page_size)
            try:
                deliveries = await anext(pages)
            finally:
                await close_iterator(pages)
            page = self._page(
                token, [d for d in deliveries if d.offset <= goal.offsets[d.partition]]
            )
            token = page.token
            yield page

    def reached(self, token: Token, goal: Token) -> bool:
        """See `Source.reached`."""
        return all(offset >= goal.offsets.get(p, -1) for p, offset in token.offsets.items())

    def measure(self, token: Token, head: Token) -> Measure:
        """See `Source.measure`; about the numbers of events, as far as offsets are dense."""
        return Measure(
            sum(offset + 1 for offset in token.offsets.values()),
            sum(head.offsets.get(p, -1) + 1 for p in token.offsets),
        )

    def _page(self, token: Token, deliveries: Sequence[Delivery]) -> SourcePage:
        offsets = dict(token.offsets)
        positions = {source: dict(places) for source, places in token.positions.items()}
        confirmed = dict(token.confirmed)
        strangers: dict[int, Strangers] = {}
        events: list[RawEvent] = []
        partitions: list[int] = []
        numbers: list[int] = []
        for delivery in deliveries:
            offsets[delivery.partition] = delivery.offset
            event = delivery.event
            if self.sources is not None and self.name_of(event) not in self.sources:
                continue
            if event.confirmed:
                known = confirmed.get(event.source)
                if known is None or known[0] != event.epoch or known[1] < event.confirmed:
                    confirmed[event.source] = (event.epoch, event.confirmed)
                if event.ends:
                    said = (event.confirmed, event.ends)
                    origin = event.source, event.epoch
                    self.ends[origin] = max(said, self.ends.get(origin, said))
                if event.type == WATERMARK:
                    continue
            if not _is_new(delivery, token, positions, strangers):
                continue
            if event.time >= token.since:
                events.append(event)
                partitions.append(delivery.partition)
                numbers.append(delivery.offset)
        moved = msgspec.structs.replace(
            token,
            offsets=offsets,
            positions=positions,
            confirmed=confirmed,
            strangers={**token.strangers, **{p: one.known for p, one in strangers.items()}},
        )
        return SourcePage(events, moved, partitions, numbers)


def _is_new(
    delivery: Delivery,
    token: Token,
    positions: dict[str, dict[int, tuple[str, int]]],
    strangers: dict[int, Strangers],
) -> bool:
    """Whether an event was not delivered before; it is noted."""
    event, partition = delivery.event, delivery.partition
    if event.id:
        known = strangers.get(partition)
        if known is None:
            known = strangers[partition] = Strangers(token.strangers.get(partition, ()))
        return known.see(event)
    seen = positions.setdefault(event.source, {})
    epoch, last = seen.get(partition, ("", 0))
    if epoch == event.epoch and event.position <= last:
        return False
    seen[partition] = (event.epoch, event.position)
    return True


def _most(*tokens: Token) -> dict[str, tuple[str, int]]:
    """Return what the tokens know together of how far sources are confirmed."""
    known: dict[str, tuple[str, int]] = {}
    for token in tokens:
        for source, (epoch, position) in token.confirmed.items():
            other = known.get(source)
            if other is None or other[0] != epoch or other[1] < position:
                known[source] = (epoch, position)
    return known
