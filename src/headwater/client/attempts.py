"""One call, attempt by attempt: where to, how long, and whether once more."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, Protocol, TypeVar

import msgspec

from headwater.client.answers import error_of
from headwater.client.instances import REST_S_MAX, Group, Target
from headwater.client.messages import READS, Failure, Reply, Request
from headwater.client.retries import (
    RETRY_AFTER_S_MAX,
    RETRYABLE_STATUSES,
    backoff_s,
    is_safe,
    retry_after_s,
)
from headwater.errors import (
    CircuitOpen,
    DeadlineExceeded,
    HeadwaterError,
    NoInstance,
    Outcome,
    Overloaded,
    WrongService,
)
from headwater.messages.headers import TIMEOUT_MS

SLOW_S_MIN = 0.5  # an attempt that was cut shorter than this says nothing about the instance
RECONNECT_S_MAX = 0.2


class Answer(Protocol):
    """What an attempt yields, at least."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Case-insensitive."""


A = TypeVar("A", bound=Answer)
Send = Callable[[str, str, Request, Mapping[str, str]], Awaitable[A]]


class Policy:
    """How a caller treats its instances (see `HttpCaller`)."""

    __slots__ = ("eject_after", "limit", "patience_s", "random")

    def __init__(self, *, eject_after: int, limit: int, patience_s: float) -> None:
        """State the bounds."""
        self.eject_after = eject_after
        self.limit = limit
        self.patience_s = patience_s
        self.random = random.random


