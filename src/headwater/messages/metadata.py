"""Metadata that travels with every message, and the context it is derived from.

While a message is handled, its metadata is the current context; messages sent from there take
its correlation id, name it as their cause, and carry its trace, principal and deadline on.
"""

import os
import time
from contextlib import AbstractContextManager
from contextvars import ContextVar

import msgspec
import uuid_utils

from headwater.errors import DeadlineExceeded
from headwater.messages.principal import Principal


class Metadata(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Who, when and why of one message.

    Attributes:
        id: UUIDv7 (RFC 9562), as text.
        correlation_id: the id of the first message of the whole conversation.
        causation_id: the id of the message that led to this one; empty for the first.
        time: when it was made, microseconds since 1970 UTC.
        traceparent: W3C trace context of the work that made it; empty without one.
        principal: who asked, as `Principal.name` has it; empty when unknown.
        tenant: for whom: the principal's, or else as the caller said; empty when unused.
    """

    id: str
    correlation_id: str = ""
    causation_id: str = ""
    time: int = 0
    traceparent: str = ""
    principal: str = ""
    tenant: str = ""


class Context(msgspec.Struct, frozen=True):
    """What a message inherits from the work that sends it."""

    metadata: Metadata
    deadline: float | None = None  # time.monotonic() seconds
    token: str = ""  # the consistency token that came with the request
    principal: Principal | None = None  # of the request; None: no request has led here


_CURRENT: ContextVar[Context | None] = ContextVar("headwater_context", default=None)


def new_id() -> str:
    """Return a new UUIDv7 as text: unique, and ordered by time."""
    return str(uuid_utils.uuid7())


def now_us() -> int:
    """Return the wall clock in microseconds since 1970 UTC."""
    return time.time_ns() // 1000  # noqa: TID251  # this is that one way


def current() -> Context | None:
    """Return the context of the message being handled, if any."""
    return _CURRENT.get()


def new_metadata() -> Metadata:
    """Return metadata for a new message, derived from the current context."""
    identity = str(uuid_utils.uuid7())
    context = _CURRENT.get()
    if context is None:
        return Metadata(id=identity, correlation_id=identity, time=now_us())
    cause = context.metadata
    return Metadata(
        id=identity,
        correlation_id=cause.correlation_id or cause.id,
        causation_id=cause.id,
        time=now_us(),
        traceparent=cause.traceparent,
        principal=cause.principal,
        tenant=cause.tenant,
    )


class _Handling:
    """The context manager of `handling`; a class, because it is on every hot path."""

    __slots__ = ("_before", "_deadline", "_metadata", "_principal", "_token")

    def __init__(
        self,
        metadata: Metadata,
        deadline: float | None,
        token: str,
        principal: Principal | None,
    ) -> None:
        self._metadata = metadata
        self._deadline = deadline
        self._token = token
        self._principal = principal

    def __enter__(self) -> None:
        deadline = self._deadline
        token = self._token
        principal = self._principal
        outer = _CURRENT.get()
        if outer is not None:
            token = token or outer.token
            principal = principal or outer.principal
            if outer.deadline is not None:
                deadline = outer.deadline if deadline is None else min(deadline, outer.deadline)
        self._before = _CURRENT.set(Context(self._metadata, deadline, token, principal))

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._before)


def handling(
    metadata: Metadata,
    *,
    deadline: float | None = None,
    token: str = "",
    principal: Principal | None = None,
) -> AbstractContextManager[None]:
    """Make a message the current context; a deadline is never later than the one around it.

    A consistency token is passed on with every call made in the context, so that services asked
    on the way see what the first caller has seen; one around it holds unless another is given, and
    so does the principal.
    """
    return _Handling(metadata, deadline, token, principal)


def remaining_s(*, default: float, action: str) -> float:
    """Return the seconds left for an action: the current deadline's, at most ``default``.

    Raises:
        DeadlineExceeded: nothing is left.
    """
    context = _CURRENT.get()
    if context is None or context.deadline is None:
        return default
    left = context.deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(action=action, timeout_s=0.0, outcome="not stored")
    return min(left, default)


def new_traceparent(parent: str = "") -> str:
    """Return a W3C traceparent: a child of ``parent``, else the root of a new, sampled trace.

    Source: W3C Trace Context, section 3.2; a malformed parent starts a new trace.
    """
    parts = parent.split("-")
    span = os.urandom(8).hex()
    if len(parts) == 4 and len(parts[1]) == 32 and len(parts[2]) == 16:
        return f"00-{parts[1]}-{span}-{parts[3]}"
    return f"00-{os.urandom(16).hex()}-{span}-01"
