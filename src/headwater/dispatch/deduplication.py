"""One idempotency key, one outcome: also while the first send under it is under way.

The event store knows what was stored under a key, and checks it with every append. What it cannot
know is that a command with the key is on its way: its repetition may be decided on what the first
leaves behind, and be refused. So within a process a repetition waits for the first; and nothing
that would contradict a stored outcome is told before the key was looked up. A refusal is an
outcome only if the sender asks for it: it is kept, and holds for all sends that are on their way.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from contextvars import ContextVar

import msgspec

from headwater.dispatch.api import CommandMessage, CommandNext, CommandResult, LookUp
from headwater.errors import (
    DeadlineExceeded,
    HeadwaterError,
    IdempotencyKeyReused,
    Unavailable,
)

_LEFT_MAX = 10_000
_NO_VERDICT = (Unavailable, DeadlineExceeded)
"""Errors that contradict no outcome: they ask to try again."""

_Identity = tuple[str, str, str, str]
_held: ContextVar[frozenset[_Identity]] = ContextVar("headwater_held_keys", default=frozenset())


class Deduplication:
    """What is under way under idempotency keys in this process.

    Sends are the same when key, content, tenant and principal are. Of sends that are the same one
    is carried out at a time, in order of arrival: the others get its result, or their turn when
    it ended without one. Who differs in anything is left to the event store, which knows best.
    """

    def __init__(self) -> None:
        """Nothing is under way."""
        self._waiting: dict[_Identity, deque[asyncio.Future[CommandResult | None]]] = {}
        self._left: dict[_Identity, None] = {}  # cancelled under way; the oldest first

    def step(self, proceed: CommandNext, look_up: LookUp | None, *, eager: bool) -> CommandNext:
        """Return a step of a command's chain that takes care of its key, if it has one.

        Args:
            proceed: the rest of the chain.
            look_up: finds what is stored under a key; None where nothing is.
            eager: look before proceeding; else the append finds a repetition out, which is
                enough when nothing happens on the way to it.
        """

        def step(message: CommandMessage) -> Awaitable[CommandResult]:
            if not message.idempotency_key:
                return proceed(message)
            return self._once(message, proceed, look_up, eager=eager)

        return step

    async def _once(
        self, message: CommandMessage, proceed: CommandNext, look_up: LookUp | None, *, eager: bool
    ) -> CommandResult:
        about = message.metadata
        identity = message.idempotency_key, message.fingerprint, about.tenant, about.principal
        held = _held.get()
        if identity in held:  # inside of what is under way: it cannot wait for itself
            return await _checked(message, proceed, look_up)
        first = await self._turn(identity)
        if first is not None:
            return msgspec.structs.replace(first, duplicate=True)
        result: CommandResult | None = None
        before = _held.set(held | {identity})
        try:
            settled = identity in self._left
            if look_up is not None and (eager or settled):
                result = await look_up(message, settled=settled)
                self._left.pop(identity, None)
            if result is None:
                result = await _checked(message, proceed, look_up)
        except Exception:
            raise
        except BaseException:  # cancelled: what it has submitted may still be stored
            self._leave(identity)
            raise
        finally:
            _held.reset(before)
            self._end(identity, result)
        return result

    async def _turn(self, identity: _Identity) -> CommandResult | None:
        """Wait for the one that is under way; None when there is none, or no more."""
        waiting = self._waiting.get(identity)
        if waiting is None:
            self._waiting[identity] = deque()
            return None
        turn: asyncio.Future[CommandResult | None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result() is None:
                self._end(identity, None)
            raise

    def _end(self, identity: _Identity, result: CommandResult | None) -> None:
        """Tell those who wait the result; without one let the first of them try."""
        waiting = self._waiting[identity]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(result)
                if result is None:
                    return
        del self._waiting[identity]

    def _leave(self, identity: _Identity) -> None:
        self._left[identity] = None
        if len(self._left) > _LEFT_MAX:
            del self._left[next(iter(self._left))]


async def _checked(
    message: CommandMessage, proceed: CommandNext, look_up: LookUp | None
) -> CommandResult:
    """Proceed; a refusal or fault counts only if there is still nothing stored under the key."""
    try:
        return await proceed(message)
    except _NO_VERDICT:
        raise
    except IdempotencyKeyReused:
        if look_up is not None:
            await look_up(message)  # raises the refusal that is kept under it, if that is why
        raise
    except Exception as error:
        refusal = None
        if message.keep_refusal and isinstance(error, HeadwaterError) and error.decided:
            refusal = error
        first = None if look_up is None else await look_up(message, refusal=refusal)
        if first is None:
            raise
        return first


__all__ = ["Deduplication"]
