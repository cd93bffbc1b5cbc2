"""The loop that does a processor's work: reads pages, commits batches, looks after stragglers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence

from headwater.errors import ClaimLost, ConfigurationError, Unavailable
from headwater.processing.handling.applier import Applier, EventFailed
from headwater.processing.handling.dead_letters import first_letters, queue_of
from headwater.processing.handling.failures import describe
from headwater.processing.running.back_off import BackOff
from headwater.processing.running.claims import Claims
from headwater.processing.running.committer import Committer, noting_letters
from headwater.processing.running.progress import Progress
from headwater.processing.running.replaying import replayed
from headwater.processing.running.resizing import joined, moved, passed
from headwater.processing.running.retries import Retries
from headwater.processing.running.segment_groups import Poison, Reader, SegmentGroup
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.source import RawEvent, SourcePage
from headwater.processing.sources.tokens import Token, token_of
from headwater.views import Segment, ViewStore

_RETRIES_MAX = 50  # between two pages
_RETRIES_S = 0.2  # no further one is begun after that
_SKIPPED_EVENTS_MAX = 64  # what is read twice to find out whether there is something to do


class Worker:
    """Works on the segments that `Claims` holds, one transaction at a time.

    Segments that are equally far form a group, which is read once. The group that is furthest on
    follows the source; the others catch up with it, a page in turn, and then join it. An event
    that fails waits among the letters, and holds up its own sequence only.
    """

    def __init__(
        self,
        applier: Applier,
        views: ViewStore,
        *,
        claims: Claims,
        progress: Progress,
        settings: ProcessorSettings,
        only: int | None = None,
        follow: Callable[[Token], AsyncIterator[SourcePage]] | None = None,
    ) -> None:
        """Wire up; `run` does the work: on what is held, or ``only`` on the segment of a number.

        ``follow`` reads the source, if others read it, too.
        """
        self._applier = applier
        self._source = applier.source
        self._views = views
        self._claims = claims
        self._progress = progress
        self._settings = settings
        self._only = only
        self._follow = follow or self._follow_alone
        self.committer = Committer(applier, views, claims, settings)
        self.retries = Retries(applier, views, committer=self.committer, settings=settings)
        self.groups: list[SegmentGroup] = []
        self.stopping = False
        self._main: SegmentGroup | None = None
        self._reader: Reader | None = None
        self._read_by: SegmentGroup | None = None
        self._seen = (0, 0, 0)  # generation, count and revision of the claims
        self._generation = self._count = 0  # of the groups
        self._wake = asyncio.Event()
        self._back_off = BackOff(applier.name, settings)

    @property
    def failure(self) -> str:
        """What keeps it from working at the moment, empty when nothing does."""
        return self._back_off.failure

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    async def run(self) -> None:
        """Work until `stopping`; ends between two transactions, and gives nothing back."""
        try:
            while not self.stopping:
                try:
                    await self._round()
                except Exception as error:  # noqa: BLE001  # it must go on, whatever it is
                    await self._failed(error)
            with contextlib.suppress(Exception):  # else these events are skipped once more
                await self._commit_skipped([group for group in self.groups if group.commit_at])
        finally:
            await self._close_reader()

    async def _round(self) -> None:
        self._wake.clear()
        await self._adopt()
        worked = await self._retry()
        await self._choose_main()
        for group in [group for group in self.groups if group is not self._main and group.due]:
            await self._catch_up(group)
            worked = True
        if self._main is not None and self._reader is not None and self._reader.ready:
            try:
                page = self._applier.divided(self._reader.take())
            except Exception:
                await self._close_reader()
                raise
            if not self._skip(self._main, page):
                await self._handle(self._main, page)
            worked = True
        if self.groups and self._applier.due_s() == 0:
            await self._commit_skipped(self.groups)
            worked = True
        now = time.monotonic()
        if late := [group for group in self.groups if group.commit_at and group.commit_at <= now]:
            await self._commit_skipped(late)
            worked = True
        if not worked:
            await self._wait()

    async def _wait(self) -> None:
        """Wait for a page, for new claims, or until the next thing is due.

        What was away, and has nothing new when it is back, is asked: no event tells that it is.
        """
        loop = asyncio.get_running_loop()
        look_s = self._back_off.look_s
        if look_s == 0:
            await self._applier.ask()
            await self._views.segments(self._applier.name)
            self._back_off.over()
            look_s = None
        now = time.monotonic()
        delays = [group.not_before - now for group in self.groups if group is not self._main]
        if (retry_s := self.retries.due_s()) is not None:
            delays.append(retry_s)
        delays += [group.commit_at - now for group in self.groups if group.commit_at is not None]
        extra = self._applier.due_s()
        if extra is not None and self.groups:
            delays.append(extra)
        if look_s is not None:
            delays.append(look_s)
        timer = loop.call_later(max(0.0, min(delays)), self._wake.set) if delays else None
        await self._wake.wait()
        if timer is not None:
            timer.cancel()

    # claims -----------------------------------------------------------------------------------

    async def _adopt(self) -> None:
        """Bring the groups in line with the claims."""
        claims = self._claims
        if claims.surplus:
            given = frozenset(index for index in claims.surplus if self._works_on(index))
            claims.surplus -= given
            if given:
                await self._close_reader()  # a relay publishes what it reads
                await claims.release(given)
        seen = (claims.generation, claims.count, claims.revision)
        if self._seen == seen:
            return
        if self._seen[:2] != seen[:2]:
            self._applier.dropped([i for group in self.groups for i in group.indices])
            self.groups = []
            self.retries.keep(())
            await self._close_reader()
            self._generation, self._count = seen[:2]
        self._prune()
        known = {index for group in self.groups for index in group.indices}
        held = [claims.held[index] for index in sorted(claims.held) if index not in known]
        mine = [s for s in held if self._works_on(s.index)]
        await self._take([s for s in mine if (s.generation, s.count) == seen[:2]])
        self._seen = seen

    def _works_on(self, index: int) -> bool:
        return self._only is None or index == self._only

    def _prune(self) -> None:
        """Drop segments whose claim is not the one they were read under."""
        for group in self.groups:
            gone = [i for i, s in group.segments.items() if not self._claims.holds(s)]
            if gone:
                self._applier.dropped(gone)
                self._leave(group, gone)
        self._tidy()

    def _tidy(self) -> None:
        self.groups = [group for group in self.groups if group.segments]
        if self._main not in self.groups:
            self._main = None
        self.retries.keep({index for group in self.groups for index in group.indices})

    def _lost(self, group: SegmentGroup, index: int) -> None:
        """Drop a segment that somebody else has taken."""
        segment = group.segments.get(index)
        if segment is not None and self._claims.holds(segment):
            self._claims.lose([index])
        self._applier.dropped([index])
        self._leave(group, [index])
        self._tidy()

    def _leave(self, group: SegmentGroup, gone: Sequence[int]) -> None:
        """Take segments out of a group, and what belongs to them out of its token."""
        for index in gone:
            group.segments.pop(index, None)
        if group.segments:
            group.token = self._source.restrict(group.token, group.indices, self._count)

    async def _take(self, segments: Sequence[Segment]) -> None:
        """Make groups of newly claimed segments."""
        if not segments:
            return
        self._applier.count = self._count
        queue = queue_of(self._applier.name, self._generation)
        first = await first_letters(self._views, queue)
        self.committer.parked |= first.keys()
        self.retries.claimed(first, {segment.index for segment in segments})
        await self._applier.claimed(self._views, segments)
        for segment in segments:
            token = token_of(segment.token)
            self._source.check(token)
            token = self._source.restrict(token, {segment.index}, self._count)
            untold = bool(self.committer.parked) and not token.parked
            if untold:  # by an earlier release, or a replay has kept letters of older events
                token = noting_letters(token, parked=True)
            self._moved({segment.index}, token)
            for group in self.groups:
                both = joined(self._source, group.token, token) if group.due else None
                if both is not None and group is not self._main:
                    group.segments[segment.index] = segment
                    group.token = both
                    break
            else:
                group = SegmentGroup({segment.index: segment}, token)
                self.groups.append(group)
            if untold:
                group.skipped(group.token)  # so that it is committed soon

    # groups ------------------------------------------------------------------------------------

    async def _choose_main(self) -> None:
        """Let the group that is furthest on follow the source."""
        reached = self._source.reached
        best = self._main if self._main is not None and self._main.due else None
        for group in self.groups:
            if group.due and (
                best is None
                or (reached(group.token, best.token) and not reached(best.token, group.token))
            ):
                best = group
        self._main = best
        if best is not self._read_by:
            await self._close_reader()
        if best is not None and self._reader is None:
            pages, size = self._follow(best.token), self._settings.page_size
            self._reader, self._read_by = Reader(pages, self._wake.set, page_size=size), best
        elif self._reader is not None:
            self._reader.read_on()

    def _follow_alone(self, token: Token) -> AsyncIterator[SourcePage]:
        types, page_size = self._applier.types, self._settings.page_size
        return self._source.follow(token, types=types, page_size=page_size)

    async def _close_reader(self) -> None:
        if self._reader is not None:
            reader, self._reader, self._read_by = self._reader, None, None
            await reader.close()

    async def _catch_up(self, group: SegmentGroup) -> None:
        """Do one step for a group that is not the main one: read on, or join."""
        main = self._main
        if main is None:
            return
        both = joined(self._source, main.token, group.token)
        if both is not None:
            main.segments.update(group.segments)
            main.token = both
            self.groups.remove(group)
            if self._source.rereads:
                await self._close_reader()
            return
        pages = self._source.towards(
            group.token,
            main.token,
            types=self._applier.types,
            page_size=self._settings.page_size,
        )
        try:
            page = await anext(pages, None)
        except Unavailable as error:  # perhaps only of one shard: the other groups go on
            self._again_later(group, error)
            return
        finally:
            await close_iterator(pages)
        if page is not None:
            await self._handle(group, self._applier.divided(page))

    # pages ------------------------------------------------------------------------------------

    async def _handle(self, group: SegmentGroup, page: SourcePage) -> None:
        """Commit a page of a group, whatever it takes; events that fail become letters.

        When it ends without success (everything was lost, or stopping), the group is where it was.
        """
        careful = False
        done = False
        try:
            while not self.stopping and group.segments:
                events = self._own(group, page)
                token = self._after(group, page)
                known = replayed(self._applier, group.token, page)
                try:
                    token = await self.committer.commit(
                        group, events, token, careful=careful, replayed=known
                    )
                except EventFailed as failure:
                    self._blame(group, failure)
                except ClaimLost as lost:
                    self._lost(group, lost.segment)
                except (Unavailable, ConfigurationError) as error:
                    await self._failed(error)
                    self._prune()
                except Exception as error:  # noqa: BLE001  # find out which event it was
                    if careful:
                        await self._failed(error)
                    careful = True
                else:
                    group.advanced(token)
                    self.retries.written(self.committer.written)
                    self._moved(group.indices, token)
                    self._back_off.over()
                    done = True
                    return
        finally:
            if not done and group is self._main:
                await self._close_reader()  # the page was taken from it, but not handled

    def _skip(self, group: SegmentGroup, page: SourcePage) -> bool:
        """Pass over a page without an event for a group, if so; its token is committed later.

        Who waits here for that token need not wait for the commit: all that is of interest up to
        it was committed before.
        """
        if len(page.events) > _SKIPPED_EVENTS_MAX or self._own(group, page):
            return False
        token = self._after(group, page)
        group.skipped(token)
        self._moved(group.indices, token)
        return True

    async def _commit_skipped(self, groups: Sequence[SegmentGroup]) -> None:
        """Do what is due, and commit tokens that were only noted."""
        if not groups:
            return
        await self.committer.do_due(groups)
        for group in groups:
            group.commit_at = None
            self._moved(group.indices, group.token)
        self._back_off.over()

    def _moved(self, indices: Collection[int], token: Token) -> None:
        self._progress.moved(self._generation, self._count, indices, token)

    def _after(self, group: SegmentGroup, page: SourcePage) -> Token:
        """Return the token of a group that has handled a page."""
        token = self._source.restrict(page.token, group.indices, self._count)
        return moved(self._source, group.token, token)

    def _own(self, group: SegmentGroup, page: SourcePage) -> list[RawEvent]:
        """Return the events of a page that a group has still to handle.

        Of a sequence that is parked, or is about to be (``poison``), these are all that were
        delivered: whether an event that the handlers ignore is behind a letter is known by its
        own letter.
        """
        wants, parked, poison = self._applier.wants, self.committer.parked, group.poison
        events = page.events
        wanted = [wants(event.type) for event in events]
        if parked or poison:
            for n, event in enumerate(events):
                if not wanted[n] and (sequence := self._applier.sequence_of(event)):
                    wanted[n] = sequence in poison or sequence in parked
        if group.token.ahead:
            done = passed(self._applier, page, group.token)
            wanted = [w and not over for w, over in zip(wanted, done, strict=True)]
        if len(group.indices) != self._count:
            owners = self._applier.segments_of(page, self._count)
            wanted = [w and o in group.indices for w, o in zip(wanted, owners, strict=True)]
        return [event for event, take in zip(events, wanted, strict=True) if take]

    def _blame(self, group: SegmentGroup, failure: EventFailed) -> None:
        """Let an event become a letter; or its segment wait, if too many letters wait already."""
        event = failure.event
        sequence = self._applier.sequence_of(event)
        segment = self._applier.segment_of(event, sequence, self._count)
        if not self.retries.full(segment) or segment not in group.segments:
            self.retries.failed(event, sequence, failure.cause)
            group.poison[sequence] = Poison(event, failure.cause)
            return
        token = self._source.restrict(group.token, {segment}, self._count)
        alone = SegmentGroup({segment: group.segments[segment]}, token)
        alone.done, alone.tries = set(group.done), group.tries
        self._again_later(alone, failure.cause)
        self._leave(group, [segment])
        self.groups.append(alone)
        self._tidy()

    def _again_later(self, group: SegmentGroup, error: BaseException) -> None:
        group.error = describe(error)
        group.tries += 1
        group.not_before = time.monotonic() + self._settings.back_off(group.tries)

    async def _retry(self) -> bool:
        """Try again what is due; return whether there was something."""
        ends = time.monotonic() + _RETRIES_S
        for n in range(_RETRIES_MAX):
            over = self.stopping or time.monotonic() > ends
            one = None if over else self.retries.due()
            groups = [group for group in self.groups if one and one.segment in group.segments]
            if one is None or not groups:
                return n > 0
            group = groups[0]
            try:
                await self.retries.again(one, group.segments[one.segment], group.token)
            except ClaimLost as lost:
                self._lost(group, lost.segment)
        return True

    # failures ---------------------------------------------------------------------------------

    async def _failed(self, error: Exception) -> None:
        """Something other than an event failed: say so, wait, and go on."""
        if isinstance(error, ClaimLost):
            for group in self.groups:
                if error.segment in group.segments:
                    self._lost(group, error.segment)
            return
        pause = self._back_off.met(error)
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                while not self.stopping:
                    await self._wake.wait()
                    self._wake.clear()
