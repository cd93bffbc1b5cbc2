"""A processor: a named set of handlers over a source, working on the segments it holds."""

import asyncio
import contextlib
import logging

import msgspec

from headwater.errors import HeadwaterError, Unavailable
from headwater.messages import ConsistencyToken
from headwater.processing.applier import Applier
from headwater.processing.claims import Claims, ProcessorMember, successor_of
from headwater.processing.dead_letters import DeadLetter, describe
from headwater.processing.declarations import EventHandlers
from headwater.processing.progress import Progress
from headwater.processing.projector import applier_of
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.processing.sources import Source
from headwater.processing.swap import Swap
from headwater.processing.worker import Worker
from headwater.views import ViewStore

_log = logging.getLogger(__name__)
_STOP_S = 10.0  # a handler that has not returned by then is cancelled


class LaneStatus(msgspec.Struct, frozen=True):
    """Segments of this process that are equally far.

    ``error`` and ``attempts`` tell of an event that is being retried.
    """

    segments: tuple[int, ...]
    position: int
    head: int
    error: str = ""
    attempts: int = 0

    @property
    def lag(self) -> int:
        """How many events are still to be read."""
        return max(0, self.head - self.position)


class LocalStatus(msgspec.Struct, frozen=True):
    """What a processor does in this process.

    Attributes:
        name: its name.
        generation: of the views it works on.
        lanes: its segments, by how far they are.
        handled: events handled since the start.
        parked: sequences that are known to be parked.
        failure: what keeps it from working at the moment, empty when nothing does.
    """

    name: str
    generation: int
    lanes: tuple[LaneStatus, ...]
    handled: int
    parked: int
    failure: str


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
    ) -> None:
        """Wire up; nothing runs before `start`.

        Args:
            handlers: a projection or event handlers, an object or a class without arguments.
            source: what it follows.
            views: where its views and tokens are.
            owner: names this process, uniquely among all that share the view store.
            settings: how it works.
            generation: work on this generation of the views (None: the active one, always).

        Raises:
            DeclarationError: the handlers are declared wrongly.
        """
        self.applier = applier_of(handlers, source=source, views=views)
        self.name = self.applier.name
        self.source = self.applier.source
        self.views = views
        self.owner = owner
        self._settings = settings
        self._fixed = generation
        self.claims = Claims(self.name, self.source, views, owner=owner, settings=settings)
        self.progress = Progress(self.name, self.source, views)
        self._worker = Worker(
            self.applier,
            views,
            claims=self.claims,
            progress=self.progress,
            settings=settings,
        )
        self.applier.wake = self._worker.wake
        self._swap = Swap(self.applier, views)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._trouble = ""

    async def start(self) -> None:
        """Make room for the views, claim a share of the segments, and begin to work.

        Raises:
            ConfigurationError: the stored views have another shape: rebuild the projection.
            StoreUnavailable: the view store is away.
        """
        try:
            await self.views.ensure([DeadLetter, ProcessorMember, *self.applier.shared_views])
            await self._look()
        except BaseException:
            await self.stop()
            raise
        self._tasks = [
            asyncio.create_task(self._worker.run(), name=f"{self.name} worker"),
            asyncio.create_task(self._keep_looking(), name=f"{self.name} claims"),
        ]

    async def stop(self) -> None:
        """Finish the batch at hand, then give the claims back. Twice is fine."""
        self._stopping = self._worker.stopping = True
        self._worker.wake()
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
        self._worker.wake()
        self.claims.lost.set()

    async def wait_for(self, token: ConsistencyToken, *, timeout_s: float) -> None:
        """Return when the views include everything up to a token; see `Progress.wait_for`.

        Works in any process, also in one where the processor was not started.

        Raises:
            NotCaughtUp: not within ``timeout_s``.
            TokenMismatch: the token was issued by a store that was replaced.
        """
        await self.progress.wait_for(token, timeout_s=timeout_s)

    async def status(self) -> LocalStatus:
        """Return what this process does; for all processes see `ProcessorAdmin.status`.

        Raises:
            StoreUnavailable: the source cannot be asked for its head.
        """
        head = await self.source.head()
        lanes = []
        for lane in self._worker.lanes:
            measure = self.source.measure(lane.token, head)
            lanes.append(
                LaneStatus(
                    segments=tuple(sorted(lane.indices)),
                    position=measure.position,
                    head=measure.head,
                    error=lane.error,
                    attempts=lane.tries,
                )
            )
        return LocalStatus(
            name=self.name,
            generation=self.claims.generation,
            lanes=tuple(lanes),
            handled=self._worker.committer.handled,
            parked=len(self._worker.committer.parked),
            failure=self._worker.failure or self._trouble,
        )

    async def _keep_looking(self) -> None:
        lost = self.claims.lost
        while not self._stopping:
            pause = self._settings.renew_s
            lost.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if self.claims.satisfied else pause / 5):
                    await lost.wait()
            try:
                if not self._stopping:
                    await self._look()
                self._trouble = ""
            except Exception as error:  # noqa: BLE001  # whatever it is, look again later
                if not self._trouble:
                    known = isinstance(error, HeadwaterError)
                    _log.warning(
                        "%s: %s", self.name, describe(error), exc_info=None if known else error
                    )
                self._trouble = describe(error)

    async def _look(self) -> None:
        """See which generation is to be worked on, and take our share of it."""
        active = await self.views.generation(self.name)
        segments = await self.views.segments(self.name)
        successor = 0 if self._fixed else successor_of(segments, active)
        working = self._fixed or successor or active
        if working != self.claims.generation:
            await self.views.ensure(self.applier.views, generation=working)
            await self.claims.open(working, self.applier.segments)
            segments = await self.views.segments(self.name)
        await self.claims.share(segments)
        if not self._fixed:
            self.progress.use(
                active,
                sum(s.generation == active for s in segments),
                all_local=working == active and 0 < len(self.claims.held) == self.claims.count,
            )
        if successor and await self._swap.finish(segments, active, successor):
            self.progress.use(successor, self.claims.count)
        held = list(self.claims.held.values())
        await self.applier.refresh(self.views, held)
        self._worker.wake()
