"""The relay: a processor from the local store to the event bus."""

import asyncio
import contextlib
from typing import Any

import msgspec

from headwater.errors import AheadOfLog, ClaimLost, Unavailable
from headwater.eventbus import BusEvent, EventBus
from headwater.eventstore import EventStore, Page, StoredEvent, StreamStore
from headwater.processing.running.back_off import BackOff
from headwater.processing.running.claims import Claims, ProcessorMember
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.store import StoreSource
from headwater.processing.sources.tokens import Token, log_name, store_token, token_of
from headwater.views import Segment, ViewStore

_STOP_S = 10.0
_SAVE_S = 0.02  # checkpoints are this far apart; what comes between would be published again


class RelayStatus(msgspec.Struct, frozen=True):
    """How far a relay is. ``failure`` is what keeps it from working at the moment."""

    name: str
    active: bool
    position: int
    head: int
    failure: str


class Relay:
    """Publishes the events of a store, all and in order, on the bus.

    A sharded store has a relay for each of its logs (see `relays_of`), as each has positions of
    its own, by which subscribers find out what they have seen.

    One process at a time holds the claim. The checkpoint, kept in the view store, is the end of
    the contiguous prefix that the bus has confirmed; after an error or a crash it publishes again
    from there, so that nothing is lost, and subscribers skip what they have seen.
    """

    def __init__(
        self,
        store: EventStore,
        bus: EventBus,
        *,
        name: str,
        epoch: str,
        views: ViewStore,
        owner: str,
        settings: ProcessorSettings = DEFAULTS,
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
        """
        self.name = f"relay-{name}"
        self._source = StoreSource(store, name)
        self._service = name
        self._epoch = epoch
        self._store = store
        self._bus = bus
        self._views = views
        self._settings = settings
        self.claims = Claims(self.name, self._source, views, owner=owner, settings=settings)
        self._claimed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._position = 0
        self._last: tuple[int, int] | None = None  # the last event that was published
        self._saved = (0, 0)  # fence and position
        self._back_off = BackOff(self.name, settings)
        self._unclaimed = BackOff(self.name, settings)  # what keeps it from looking after the claim

    async def start(self) -> None:
        """Claim the relay if nobody has it, and begin to publish.

        Raises:
            StoreUnavailable: the view store is away.
        """
        try:
            await self._views.ensure([ProcessorMember])
            await self._look()
        except BaseException:
            await self.stop()
            raise
        self._tasks = [
            asyncio.create_task(self._run(), name=self.name),
            asyncio.create_task(self._keep_looking(), name=f"{self.name} claims"),
        ]

    async def stop(self) -> None:
        """Finish the batch at hand, then give the claim back. Twice is fine."""
        self._stopping.set()
        self._claimed.set()
        tasks, self._tasks = self._tasks, []
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Unavailable):  # the lease ends by itself
            await self.claims.release_all()

    async def status(self) -> RelayStatus:
        """Return how far it is, also when another process holds the claim."""
        segments = await self._views.segments(self.name)
        position = token_of(segments[0].token).position(self._service) if segments else 0
        return RelayStatus(
            name=self.name,
            active=bool(self.claims.held),
            position=max(position, self._position if self.claims.held else 0),
            head=await self._store.head(),
            failure=self.failure,
        )

    @property
    def failure(self) -> str:
        """What keeps it from working at the moment, empty when nothing does.

        It need not work while another process has the claim.
        """
        return self._unclaimed.failure or (self._back_off.failure if self.claims.held else "")

    # the claim --------------------------------------------------------------------------------

    async def _look(self) -> None:
        if not self.claims.generation:
            await self.claims.open(1, 1)
        await self.claims.share(await self._views.segments(self.name))
        if self.claims.held:
            if self._position and await self._source.lost(self._token(self._position)):
                await self.claims.release_all()  # who takes it anew finds out, and says so
            self._claimed.set()

    async def _keep_looking(self) -> None:
        while not await self._pause(self.claims.pause_s):
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001  # whatever it is, look again later
                self._unclaimed.met(error)
            else:
                self._unclaimed.over()

    async def _pause(self, seconds: float) -> bool:
        """Wait; return whether it is time to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    # the work ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._claimed.clear()
            if not self.claims.held:
                await self._claimed.wait()
                continue
            claim = self.claims.held[0]
            try:
                await self._publish_all(claim)
            except ClaimLost:
                if self._held(claim):  # else it is claimed anew already
                    self.claims.lose([0])
            except Exception as error:  # noqa: BLE001  # publish again from the checkpoint
                await self._pause(self._back_off.met(error))

    async def _publish_all(self, claim: Segment) -> None:
        """Publish from the checkpoint on, until the claim is lost or it is time to stop."""
        position = await self._begin(claim)
        pages = self._store.follow(after=position, page_size=self._settings.page_size)
        stop: asyncio.Future[Any] = asyncio.ensure_future(self._stopping.wait())
        fetch: asyncio.Future[Page] | None = None
        saving: asyncio.Task[None] | None = None
        try:
            while self._held(claim):
                fetch = asyncio.ensure_future(anext(pages))
                await self._first(fetch, stop)
                if stop.done() or not self._held(claim):
                    break
                page = fetch.result()
                if page.events:
                    await self._bus.publish([self._outgoing(event) for event in page.events])
                self._published(page)
                if saving is None or saving.done():
                    if saving is not None:
                        saving.result()
                    saving = asyncio.create_task(self._save(claim))
            if saving is not None:
                await saving
            if self._held(claim):
                await self._save(claim)
        finally:
            for task in (fetch, stop, saving):
                if task is not None:
                    task.cancel()
            await asyncio.gather(
                *(task for task in (fetch, stop, saving) if task is not None),
                return_exceptions=True,
            )
            await close_iterator(pages)

    async def _first(self, fetch: asyncio.Future[Page], stop: asyncio.Future[Any]) -> None:
        """Wait for a page or the end; after a failure see whether all is there again meanwhile."""
        look_s = self._back_off.look_s
        both: list[asyncio.Future[Any]] = [fetch, stop]
        done, _ = await asyncio.wait(both, timeout=look_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            await self._store.head()
            await self._bus.end()
            self._back_off.over()
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)

    async def _begin(self, claim: Segment) -> int:
        """Return from where to publish.

        Raises:
            TokenMismatch, AheadOfLog: what was published is not in the log any more.
        """
        token = token_of(claim.token)
        self._source.check(token)
        if reason := await self._source.lost(token):
            raise AheadOfLog(
                store=self._service,
                processor=self.name,
                reason=reason,
                remedy="bring back the log that it has followed; what subscribers have of it "
                "cannot be taken back",
            )
        position = max(token.position(self._service), self._position_of(claim))
        self._position, self._last = position, token.last.get(0)
        return position

    def _published(self, page: Page) -> None:
        self._position = page.through
        if page.events:
            self._last = (page.events[-1].position, page.events[-1].time)
        self._back_off.over()

    def _position_of(self, claim: Segment) -> int:
        """Return what was confirmed under this very claim but not yet saved."""
        return self._saved[1] if self._saved[0] == claim.fence else 0

    def _held(self, claim: Segment) -> bool:
        held = self.claims.held.get(0)
        return held is not None and held.fence == claim.fence

    async def _save(self, claim: Segment) -> None:
        """Save the end of what is confirmed, until nothing new was confirmed meanwhile."""
        await self._pause(_SAVE_S)
        saved = -1
        while saved != self._position:
            saved = self._position
            token = self._token(saved)
            async with self._views.transaction() as transaction:
                await transaction.advance([claim], token.text)
            self._saved = (claim.fence, saved)

    def _token(self, position: int) -> Token:
        last = {0: self._last} if self._last else {}
        return store_token(self._service, self._store.epoch, position, last=last)

    def _outgoing(self, event: StoredEvent) -> BusEvent:
        return BusEvent(
            source=self._service,
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
        )


def relays_of(
    store: StreamStore,
    bus: EventBus,
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
