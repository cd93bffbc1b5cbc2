"""Group commit: appends that wait for the next transaction, in which each has its own verdict.

A store takes requests in, a technology carries batches of them out, and each verdict goes to
whoever waits for it.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

from headwater.errors import HeadwaterError, Overloaded, StoreUnavailable
from headwater.eventstore.api import (
    AppendCondition,
    Appended,
    Idempotency,
    Pipeline,
    Snapshot,
    StreamWrite,
)
from headwater.eventstore.checks import check_writes, stored_before
from headwater.eventstore.recent import Recent


class Append:
    """An append that waits; ``events`` and ``size`` (bytes) are its extent, where that matters."""

    __slots__ = ("condition", "events", "future", "idempotency", "pipeline", "size", "writes")

    def __init__(
        self,
        writes: Sequence[StreamWrite],
        condition: AppendCondition | None,
        idempotency: Idempotency | None,
        pipeline: Pipeline | None,
        future: asyncio.Future[Appended],
        *,
        events: int = 0,
        size: int = 0,
    ) -> None:
        self.writes = writes
        self.condition = condition
        self.idempotency = idempotency
        self.pipeline = pipeline
        self.future = future
        self.events = events
        self.size = size


class Save:
    """A snapshot that waits to be stored with the next transaction."""

    __slots__ = ("future", "pipeline", "snapshot")

    def __init__(self, snapshot: Snapshot, future: asyncio.Future[None]) -> None:
        self.snapshot = snapshot
        self.future = future
        self.pipeline: Pipeline | None = None


class Refusal:
    """An append that was refused at once; it breaks its pipeline only when its turn comes."""

    __slots__ = ("error", "pipeline")

    def __init__(self, error: HeadwaterError, pipeline: Pipeline) -> None:
        self.error = error
        self.pipeline = pipeline


Request = Append | Save | Refusal
Verdict = Appended | HeadwaterError | None


class GroupCommit(ABC):
    """The side of a store on which appends come in and verdicts go out, on the event loop."""

    def __init__(self, *, pending_max: int) -> None:
        """Take at most so many requests that wait for their place in a transaction."""
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Request] = deque()
        self._pending_max = pending_max
        self._accepted = 0
        self._closed = False
        self._recent = Recent()

    @abstractmethod
    def _name(self) -> str:
        """Return what the store is called in messages."""

    @abstractmethod
    def _begin(self) -> None:
        """Have what is pending carried out, unless that is under way."""

    @abstractmethod
    def _wake(self) -> None:
        """Wake who follows, after a batch."""

    def _extent_of(self, writes: Sequence[StreamWrite]) -> tuple[int, int]:  # noqa: ARG002  # for those that have a bound
        """Return how many events there are in some writes, and their bytes."""
        return 0, 0

    async def append(
        self,
        writes: Sequence[StreamWrite],
        *,
        condition: AppendCondition | None = None,
        idempotency: Idempotency | None = None,
        pipeline: Pipeline | None = None,
    ) -> Appended:
        """See `StreamStore.append`.

        Raises:
            Overloaded: too many appends are waiting; nothing was stored.
        """
        self._check_open()
        try:
            check_writes(writes, idempotency)
            events, size = self._extent_of(writes)
            self._check_room()
        except HeadwaterError as error:
            if pipeline is not None:
                self._enqueue(Refusal(error, pipeline))
            raise
        future: asyncio.Future[Appended] = self._loop.create_future()
        self._enqueue(
            Append(writes, condition, idempotency, pipeline, future, events=events, size=size)
        )
        return await future

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open it again"
            raise StoreUnavailable(store=self._name(), reason=reason, outcome="not stored")

    def _check_room(self) -> None:
        if self._accepted >= self._pending_max:
            raise Overloaded(limit=self._pending_max)

    def _enqueue(self, request: Request) -> None:
        self._accepted += 1
        self._pending.append(request)
        self._begin()

    def _settle(self, batch: Sequence[Request], verdicts: Sequence[Verdict]) -> None:
        """Tell those who wait what became of their requests."""
        self._accepted -= len(batch)
        for request, verdict in zip(batch, verdicts, strict=True):
            if isinstance(request, Refusal):
                continue
            if isinstance(verdict, Appended) and isinstance(request, Append):
                if not verdict.duplicate:
                    self._recent.add(request.writes, verdict)
            elif isinstance(verdict, StoreUnavailable):
                self._recent.forget()  # it may come back with less than it had
            future: asyncio.Future[Any] = request.future
            if future.done():
                continue
            if isinstance(verdict, HeadwaterError):
                future.set_exception(verdict)
            else:
                future.set_result(verdict)
        self._wake()


def break_pipelines(requests: Sequence[Request], verdicts: Sequence[Verdict]) -> None:
    """Break the pipelines of requests that failed, or turned out to be stored before."""
    for request, verdict in zip(requests, verdicts, strict=True):
        pipeline = request.pipeline
        if pipeline is None or pipeline.broken is not None:
            continue
        if isinstance(verdict, HeadwaterError):
            pipeline.broken = verdict
        elif verdict is not None and verdict.duplicate and isinstance(request, Append):
            pipeline.broken = stored_before(request.idempotency.key if request.idempotency else "")


__all__ = ["Append", "GroupCommit", "Refusal", "Request", "Save", "Verdict", "break_pipelines"]
