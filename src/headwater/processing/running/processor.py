"""A processor: a named set of handlers over a source, working on the segments it holds."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from headwater.errors import AheadOfLog, HeadwaterError, NotCaughtUp, Unavailable
from headwater.messages import ConsistencyToken
from headwater.modelling.event_handlers import EventHandlers
from headwater.processing.generations.lineage import Lineage
from headwater.processing.generations.own_views import OwnViews
from headwater.processing.generations.switch_over import SwitchOver
from headwater.processing.handling.applier import Applier
from headwater.processing.handling.dead_letters import (
    DeadLetter,
    first_letter,
    forget_former,
    queue_of,
    sequence_key_of,
)
from headwater.processing.handling.failures import describe
from headwater.processing.running.claims import Claims, ProcessorMember, successor_of
from headwater.processing.running.pausing import ProcessorPause, pause_of
from headwater.processing.running.progress import Progress
from headwater.processing.running.projector import applier_of
from headwater.processing.running.replaying import first_token, replaying
from headwater.processing.running.status import (
    BusyStatus,
    LocalStatus,
    SegmentGroupStatus,
    WaitingStatus,
)
from headwater.processing.running.worker import Worker
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.processing.sources.fan_out import Fanout
from headwater.processing.sources.source import Source
from headwater.processing.sources.tokens import Token, token_of
from headwater.views import Segment, ViewStore

_log = structlog.get_logger("headwater.processing")
_ISOLATED_PAGE_SIZE = 20  # events whose handlers run again when the claim or the process is lost
_TOLD_MAX = 5  # sequences that are told by name
_LATE_TRIES = 3  # what fails more often than this is told
_BUSY_S = 1.0  # a handler that takes longer is shown
_LATE_S = 30.0  # one that takes longer is told
_STOP_S = 10.0  # a handler that has not returned by then is cancelled


class Processor:
    """Runs handlers over a source, sharing the work with all processes on the same view store."""

    def __init__(
        self,
        handlers: EventHandlers | type[EventHandlers] | Applier,
        *,
        source: Source,
        views: ViewStore,
        owner: str,
        settings: ProcessorSettings = DEFAULTS,
        generation: int | None = None,
        own: OwnViews | None = None,
    ) -> None:
        """Wire up; nothing runs before `start`.

        Args:
            handlers: a projection or event handlers, an object or a class without arguments.
            source: what it follows.
            views: where its views and tokens are.
            owner: names this process, uniquely among all that share the view store.
            settings: how it works.
            generation: work on this generation of the views (None: the active one of its code).
            own: through what the handlers of the whole program read views; None: its own alone.

        Raises:
            DeclarationError: the handlers are declared wrongly.
        """
        self._own = own or OwnViews(views)
        self.applier = applier_of(handlers, source=source, views=views, own=self._own)
        self.name = self.applier.name
        self.source = self.applier.source
        self.views = views
        self.owner = owner
        settings = msgspec.structs.replace(settings, retry=self.applier.policy or settings.retry)
        self._settings = settings
        self._fixed = generation
        self.claims = Claims(self.name, self.source, views, owner=owner, settings=settings)
        self.paused: ProcessorPause | None = None
        if generation is None:  # a rebuild is somebody's wish
            self.claims.paused = self._find_pause
        self.progress = Progress(self.applier, views, self.claims)
        self._workers: dict[int, Worker] = {}  # by segment, if each has its own
        self._fanout: Fanout | None = None
        if self.applier.isolated:
            size = min(settings.page_size, _ISOLATED_PAGE_SIZE)
            self._settings = msgspec.structs.replace(settings, page_size=size)
            if not self.source.rereads:
                self._fanout = Fanout(self.source, self.applier.types, size)
        else:
            self._worker(None)
        self.applier.wake = self._wake_workers
        self.applier.clock = self.claims.clock
        self._switch_over = SwitchOver(self.applier, views)
        self._lineage = Lineage(self.applier, views, settings)
        self._filled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False
        self._stopping = False
        self._look_failure = ""
        self._ahead = ""
        self._stopped: AheadOfLog | None = None
        self._checked = 0  # the generation whose tokens were compared with the log
        self._checked_at = 0.0  # monotonic seconds

    async def start(self) -> None:
        """Make room for the views, claim a share of the segments, and begin to work.

        Raises:
            ConfigurationError: the stored views have another shape: rebuild the projection.
            StoreUnavailable: the view store is away.
        """
        try:
            await self.views.ensure(
                [DeadLetter, ProcessorMember, ProcessorPause, *self.applier.shared_views]
            )
            await self._look()
        except BaseException:
            await self.stop()
            raise
        for worker in self._workers.values():
            self._tasks.append(asyncio.create_task(worker.run(), name=f"{self.name} worker"))
        self._started = True
        self._tasks.append(asyncio.create_task(self._keep_looking(), name=f"{self.name} claims"))

    async def stop(self) -> None:
        """Finish the batch at hand, then give the claims back. Twice is fine."""
        self._stopping = True
        for worker in self._workers.values():
            worker.stopping = True
            worker.wake()
        self.claims.lost.set()
        tasks, self._tasks = self._tasks, []
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.applier.close()
        await self.progress.close()
        with contextlib.suppress(Unavailable):  # the leases end by themselves
            await self.claims.release_all()

    def wake(self) -> None:
        """Look for due work and for changes of claims now, not at the next turn."""
        self._wake_workers()
        self.claims.lost.set()

    async def wait_for(self, token: ConsistencyToken, *, timeout_s: float) -> None:
        """Return when the views show everything up to a token; see `Progress.wait_for`.

        Works in any process, also in one where the processor was not started.

        Raises:
            NotCaughtUp: not within ``timeout_s``.
            EventParked, TokenMismatch, MalformedMessage: they never will, as things are.
            AheadOfLog: they are of another log, and are not filled anew by themselves.
        """
        if self._stopped is not None:
            raise self._stopped
        await self.progress.wait_for(token, timeout_s=timeout_s)

    @property
    def is_filled(self) -> bool:
        """Whether the views have shown once what there was; else queries would miss something."""
        return self._filled.is_set()

    async def filled(self) -> None:
        """Return as soon as `is_filled`."""
        await self._filled.wait()

    async def unfilled(self) -> NotCaughtUp:
        """Return the error for who asks before `is_filled`."""
        head = await self.source.head()
        found = [self.source.measure(token, head) for token in self.progress.tokens.values()]
        return NotCaughtUp(
            processor=self.name,
            position=min((measure.position for measure in found), default=0),
            expected=max((measure.head for measure in found), default=0),
            waited_s=0.0,
            why=" (its views are being filled for this version of the program)"
            if self.paused is None
            else f" (it is {self.paused.told(now=self.claims.clock())})",
        )

    async def status(self) -> LocalStatus:
        """Return what this process does; for all processes see `ProcessorAdmin.status`.

        Raises:
            StoreUnavailable: the source cannot be asked for its head.
        """
        head = await self.source.head()
        groups = await self._resting(head) if self.paused is not None else []
        workers = list(self._workers.values())
        for group in [group for worker in workers for group in worker.groups]:
            measure = self.source.measure(group.token, head)
            groups.append(
                SegmentGroupStatus(
                    segments=tuple(sorted(group.indices)),
                    position=measure.position,
                    head=measure.head,
                    error=group.error,
                    attempts=group.tries,
                )
            )
        waiting = sorted(
            (one for worker in workers for one in worker.retries.waiting.values()),
            key=lambda one: one.due,
        )
        parked = {s for worker in workers for s in worker.committer.parked}
        letters = await self._letters() if parked else 0
        parked.difference_update(one.sequence for one in waiting)
        return LocalStatus(
            name=self.name,
            generation=self.claims.generation,
            groups=tuple(groups),
            handled=sum(worker.committer.handled for worker in workers),
            parked=len(parked) if letters else 0,
            failure=self.failure,
            letters=letters,
            waiting=tuple(
                WaitingStatus(one.sequence, one.due, one.attempts, one.error) for one in waiting
            ),
            busy=self._busy(_BUSY_S),
            failures=sum(worker.retries.failures for worker in workers),
            retries=sum(worker.retries.retried for worker in workers),
            paused=self.paused,
        )

    async def _resting(self, head: Token) -> list[SegmentGroupStatus]:
        """Return where the segments are that nobody has; how far they are is in the store."""
        await self.progress.look()
        groups = [group for worker in self._workers.values() for group in worker.groups]
        here = {index for group in groups for index in group.indices}
        found = []
        for index, token in self.progress.tokens.items():
            if index not in here:
                measure = self.source.measure(token, head)
                found.append(SegmentGroupStatus((index,), measure.position, measure.head))
        return found

    async def _find_pause(self) -> bool:
        """Whether it is paused; what was found is told in `status`."""
        found = await pause_of(self.views, self.name)
        if (found is None) != (self.paused is None):
            told = "paused" if found is not None else "resumed"
            _log.info(told, processor=self.name, reason="" if found is None else found.reason)
        self.paused = found
        return found is not None

    @property
    def failure(self) -> str:
        """What keeps it from working at the moment, empty when nothing does."""
        workers = self._workers.values() if self.claims.held else ()  # else others have the work
        return self._ahead or next((w.failure for w in workers if w.failure), self._look_failure)

    def _busy(self, least_s: float) -> tuple[BusyStatus, ...]:
        now = time.monotonic()
        every = [(one, now - one.since) for one in self.applier.busy.values()]
        return tuple(
            BusyStatus(one.handler, one.type, one.stream, one.position, seconds)
            for one, seconds in every
            if seconds >= least_s
        )

    async def _letters(self) -> int:
        queue = queue_of(self.name, self.claims.generation)
        return await self.views.count(DeadLetter, where={"queue": queue})

    async def concerns(self) -> list[str]:
        """Return for a person what waits for its next try for a while, or is parked."""
        workers = self._workers.values()
        pause = [self.paused.told(now=self.claims.clock())] if self.paused is not None else []
        waiting = {name: one for w in workers for name, one in w.retries.waiting.items()}
        late = [one for one in waiting.values() if one.tries >= _LATE_TRIES]
        told = [f"{one.sequence!r} waits for its next try: {one.error}" for one in late[:_TOLD_MAX]]
        told += [
            f"{one.handler} is at work on {one.type} at position {one.position} of {one.stream!r} "
            f"for {one.seconds:.0f} s"
            for one in self._busy(_LATE_S)
        ]
        queue = queue_of(self.name, self.claims.generation)
        parked = sorted({name for w in workers for name in w.committer.parked} - waiting.keys())
        more = max(0, len(late) - _TOLD_MAX) + max(0, len(parked) - _TOLD_MAX)
        for name in parked[:_TOLD_MAX]:
            letter = await first_letter(self.views, sequence_key_of(queue, name))
            if letter is not None:  # else a person has seen to it
                told.append(
                    f"{name!r} is parked: {letter.error}: see `headwater dead-letters show "
                    f"{self.name} {name}`"
                )
        return [*pause, *told, *([f"and {more} more sequences"] if more else ())]

    def _worker(self, only: int | None) -> Worker:
        """Return a new worker: for all segments here, or for the one of a number."""
        worker = Worker(
            self.applier,
            self.views,
            claims=self.claims,
            progress=self.progress,
            settings=self._settings,
            only=only,
            follow=self._fanout.follow if self._fanout is not None else None,
        )
        self._workers[-1 if only is None else only] = worker
        return worker

    def _staff(self) -> None:
        """See to it that each segment held has its worker, if a slow one must not hold up others.

        One without work just waits, until its segment comes back.
        """
        for index in self.claims.held.keys() - self._workers.keys():
            worker = self._worker(index)
            if self._started:
                name = f"{self.name} worker {index}"
                self._tasks.append(asyncio.create_task(worker.run(), name=name))

    def _wake_workers(self) -> None:
        for worker in self._workers.values():
            worker.wake()

    async def _keep_looking(self) -> None:
        lost = self.claims.lost
        while not self._stopping:
            lost.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await lost.wait()
            try:
                if not self._stopping:
                    await self._look()
                self._look_failure = ""
            except Exception as error:  # noqa: BLE001  # whatever it is, look again later
                if not self._look_failure:
                    known = isinstance(error, HeadwaterError)
                    more: dict[str, Any] = {} if known else {"exc_info": error}
                    reason = describe(error)
                    _log.warning("cannot look", processor=self.name, reason=reason, **more)
                self._look_failure = describe(error)

    @property
    def _pause_s(self) -> float:
        pause, filling = self.claims.pause_s, self._settings.renew_s / 20
        return pause if self.is_filled or self._look_failure else min(pause, filling)

    def _changed(self, working: int, segments: Sequence[Segment], active: int) -> bool:
        """Whether other segments are to be worked on than those that the claims know."""
        if working != self.claims.generation:
            return True
        count = sum(s.generation == working for s in segments)
        if count == 0:  # dropped: a rebuild that was begun anew, or one that became active
            return working > active
        return count != self.claims.count

    async def _beginning(self, segments: Sequence[Segment], working: int, active: int) -> Token:
        """Return where the segments of a generation begin, if they are yet to be made.

        Raises:
            ConfigurationError: see `first_token`.
        """
        if any(segment.generation == working for segment in segments):
            return Token()  # which nobody will see
        if working == active:
            return await first_token(self.applier)
        return await replaying(self.source, await self.source.begin())

    async def _look(self) -> None:
        """See which generation is to be worked on, and take our share of it."""
        segments = await self.views.segments(self.name)
        active, complete, _ = await self._lineage.open()  # after them: what it has is among them
        successor = 0 if self._fixed else successor_of(segments, active)
        working = self._fixed or successor or active
        if working != active or not complete:  # each time, as others may have begun it anew
            await self.views.ensure(self.applier.views, generation=working, processor=self.name)
        if self._changed(working, segments, active):
            if working != active:
                await forget_former(self.views, self.name, working)
            elif complete:
                wanted_in = working if self.applier.code else None
                await self.views.ensure(
                    self.applier.views, generation=wanted_in, processor=self.name
                )
            wanted = sum(s.generation == active for s in segments) or self.applier.segments
            await self.claims.open(
                working, wanted, await self._beginning(segments, working, active)
            )
            segments = await self.views.segments(self.name)
        if await self._is_ahead(segments, active, working):
            return
        await self.claims.share(segments)
        if not self._fixed:
            await self._show(segments, active, successor, complete=complete)
        held = list(self.claims.held.values())
        await self.applier.refresh(self.views, held)
        if self.applier.isolated and not self._stopping:
            self._staff()
        self._wake_workers()

    async def _is_ahead(self, segments: Sequence[Segment], active: int, working: int) -> bool:
        """Whether the log was cut or replaced: then what is there must not pass for known.

        Views that are nothing but a fold of the log are filled anew; all else is for a person.
        """
        if self._checked == working and time.monotonic() < self._checked_at + self._check_s:
            self._ahead = "" if working == active else self._ahead
            return False
        reason = ""
        for text in {s.token for s in segments if s.generation == working}:
            reason = reason or await self.source.lost(token_of(text))
        self._checked, self._checked_at = working, time.monotonic()
        if not reason:
            self._stopped = None
            if working == active:
                self._ahead = ""
            return False
        self._checked = 0
        anew = bool(self.applier.code) and not self._fixed
        error = AheadOfLog(
            store=self.source.name or "the event bus", processor=self.name, reason=reason
        )
        if remedy := "its views are being filled anew" if anew else self.applier.remedy:
            error = error.replaced(remedy=remedy)
        self._stopped = None if anew else error
        if self._ahead != str(error):
            self._ahead = str(error)
            _log.error("views are ahead of their log", processor=self.name, reason=self._ahead)
        await self.claims.release_all()
        self.progress.forget()
        if anew:
            await self._switch_over.freeze(active, await self._lineage.following(working))
            self.wake()
        else:
            self._filled.set()  # there is nothing to wait for: the others of the program go on
        return True

    @property
    def _check_s(self) -> float:
        return self._settings.renew_s * 5

    async def _show(
        self, segments: Sequence[Segment], active: int, successor: int, *, complete: bool
    ) -> None:
        """Say what readers see; make it complete, or its successor active, if that is time."""
        self.progress.use(
            active,
            sum(s.generation == active for s in segments),
            all_local=not successor and 0 < len(self.claims.held) == self.claims.count,
        )
        working = successor or active
        if working != active or not complete:
            with contextlib.suppress(Unavailable):  # then there is no telling yet
                if await self._switch_over.finish(segments, working):
                    complete, active, self._ahead = True, working, ""
                    self.progress.use(working, self.claims.count)
        self._own.use(self.applier, active)
        if complete and not self._ahead:
            self._filled.set()
        elif not complete and not successor:
            self._filled.clear()
        dropped = await self._lineage.keep(active)
        if dropped:
            _log.info("views of other code were dropped", processor=self.name, generations=dropped)
