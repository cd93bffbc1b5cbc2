"""Rebuild a projection beside the one in service, then switch over: readers notice nothing."""

import asyncio
import time
from collections.abc import Callable

import msgspec

from headwater.errors import InvalidInput
from headwater.modelling.event_handlers import EventHandlers
from headwater.processing.generations.lineage import Lineage
from headwater.processing.generations.switch_over import SwitchOver, reached
from headwater.processing.handling.applier import Applier
from headwater.processing.handling.dead_letters import DeadLetter, forget_former
from headwater.processing.running.claims import successor_of
from headwater.processing.running.processor import Processor
from headwater.processing.running.projector import applier_of
from headwater.processing.running.replaying import replaying
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.source import Source
from headwater.processing.sources.tokens import Token, token_of
from headwater.views import Segment, ViewStore

_REPORT_S = 0.1


class RebuildProgress(msgspec.Struct, frozen=True):
    """How far a rebuild or replay is.

    Attributes:
        generation: the one being filled.
        position: of the segment that is furthest behind.
        head: where it is going.
        events_per_s: since the start.
        done: the generation is in service.
    """

    generation: int
    position: int
    head: int
    events_per_s: float
    done: bool = False


Report = Callable[[RebuildProgress], None]


async def rebuild(
    handlers: EventHandlers | type[EventHandlers] | Applier,
    *,
    source: Source,
    views: ViewStore,
    owner: str,
    settings: ProcessorSettings = DEFAULTS,
    progress: Report | None = None,
    join: bool = False,
    segments: int = 0,
) -> int:
    """Fill the next generation of a projection's views, make it active, and return its number.

    (That of a later one, if a replay or another rebuild has overtaken this one meanwhile.)
    Queries see the old generation all the time, and then the new one, which is at least as far.
    The work is claimed in segments as usual: any number of processes may call this at the same
    time and share it, each with an ``owner`` of its own. Processors in service go on with the new
    generation by themselves if they have the same code; those of other versions keep theirs.

    Cancellation, or a crash, before the switch-over changes nothing for readers; call it again to
    begin anew. Once the switch-over has begun, running processors finish it.

    Args:
        handlers: the projection, as it is to be from now on.
        source: what it follows.
        views: the view store.
        owner: names this process.
        settings: how it works.
        progress: called about ten times a second, and at the end with ``done``.
        join: help with a rebuild that another process has begun, even if nobody seems to be
            working on it right now, instead of beginning anew; return when there is none.
        segments: into how many the new generation is divided; 0: as many as the active one has.
            It stays at that.

    Raises:
        StoreUnavailable: a store is away; during the filling it is waited for instead.
    """
    applier = applier_of(handlers, source=source, views=views)
    rebuilding = _Rebuild(applier, views, settings, progress or (lambda _: None))
    return await rebuilding.run(owner, join=join, count=segments)


class _Rebuild:
    def __init__(
        self, applier: Applier, views: ViewStore, settings: ProcessorSettings, report: Report
    ) -> None:
        self._applier = applier
        self._source = applier.source
        self._views = views
        self._settings = settings
        self._report = report
        self._switch_over = SwitchOver(applier, views)
        self._lineage = Lineage(applier, views)
        self._began = self._reported = 0.0
        self._first = -1

    async def run(self, owner: str, *, join: bool, count: int) -> int:
        name, views = self._applier.name, self._views
        active, wanted = await self._begun(join=join)
        if join and not wanted:
            return active
        wanted = wanted or await self._lineage.following(active)
        if count:
            await views.ensure([DeadLetter])
            await forget_former(views, name, wanted)
            await views.open_segments(
                name,
                count=self._source.split(count),
                token=(await replaying(self._source, await self._source.begin())).text,
                generation=wanted,
            )
        processor = Processor(
            self._applier,
            source=self._source,
            views=views,
            owner=f"{owner}/rebuild",
            settings=self._settings,
            generation=wanted,
        )
        self._began = time.monotonic()
        await processor.start()
        changes = views.changes()
        try:
            await anext(changes)
            while not await self._finished(wanted):
                try:
                    async with asyncio.timeout(self._settings.renew_s):  # loses no cancellation
                        await anext(changes)
                except TimeoutError:  # that ended the iterator
                    changes = views.changes()
                    await anext(changes)
        finally:
            await close_iterator(changes)
            await processor.stop()
        return (await self._lineage.find()).active

    async def _begun(self, *, join: bool) -> tuple[int, int]:
        """Return the generation to be replaced, and the one that was begun; 0 for none.

        Unless we are to join, what somebody began and does not work on any more is dropped.
        """
        name, views = self._applier.name, self._views
        while True:
            segments = await views.segments(name)
            found = await (self._lineage.find() if join else self._lineage.open())
            active = found.active
            if not found.complete and not any(s.generation == active for s in segments):
                return 0, active  # the first one of this code, which nobody has begun to fill
            frozen = successor_of(segments, active)
            if not self._applier.code:
                newest = max((s.generation for s in segments), default=active)
                found = found._replace(newest=max(found.newest, newest))
            begun = frozen or (found.newest if found.newest > active else 0)
            if join or frozen or not begun:
                return active, begun
            try:
                if not await views.drop_generation(name, begun, self._applier.views):
                    return active, begun
            except InvalidInput:
                if (await self._lineage.find()).active == active:
                    raise

    async def _finished(self, wanted: int) -> bool:
        """Switch over as soon as the new generation is there; tell how far it is.

        What it replaces is what is active now: others may have switched over since it was begun.
        """
        name, views = self._applier.name, self._views
        found = await self._lineage.find()
        if found.complete and found.active >= wanted:
            await self._tell(wanted, [], done=True)
            return True
        active = found.active
        segments = await views.segments(name)
        await self._tell(wanted, segments)
        if active not in (0, wanted) and not successor_of(segments, active):
            head = await self._source.head()
            if not reached(self._applier, segments, wanted, head):
                return False
            await self._switch_over.freeze(active, wanted)
            segments = await views.segments(name)
            if not successor_of(segments, active):
                return False  # others have switched over meanwhile: look again
        if await self._switch_over.finish(segments, wanted):
            await self._tell(wanted, segments, done=True)
            return True
        return False

    async def _tell(self, wanted: int, segments: list[Segment], *, done: bool = False) -> None:
        now = time.monotonic()
        if not done and now < self._reported + _REPORT_S:
            return
        self._reported = now
        head = await self._source.head()
        position, end = position_of(self._source, segments, wanted, head)
        if done:
            position = max(position, end)
        if self._first < 0:
            self._first = position
        rate = (position - self._first) / max(now - self._began, 1e-9)
        self._report(RebuildProgress(wanted, position, end, rate, done))


def position_of(
    source: Source, segments: list[Segment], generation: int, head: Token
) -> tuple[int, int]:
    """Return the position of the segment that is furthest behind, and the head.

    For a bus, whose segments read different partitions, these are sums over all partitions.
    """
    measures = [
        source.measure(source.restrict(token_of(s.token), {s.index}, s.count), head)
        for s in segments
        if s.generation == generation
    ]
    if not measures:
        end = source.measure(head, head).head
        return end, end
    if source.rereads:
        return sum(m.position for m in measures), sum(m.head for m in measures)
    return min(m.position for m in measures), max(m.head for m in measures)