class Run(Generic[A]):
    """The attempts of one call."""

    __slots__ = (
        "_arrival", "_deadline", "_doubtful", "_endless", "_group", "_headers", "_policy",
        "_reconnects", "_request", "_send", "_timeout_s", "_tried", "_unreachable_until", "at",
    )  # fmt: skip

    def __init__(
        self,
        request: Request,
        group: Group,
        send: Send[A],
        *,
        headers: dict[str, str],
        deadline: float,
        timeout_s: float,
        policy: Policy,
        arrival: Callable[[float], Awaitable[None]] | None,
        tried: set[str] | None,
        endless: bool,
    ) -> None:
        """Prepare.

        Args:
            request: what to send.
            group: whom to choose from.
            send: makes one attempt.
            headers: to send; the time left is added unless the answer is endless.
            deadline: `time.monotonic` seconds.
            timeout_s: the time until then, for messages.
            policy: the caller's bounds.
            arrival: waits until discovery knows an instance; None for a plain base URL.
            tried: instances to avoid if possible.
            endless: the answer is a stream.
        """
        self._request = request
        self._group = group
        self._send = send
        self._arrival = arrival
        self._headers = headers
        self._deadline = deadline
        self._timeout_s = timeout_s
        self._policy = policy
        self._endless = endless
        self._doubtful = False  # an earlier attempt may have been carried out
        self._reconnects = 0
        self._unreachable_until = 0.0
        self._tried = set() if tried is None else tried
        self.at = ""

    async def answer(self) -> A:
        """Return the first answer that is not worth another attempt, or the last one.

        Raises:
            HeadwaterError: there is none. Its outcome is that of all attempts.
        """
        try:
            answer = await self._answer()
        except HeadwaterError as error:
            error.outcome = self._outcome(error.outcome)
            raise
        if self._doubtful and isinstance(answer, Reply) and answer.status >= 500:
            outcome = self._outcome(error_of(answer, "").outcome)
            answer = msgspec.structs.replace(answer, outcome=outcome)
        return answer

    def _outcome(self, last: Outcome) -> Outcome:
        """Return the outcome of all attempts from that of the last one."""
        if self._request.method in READS:
            return "not stored"
        return "unknown" if self._doubtful and last == "not stored" else last

    async def _answer(self) -> A:
        request = self._request
        retries = request.retries
        if retries and not is_safe(request.method, request.headers, idempotent=request.idempotent):
            retries = 0
        attempt = 0
        while True:
            target = await self._target()
            try:
                answer = await self._attempt(target, retries - attempt + 1)
            except Failure as failure:
                if not failure.sent:
                    if await self._elsewhere(target):
                        continue
                    raise failure.error from failure
                delay: float | None = backoff_s(attempt, self._policy.random)
                if failure.final or attempt >= retries or not self._fits(target, delay):
                    raise failure.error from failure
                self._doubtful = True
            else:
                if answer.status not in RETRYABLE_STATUSES or attempt >= retries:
                    return answer
                delay = self._pause(target, answer, attempt)
                if not self._fits(target, delay):
                    return answer
                self._doubtful = self._doubtful or _may_be_stored(answer)
                _drop(answer)
            attempt += 1
            self._tried.add(target.id)
            await asyncio.sleep(delay or 0.0)

    async def _target(self) -> Target:
        group, key = self._group, self._request.routing_key
        group.refresh()
        if not group.targets and self._arrival is not None:
            until = min(self._deadline, time.monotonic() + self._policy.patience_s)
            await self._arrival(until)
            if not group.targets:
                raise NoInstance(service=self._request.service)
        target = group.pick(key=key, tried=self._tried)
        if target is None and self._tried:
            target = group.pick(key=key)
        if target is None:
            target = self._last_resort()
        return target

    def _last_resort(self) -> Target:
        """Choose when all are ejected, resting or full.

        Of several that discovery vouches for, the one due first is tried all the same: ejecting
        everything would turn partial trouble into an outage. Of a plain URL, and of a service with
        one instance, the open circuit spares the caller the wait and the server the load.
        """
        target = self._group.least_bad()
        if target is None:
            raise Overloaded(limit=self._policy.limit)
        if self._shut(target):
            left = max(0.1, target.ejected_until - time.monotonic())
            raise CircuitOpen(target=target.url, retry_after_s=left)
        return target

    def _shut(self, target: Target) -> bool:
        several = self._arrival is not None and len(self._group.targets) > 1
        if several or not target.ejected_until:
            return False
        return not target.usable(time.monotonic())

    async def _attempt(self, target: Target, attempts_left: int) -> A:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(
                action=self._request.action, timeout_s=self._timeout_s, outcome="not stored"
            )
        headers = self._headers
        if not self._endless:
            headers[TIMEOUT_MS] = str(int(left * 1000) or 1)
        share = left / attempts_left
        policy = self._policy
        self.at = target.id
        probe = target.begin()
        try:
            async with asyncio.timeout(share):
                answer = await self._send(target.url, target.id, self._request, headers)
            if answer.status == WrongService.status:
                raise self._misdirected(answer)
        except TimeoutError:
            if share >= min(SLOW_S_MIN, self._own_share_s() / 2):
                target.failed(time.monotonic(), eject_after=policy.eject_after)
            late = DeadlineExceeded(action=self._request.action, timeout_s=self._timeout_s)
            raise Failure(late, sent=True) from None
        except Failure as failure:
            # A call that keeps trying to connect to a restarting server counts as one failure.
            if not failure.final and (failure.sent or not self._reconnects):
                # Who refuses connections is down for certain; others can take over at once.
                alone = failure.sent or len(self._group.targets) == 1
                eject_after = policy.eject_after if alone else 1
                target.failed(time.monotonic(), eject_after=eject_after)
            raise
        finally:
            target.end(probe=probe)
        if answer.status in RETRYABLE_STATUSES:
            self._note(target, answer)
        else:
            target.succeeded()
        return answer

    def _misdirected(self, answer: A) -> Failure:
        """Return what it is that an instance of another service did nothing."""
        _drop(answer)
        expected = self._request.service or self._request.url
        error: HeadwaterError = WrongService(expected=expected, actual="another service")
        if isinstance(answer, Reply):
            error = error_of(answer, self.at)
        return Failure(error, sent=False)

    def _own_share_s(self) -> float:
        """Return how long an attempt may take when the call has all the time that it asked for."""
        return self._request.timeout_s / (self._request.retries + 1)

    def _note(self, target: Target, answer: A) -> None:
        now = time.monotonic()
        asked = retry_after_s(answer.headers) if answer.status == 503 else None
        if asked is None:
            target.failed(now, eject_after=self._policy.eject_after)
        else:  # it is alive and says when to come back
            target.rest(now + min(asked, REST_S_MAX))

    async def _elsewhere(self, target: Target) -> bool:
        """After nothing was done: go on at once with another one, or after a pause, or not."""
        self._tried.add(target.id)
        if self._group.pick(tried=self._tried) is not None:
            return True
        now = time.monotonic()
        if not self._unreachable_until:
            self._unreachable_until = min(self._deadline, now + self._policy.patience_s)
        pause = min(0.02 * 2**self._reconnects, RECONNECT_S_MAX) * (0.5 + self._policy.random())
        if now + pause >= self._unreachable_until or self._shut(target):
            return False
        self._reconnects += 1
        self._tried.clear()
        await asyncio.sleep(pause)
        return True

    def _pause(self, target: Target, answer: A, attempt: int) -> float | None:
        """Return how long to wait before the next attempt, None when it is not worth it."""
        backoff = backoff_s(attempt, self._policy.random)
        asked = retry_after_s(answer.headers)
        if asked is None or self._group.pick(tried={*self._tried, target.id}) is not None:
            return backoff
        return None if asked > RETRY_AFTER_S_MAX else asked + backoff

    def _fits(self, target: Target, delay: float | None) -> bool:
        """Whether another attempt makes sense: in time, and not against a circuit just opened."""
        if delay is None or self._shut(target):
            return False
        return time.monotonic() + delay < self._deadline


def _may_be_stored(answer: object) -> bool:
    return not isinstance(answer, Reply) or error_of(answer, "").outcome != "not stored"


def _drop(answer: object) -> None:
    close = getattr(answer, "close", None)
    if close is not None:
        close()
