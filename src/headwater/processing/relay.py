"""The relay: a processor from the local store to the event bus."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Literal, Protocol

import msgspec
import structlog

from headwater.eventbus import BusEvent, partition_of, watermark
from headwater.eventstore import EventStore, StreamStore
from headwater.processing.handling.applier import Unhandled
from headwater.processing.running.claims import Claims
from headwater.processing.running.pausing import ProcessorPause, known_pause_of
from headwater.processing.running.processor import Processor
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.source import RawEvent, SourcePage
from headwater.processing.sources.store import StoreSource
from headwater.processing.sources.tokens import Token, log_name, token_of
from headwater.views import ViewStore

_log = structlog.get_logger("headwater.processing")
_QUIET_S = 0.001  # after that the word of what is confirmed comes alone, not with the next events


class RelayStatus(msgspec.Struct, frozen=True):
    """How far a relay is.

    ``failure`` is what keeps it from working at the moment; ``paused`` that somebody wants it so.
    """

    name: str
    active: bool
    position: int
    head: int
    failure: str
    paused: ProcessorPause | None = None


class Outlet(Protocol):
    """Where a relay publishes: an `EventBus`, whose contract counts, or a bridge."""

    @property
    def partitions(self) -> int:
        """See `EventBus.partitions`."""

    @property
    def ordered(self) -> bool:
        """See `EventBus.ordered`."""

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """See `EventBus.publish`."""

    async def stored(self, source: str, epoch: str) -> dict[int, int]:
        """See `EventBus.stored`."""

    async def end(self) -> dict[int, int]:
        """See `EventBus.end`."""


class Relay:
    """Publishes the events of a store, all and in order, on the bus.

    A sharded store has a relay for each of its logs (see `relays_of`), as each has positions of
    its own, by which subscribers find out what they have seen.

    It is a processor whose work is done when a page is read, as it is published by then. One
    process at a time holds the claim. The checkpoint, kept in the view store, is the end of the
    contiguous prefix that the bus has confirmed; after an error or a crash it publishes again from
    there, so that nothing is lost, and subscribers skip what they have seen. A bus that has lost
    what it had confirmed gets that again, too.
    """

    def __init__(
        self,
        store: EventStore,
        bus: Outlet,
        *,
        name: str,
        epoch: str,
        views: ViewStore,
        owner: str,
        settings: ProcessorSettings = DEFAULTS,
        called: str = "",
        start: Literal["beginning", "now"] = "beginning",
    ) -> None:
        """Wire up; nothing runs before `start`.

        Args:
            store: where the events are.
            bus: where they go.
            name: the service that owns the store (or the name of a shard's log): the source of
                the events on the bus.
            epoch: the store's epoch (with shards: of them all), as consistency tokens have it.
            views: where claim and checkpoint are kept.
            owner: names this process.
            settings: how it works.
            called: its own name; empty: ``relay-<name>``.
            start: where it begins when it is first started.
        """
        self.name = called or f"relay-{name}"
        self._from = start
        self._service = name
        self._store = store
        self._views = views
        source = _Published(store, bus, name=name, epoch=epoch)
        self._processor = Processor(
            _Relaying(source, self.name), source=source, views=views, owner=owner, settings=settings
        )

    @property
    def claims(self) -> Claims:
        """The one segment that it has, if this process holds it."""
        return self._processor.claims

    @property
    def views(self) -> ViewStore:
        """Where its claim and its checkpoint are kept."""
        return self._views

    async def start(self) -> None:
        """Claim the relay if nobody has it, and begin to publish.

        Raises:
            StoreUnavailable: the view store is away; or the log, if it begins now.
        """
        source = self._processor.source
        begin = await source.begin()  # which asks nobody: the log may be away
        if self._from == "now" and not await self._views.segments(self.name):
            begin = await source.now()
        await self._views.open_segments(self.name, count=1, token=begin.text, generation=1)
        await self._processor.start()

    async def stop(self) -> None:
        """Finish the batch at hand, then give the claim back. Twice is fine."""
        await self._processor.stop()

    async def status(self) -> RelayStatus:
        """Return how far it is, also when another process holds the claim."""
        segments = await self._views.segments(self.name)
        tokens = [token_of(segment.token) for segment in segments]
        tokens += self._processor.progress.tokens.values() if self.claims.held else ()
        return RelayStatus(
            name=self.name,
            active=bool(self.claims.held),
            position=max((token.position(self._service) for token in tokens), default=0),
            head=await self._store.head(),
            failure=self.failure,
            paused=await known_pause_of(self._views, self.name),
        )

    async def concerns(self) -> list[str]:
        """Return for a person that it is paused, if so."""
        return await self._processor.concerns()

    @property
    def failure(self) -> str:
        """What keeps it from working at the moment, empty when nothing does.

        It need not work while another process has the claim.
        """
        return self._processor.failure


class _Published(StoreSource):
    """The events of a log as its relay follows them: a page that was read is on the bus.

    The pages are empty, as there is nothing more to do.
    """

    def __init__(self, store: EventStore, bus: Outlet, *, name: str, epoch: str) -> None:
        super().__init__(store, name)
        self.bus = bus
        self._epoch = epoch

    async def follow(
        self, token: Token, *, types: Collection[str], page_size: int
    ) -> AsyncIterator[SourcePage]:
        """See `Source.follow`; on a bus that is not ordered it says what is confirmed, too.

        While a page is being published the next one is read.
        """
        stored = await self._complete(token, page_size=page_size)
        published = {p: max(n, token.published.get(p, 0)) for p, n in stored.items()}
        pages = super().follow(token, types=types, page_size=page_size)
        confirmed = token.shard_position(self.name, 0)
        told = confirmed if self.bus.ordered else 0  # who had the claim before may not have come to
        fetch = asyncio.ensure_future(anext(pages))
        try:
            while True:
                if told < confirmed and not (await asyncio.wait([fetch], timeout=_QUIET_S))[0]:
                    ends = self._ends(published)
                    await self.bus.publish([watermark(self.name, self._epoch, confirmed, ends)])
                    told = confirmed
                page = await fetch
                fetch = asyncio.ensure_future(anext(pages))
                if page.events:
                    events = [self._outgoing(event, confirmed) for event in page.events]
                    events[0] = msgspec.structs.replace(events[0], ends=self._ends(published))
                    await self.bus.publish(events)
                confirmed = page.token.shard_position(self.name, 0)
                told = confirmed if self.bus.ordered else told
                if published:
                    published |= {self._partition(event): event.position for event in page.events}
                    yield SourcePage(
                        (), msgspec.structs.replace(page.token, published=dict(published))
                    )
                else:
                    yield SourcePage((), page.token)
        finally:
            fetch.cancel()
            await asyncio.gather(fetch, return_exceptions=True)
            await close_iterator(pages)

    async def _complete(self, token: Token, *, page_size: int) -> dict[int, int]:
        """Publish again what the bus had confirmed, and has lost; return what it says it has.

        The token stays: who is interrupted here finds the same missing again.
        """
        stored = await self.bus.stored(self.name, self._epoch)
        missing = [n for p, n in stored.items() if n < token.published.get(p, 0)]
        if missing:
            begin, end = min(missing), token.shard_position(self.name, 0)
            _log.error("the bus has lost events, which are published again", relay=self.name,
                       after=begin, until=end)  # fmt: skip
            [log] = self.store.shards
            pages = log.read(after=begin, until=end, page_size=page_size)
            try:
                confirmed = begin
                async for page in pages:
                    await self.bus.publish([self._outgoing(e, confirmed) for e in page.events])
                    confirmed = page.through
            finally:
                await close_iterator(pages)
        return stored

    def _ends(self, published: Mapping[int, int]) -> tuple[int, ...]:
        """Return what is said of the ends of what is confirmed; empty: it is not known."""
        return tuple(published[p] for p in range(self.bus.partitions)) if published else ()

    def _partition(self, event: RawEvent) -> int:
        return partition_of(event.stream, self.bus.partitions)

    def _outgoing(self, event: RawEvent, confirmed: int) -> BusEvent:
        return BusEvent(
            source=self.name,
            epoch=self._epoch,
            position=event.position,
            stream=event.stream,
            version=event.version,
            type=event.type,
            type_version=event.type_version,
            time=event.time,
            tags=event.tags,
            data=event.data,
            metadata=event.metadata,
            confirmed=event.position if self.bus.ordered else confirmed,
        )


class _Relaying(Unhandled):
    """What there is to do with what was published: nothing but to remember how far that is."""

    source: _Published
    remedy = (
        "bring back the log that it has followed; what subscribers have of it cannot be taken back"
    )

    async def ask(self) -> None:
        """See `Applier.ask`."""
        await super().ask()
        await self.source.bus.end()


def relays_of(
    store: StreamStore,
    bus: Outlet,
    *,
    name: str,
    views: ViewStore,
    owner: str,
    settings: ProcessorSettings = DEFAULTS,
) -> list[Relay]:
    """Return the relays that publish a store, one for each of its logs; arguments as for `Relay`.

    They are claimed one by one, so that instances share them, and one whose log is away holds up
    none of the others.
    """
    return [
        Relay(
            log,
            bus,
            name=log_name(name, shard),
            epoch=store.epoch,
            views=views,
            owner=owner,
            settings=settings,
        )
        for shard, log in enumerate(store.shards)
    ]
