"""Sends the commands of sagas: in order within a saga, many sagas at once, until acknowledged."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Collection

import msgspec
import structlog

from headwater.dispatch import CommandBus
from headwater.errors import CommandTooOld, HeadwaterError, IdempotencyKeyReused
from headwater.messages import Command, handling
from headwater.processing.handling.failures import describe, is_of_callee
from headwater.processing.sagas.views import PendingCommand
from headwater.processing.settings import ProcessorSettings

_LATE_TRIES = 4
_log = structlog.get_logger("headwater.processing")


class Outgoing:
    """A command on its way; or why it cannot be sent, which is waited for like what is away."""

    __slots__ = ("command", "error", "row", "segment", "tries")

    def __init__(self, row: PendingCommand, command: Command | Exception, segment: int) -> None:
        """Not tried yet."""
        self.row = row
        self.command = command
        self.segment = segment
        self.tries = 0
        self.error = ""


class Outcome(msgspec.Struct, frozen=True):
    """A command was acknowledged, or ended with ``error`` and is not sent again."""

    sent: Outgoing
    error: HeadwaterError | None = None


def ends(error: BaseException) -> bool:
    """Whether a command is not sent again after an error.

    It is when a handler decided about it, and when its key belongs to another command, which no
    repetition can change. Whatever else there is (nobody handles it yet, an older version cannot
    read it, it is not allowed, a service is away or overloaded) may be different next time.
    """
    return isinstance(error, HeadwaterError) and (
        error.decided or isinstance(error, IdempotencyKeyReused)
    )


class _SagaQueue:
    """The commands of one saga in order; the first may be on its way, or waiting to be repeated.

    A queue is in one place at a time: among those that are ready, at a worker, or at its timer.
    Once its commands are all sent, or its segment was given up, it is not used again: what comes
    later for the same saga is in another one.
    """

    __slots__ = ("commands", "saga", "timer")

    def __init__(self, saga: str) -> None:
        self.saga = saga
        self.commands: deque[Outgoing] = deque()
        self.timer: asyncio.TimerHandle | None = None


class Sender:
    """A pool of tasks that send commands, one at a time for each saga."""

    def __init__(
        self,
        commands: CommandBus,
        *,
        concurrency: int,
        settings: ProcessorSettings,
        clock: Callable[[], float],
        done: Callable[[Outcome], None],
        late: Callable[[Outgoing], None] = lambda _: None,
    ) -> None:
        """Nothing is sent before the first `add`.

        ``done`` is told every outcome, ``late`` now and then what is tried again and again.
        ``clock`` is the one by which commands are decided, seconds since 1970 UTC.
        """
        self._bus = commands
        self._concurrency = concurrency
        self._settings = settings
        self._done = done
        self._late = late
        self._clock = clock
        self._queues: dict[str, _SagaQueue] = {}
        self._ready: asyncio.Queue[_SagaQueue] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight = 0

    @property
    def waiting(self) -> list[Outgoing]:
        """All commands that are not acknowledged yet."""
        return [outgoing for queue in self._queues.values() for outgoing in queue.commands]

    @property
    def in_flight(self) -> int:
        """How many are being sent at this moment."""
        return self._in_flight

    def add(self, outgoing: Outgoing) -> None:
        """Send a command after those of the same saga that were added before."""
        queue = self._queues.get(outgoing.row.saga)
        if queue is None:
            queue = self._queues[outgoing.row.saga] = _SagaQueue(outgoing.row.saga)
            self._ready.put_nowait(queue)
        queue.commands.append(outgoing)
        # One on its way may be of a queue that was given up, and hold its task for a while.
        if len(self._tasks) < min(self._concurrency, len(self._queues) + self._in_flight):
            # A context of its own: what is sent inherits from its cause, not from who is here now.
            context = contextvars.Context()
            self._tasks.append(asyncio.create_task(self._work(), context=context))

    def drop(self, segments: Collection[int]) -> None:
        """Forget the commands of segments that are not ours any more.

        One that is on its way is carried out or not; nobody here hears of it.
        """
        for queue in list(self._queues.values()):
            if queue.commands[0].segment in segments:
                self._end(queue)

    async def close(self) -> None:
        """Stop sending. A command on its way may be carried out; it will be sent again."""
        for queue in list(self._queues.values()):
            self._end(queue)
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_current(self, queue: _SagaQueue) -> bool:
        return self._queues.get(queue.saga) is queue

    def _end(self, queue: _SagaQueue) -> None:
        del self._queues[queue.saga]
        if queue.timer is not None:
            queue.timer.cancel()

    async def _work(self) -> None:
        while True:
            queue = await self._ready.get()
            if not self._is_current(queue):
                continue
            outgoing = queue.commands[0]
            self._in_flight += 1
            try:
                error = await self._send(outgoing)
            finally:
                self._in_flight -= 1
            if not self._is_current(queue):
                continue
            if error is not None and not (ends(error) or isinstance(error, CommandTooOld)):
                self._again_later(queue, outgoing, error)
                continue
            queue.commands.popleft()
            if queue.commands:
                self._ready.put_nowait(queue)
            else:
                self._end(queue)
            self._done(Outcome(outgoing, error if isinstance(error, HeadwaterError) else None))

    async def _send(self, outgoing: Outgoing) -> BaseException | None:
        row = outgoing.row
        if isinstance(outgoing.command, Exception):
            return outgoing.command
        age_s, limit_s = self._clock() - row.since, self._settings.command_s
        if row.since and 0 < limit_s < age_s:  # a person can, knowing what became of it
            reason = outgoing.error or row.error or "no answer yet"
            return CommandTooOld(type=row.type, age_s=round(age_s), reason=reason)
        try:
            with handling(row.cause):
                await self._bus.send(
                    outgoing.command, idempotency_key=row.idempotency_key, keep_refusal=True
                )
        except BaseException as error:
            if not is_of_callee(error):
                raise
            return error  # each kind has its consequence
        return None

    def _again_later(self, queue: _SagaQueue, outgoing: Outgoing, error: BaseException) -> None:
        outgoing.tries += 1
        outgoing.error = describe(error)
        if outgoing.tries == 1:
            _log.warning(
                "a command was not sent, trying again",
                command=outgoing.row.id,
                reason=outgoing.error,
            )
        if outgoing.tries >= _LATE_TRIES and not outgoing.tries & (outgoing.tries - 1):
            self._late(outgoing)  # at the 4th try, the 8th, the 16th, ...
        delay_s = self._settings.back_off(outgoing.tries)
        queue.timer = asyncio.get_running_loop().call_later(delay_s, self._ready.put_nowait, queue)
