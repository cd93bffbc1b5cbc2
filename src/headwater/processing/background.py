"""Background tasks: each runs in one process at a time of all that share a view store."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from headwater.errors import HeadwaterError, Unavailable
from headwater.processing.handling.failures import describe, is_of_callee
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.processing.sources.tokens import Token
from headwater.views import Segment, ViewStore

_log = structlog.get_logger("headwater.processing")
_STOP_S = 10.0  # so long a task has to end when it is told to
_STEADY_S = 60.0  # who ran for so long before it failed begins with the first pause again
_LATE_FAILURES = 3  # failures in a row that a person is told of

Function = Callable[[], Awaitable[None]]


class BackgroundStatus(msgspec.Struct, frozen=True):
    """What becomes of a task in this process.

    Attributes:
        name: its name.
        active: whether it runs here.
        done: it has returned here; it runs again where somebody else takes it up.
        failures: how often it failed here.
        failure: why, the last time; empty when it runs well.
    """

    name: str
    active: bool
    done: bool
    failures: int
    failure: str


class BackgroundTask:
    """Runs a function wherever the claim is held, and cancels it when the claim is lost.

    The claim is a lease in the view store, renewed while the function runs. A process that cannot
    renew it cancels the function before the lease ends, so that no two run at once; only one that
    stands still for longer than the lease (a stopped process, a blocked event loop) finds out when
    it goes on.
    """

    def __init__(
        self,
        function: Function,
        *,
        name: str,
        views: ViewStore,
        owner: str,
        settings: ProcessorSettings = DEFAULTS,
    ) -> None:
        """Wire up; nothing runs before `start`.

        Args:
            function: what to run; one that returns has done its work in this process.
            name: of the claim.
            views: where that is kept.
            owner: names this process, uniquely among all that share the view store.
            settings: how long a lease is, and the pauses after failures.
        """
        self.name = name
        self._function = function
        self._views = views
        self._owner = owner
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self._restarted = True  # a claim of our name is from a former life
        self._active = self._done = False
        self._failures = self._in_a_row = 0
        self._failure = self._away = ""

    async def start(self) -> None:
        """Make the claim, and begin to try for it.

        Raises:
            StoreUnavailable: the view store is away.
        """
        await self._views.open_segments(self.name, count=1, token=Token().text, generation=1)
        self._task = asyncio.create_task(self._keep_trying(), name=self.name)

    async def stop(self) -> None:
        """Cancel the function, wait until it has ended, and give the claim back. Twice is fine."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def status(self) -> BackgroundStatus:
        """Return what becomes of it here."""
        failure = self._failure or self._away
        return BackgroundStatus(self.name, self._active, self._done, self._failures, failure)

    @property
    def concern(self) -> str:
        """What a person should look at, empty when all is well."""
        if self._in_a_row < _LATE_FAILURES:
            return ""
        return f"failed {self._in_a_row} times in a row, and is tried again: {self._failure}"

    async def _keep_trying(self) -> None:
        while True:
            pause_s = self._settings.renew_s
            try:
                claimed, pause_s = await self._try()
                self._away = ""
                if claimed is not None:
                    await self._work(claimed)
                    continue
            except HeadwaterError as error:
                if not self._away:
                    _log.warning("cannot look", task=self.name, reason=describe(error))
                self._away = describe(error)
            await asyncio.sleep(pause_s)

    async def _try(self) -> tuple[Segment | None, float]:
        """Claim it if nobody has it; else return how long to wait, seconds."""
        [segment] = await self._views.segments(self.name)
        now = await self._views.now()
        restarted = self._restarted and segment.owner == self._owner
        if segment.is_held(now) and not restarted:
            ends_s = max(segment.lease_until - now, self._settings.renew_s / 10)
            return None, min(self._settings.renew_s, ends_s)
        claimed = await self._views.claim(
            segment, owner=self._owner, lease_s=self._settings.lease_s, restarted=restarted
        )
        self._restarted = False
        return claimed, self._settings.renew_s / 5

    async def _work(self, claimed: Segment) -> None:
        """Run the function again and again while the claim is ours."""
        self._in_a_row, self._done, self._failure = 0, False, ""
        running = asyncio.create_task(self._run(), name=f"{self.name} at work")
        try:
            await self._hold(claimed)
        finally:
            running.cancel()
            await asyncio.wait([running], timeout=_STOP_S)
            self._active = self._done = False
            if running.done():  # else the lease ends by itself, which leaves more time
                with contextlib.suppress(Unavailable, TimeoutError):
                    async with asyncio.timeout(self._settings.lease_s):
                        await self._views.release([claimed])
            else:
                _log.error("does not end though it was cancelled", task=self.name)
        await asyncio.wait([running])  # or there would be two of it here

    async def _hold(self, claimed: Segment) -> None:
        """Renew the claim until it is lost, or might be."""
        settings = self._settings
        ends = time.monotonic() + settings.lease_s  # as it was renewed before, it ends later
        while True:
            await asyncio.sleep(settings.renew_s)
            asked = time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, ends - settings.renew_s / 2 - asked)):
                    renewed = await self._views.renew([claimed], lease_s=settings.lease_s)
            except (HeadwaterError, TimeoutError) as error:
                if time.monotonic() >= ends - settings.renew_s:
                    _log.warning(
                        "the claim may be lost, so it is cancelled",
                        task=self.name,
                        reason=describe(error),
                    )
                    return
                continue
            if not renewed:
                _log.warning("the claim was lost, so it is cancelled", task=self.name)
                return
            ends = asked + settings.lease_s

    async def _run(self) -> None:
        """Run the function until it returns; after an error again, with back-off."""
        while True:
            began = time.monotonic()
            self._active = True
            try:
                await self._function()
            except BaseException as error:
                if not is_of_callee(error):
                    raise
                self._active = False
                if time.monotonic() - began > _STEADY_S:
                    self._in_a_row = 0
                self._failed(error)
            else:
                self._active, self._done, self._failure, self._in_a_row = False, True, "", 0
                return
            await asyncio.sleep(self._settings.back_off(self._in_a_row))

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        self._in_a_row += 1
        self._failure = describe(error)
        more: dict[str, Any] = {} if isinstance(error, Unavailable) else {"exc_info": error}
        _log.error(
            "a background task failed, and is tried again",
            task=self.name,
            reason=self._failure,
            failures=self._in_a_row,
            **more,
        )


__all__ = ["BackgroundStatus", "BackgroundTask"]
