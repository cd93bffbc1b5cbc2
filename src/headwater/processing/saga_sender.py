"""Sends the commands of sagas: in order within a saga, many sagas at once, until acknowledged."""

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Collection

import msgspec

from headwater.dispatch import CommandBus
from headwater.errors import (
    AggregateExists,
    Conflict,
    HeadwaterError,
    IdempotencyKeyReused,
    Rejection,
)
from headwater.messages import Command, handling
from headwater.processing.dead_letters import describe
from headwater.processing.saga_views import PendingCommand
from headwater.processing.settings import ProcessorSettings

_log = logging.getLogger(__name__)


class Outgoing:
    """A command on its way; or why it cannot be sent, which is waited for like what is away."""

    __slots__ = ("command", "dropped", "error", "row", "segment", "tries")

    def __init__(self, row: PendingCommand, command: Command | Exception, segment: int) -> None:
        """Not tried yet."""
        self.row = row
        self.command = command
        self.segment = segment
        self.tries = 0
        self.error = ""
        self.dropped = False


class Outcome(msgspec.Struct, frozen=True):
    """A command was acknowledged, or refused for good with ``error``."""

    sent: Outgoing
    error: HeadwaterError | None = None


def is_refusal(error: Exception) -> bool:
    """Whether trying again cannot help: a rejection, or another answer of the 4xx kind.

    Conflicts are worth another try, except that something exists already or a key was reused.
    """
    if isinstance(error, Rejection | AggregateExists | IdempotencyKeyReused):
        return True
    return (
        isinstance(error, HeadwaterError)
        and 400 <= error.status < 500
        and not isinstance(error, Conflict)
    )


class Sender:
    """A pool of tasks that send commands, one at a time for each saga."""

    def __init__(
        self,
        commands: CommandBus,
        *,
        concurrency: int,
        settings: ProcessorSettings,
        done: Callable[[Outcome], None],
    ) -> None:
        """Nothing is sent before the first `add`; ``done`` is told every outcome."""
        self._bus = commands
        self._concurrency = concurrency
        self._settings = settings
        self._done = done
        self._queues: dict[str, deque[Outgoing]] = {}
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._in_flight = 0

    @property
    def waiting(self) -> list[Outgoing]:
        """All commands that are not acknowledged yet."""
        return [outgoing for queue in self._queues.values() for outgoing in queue]

    @property
    def in_flight(self) -> int:
        """How many are being sent at this moment."""
        return self._in_flight

    def add(self, outgoing: Outgoing) -> None:
        """Send a command after those of the same saga that were added before."""
        queue = self._queues.get(outgoing.row.saga)
        if queue is None:
            self._queues[outgoing.row.saga] = deque([outgoing])
            self._ready.put_nowait(outgoing.row.saga)
        else:
            queue.append(outgoing)
        if len(self._tasks) < min(self._concurrency, len(self._queues)):
            # A context of its own: what is sent inherits from its cause, not from who is here now.
            context = contextvars.Context()
            self._tasks.append(asyncio.create_task(self._work(), context=context))

    def drop(self, segments: Collection[int]) -> None:
        """Forget the commands of segments that are not ours any more."""
        for saga, queue in list(self._queues.items()):
            if queue and queue[0].segment in segments:
                for outgoing in queue:
                    outgoing.dropped = True
                del self._queues[saga]

    async def close(self) -> None:
        """Stop sending. A command on its way may be carried out; it will be sent again."""
        for timer in self._timers:
            timer.cancel()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            saga = await self._ready.get()
            queue = self._queues.get(saga)
            if not queue:
                continue
            outgoing = queue[0]
            self._in_flight += 1
            try:
                error = await self._send(outgoing)
            finally:
                self._in_flight -= 1
            if outgoing.dropped:
                continue
            if error is not None and not is_refusal(error):
                self._again_later(outgoing, error)
                continue
            queue.popleft()
            if queue:
                self._ready.put_nowait(saga)
            else:
                del self._queues[saga]
            self._done(Outcome(outgoing, error if isinstance(error, HeadwaterError) else None))

    async def _send(self, outgoing: Outgoing) -> Exception | None:
        row = outgoing.row
        if isinstance(outgoing.command, Exception):
            return outgoing.command
        try:
            with handling(row.cause):
                await self._bus.send(outgoing.command, idempotency_key=row.idempotency_key)
        except Exception as error:  # noqa: BLE001  # each kind has its consequence
            return error
        return None

    def _again_later(self, outgoing: Outgoing, error: Exception) -> None:
        outgoing.tries += 1
        outgoing.error = describe(error)
        if outgoing.tries == 1:
            _log.warning("%s: %s; trying again", outgoing.row.id, outgoing.error)
        loop = asyncio.get_running_loop()

        def again() -> None:
            self._timers.discard(timer)
            self._ready.put_nowait(outgoing.row.saga)

        timer = loop.call_later(self._settings.back_off(outgoing.tries), again)
        self._timers.add(timer)
