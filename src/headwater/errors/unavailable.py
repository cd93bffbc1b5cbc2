"""Errors of what is away, late or strange at the moment."""

from headwater.errors.base import HeadwaterError, Outcome

_DOUBT = (
    "; it is unknown whether it was {done}: look, or send it again with the same Idempotency-Key"
)


class Unavailable(HeadwaterError):
    """Something is away at the moment; trying again later is sensible."""

    status = 503
    retry_after_s: float = 1.0


class Overloaded(Unavailable):
    """More requests are waiting than the service accepts."""

    limit: int
    template = "{limit} requests are in progress, no more are accepted: retry later"


class Draining(Unavailable):
    """The instance is stopping."""

    service: str
    template = "{service} is stopping and accepts no more work: retry on another instance"


class NoInstance(Unavailable):
    """No live instance of a service is registered."""

    service: str
    template = "no live instance of {service!r} is registered: start one, or retry later"


class NotKnownYet(Unavailable):
    """A registry that has just come up, or is away, cannot tell whether something is there."""

    what: str
    template = (
        "whether {what} is there is not known yet: not everyone had the time to register since the "
        "registry came up: retry later"
    )


class WrongService(Unavailable):
    """A request for one service reached an instance of another, which did nothing with it."""

    status = 421
    expected: str
    actual: str
    template = (
        "this is an instance of {actual!r}, the request is for {expected!r}: retry on an instance "
        "of that"
    )


class CircuitOpen(Unavailable):
    """Calls are suspended after repeated failures."""

    target: str
    template = "calls to {target!r} are suspended after repeated failures: retry later"


class Unreachable(Unavailable):
    """No connection could be made; nothing was sent."""

    target: str
    reason: str
    template = "{target} cannot be reached: {reason}: check that it runs, or retry later"


class ConnectionLost(Unavailable):
    """The connection broke before the answer was complete; the request may have been handled."""

    outcome: Outcome = "unknown"
    target: str
    reason: str
    template = "{target} closed the connection before it answered ({reason}): retry"
    _doubt = _DOUBT.format(done="carried out")


class NotCaughtUp(Unavailable):
    """A view did not reach the caller's consistency token within the time allowed.

    ``why`` is what keeps it from that, as far as can be told.
    """

    processor: str
    position: int
    expected: int
    waited_s: float
    why: str = ""
    template = (
        "{processor!r} is at position {position}, the token asks for {expected}, waited "
        "{waited_s:.3f} s{why}: retry, or ask without a token to accept older data"
    )


class StoreUnavailable(Unavailable):
    """A database cannot be opened, is locked or is away."""

    outcome: Outcome = "unknown"
    store: str
    reason: str
    template = "store {store!r} is unavailable: {reason}"
    _doubt = _DOUBT.format(done="stored")


class DiskFull(Unavailable):
    """The disk that holds a database is full; nothing of the write was stored."""

    store: str
    template = "the disk of store {store!r} is full: free space; nothing was stored"


class DeadlineExceeded(HeadwaterError):
    """The time allowed for a request has passed."""

    outcome: Outcome = "unknown"
    status = 504
    action: str
    timeout_s: float
    template = "{action} did not finish within {timeout_s:.3f} s: retry with a longer deadline"
    _doubt = _DOUBT.format(done="carried out")


class RemoteError(HeadwaterError):
    """Another system answered with an error that is not one of ours."""

    outcome: Outcome = "unknown"
    status = 502
    source: str
    remote_status: int
    detail: str
    remote_code: str = ""
    template = "{source} answered {remote_status}: {detail}"
