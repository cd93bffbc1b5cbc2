"""One tree of errors, so that a caller can catch as widely or as narrowly as it likes.

::

    HeadwaterError
    ├── Rejection                     the domain says no; nothing was stored (subclass it)
    │   └── CommandRefused            to a saga: its command was refused, but not by the domain
    ├── InvalidInput                  400: the caller sent something that cannot be understood
    │   ├── MalformedMessage          not JSON, or of the wrong shape
    │   ├── UnknownMessage            a type name that nobody here handles
    │   └── TokenMismatch             a consistency token of another store
    ├── NotFound                      404
    │   ├── AggregateNotFound
    │   ├── ViewNotFound
    │   ├── InstanceNotFound          the registry has no such instance
    │   ├── ServiceNotFound           nothing is registered under the name
    │   ├── ChangeNotFound            the settings have no change of this number
    │   └── RouteNotFound
    ├── Conflict                      409
    │   ├── ConcurrencyConflict       the stream has moved on
    │   ├── ConditionFailed           an event that the decision excluded has been stored
    │   ├── PipelineBroken            an earlier append of the same pipeline failed
    │   ├── AggregateExists
    │   ├── ImportRefused             the events are not those that come next in the store
    │   ├── StoresDiffer              a copy is not what was copied
    │   ├── SettingsConflict          somebody else has changed the settings meanwhile
    │   └── IdempotencyKeyReused      the same key with another content
    ├── Unauthenticated, Forbidden    401, 403
    ├── TooLarge                      413
    ├── Unavailable                   503: try again later
    │   ├── Overloaded
    │   ├── Draining
    │   ├── NoInstance                nobody offers the service at the moment
    │   ├── CircuitOpen
    │   ├── Unreachable               no connection, so nothing was sent
    │   ├── ConnectionLost            the connection broke before the answer came
    │   ├── NotCaughtUp               the view has not reached the caller's token yet
    │   ├── StoreUnavailable          the database is away or locked
    │   └── DiskFull
    ├── DeadlineExceeded              504
    ├── RemoteError                   502: an answer that is not one of ours
    ├── DeclarationError              a class is declared wrongly (raised at import)
    ├── ConfigurationError            a file or setting is wrong (raised at start)
    │   ├── AddressInUse
    │   └── StartupError              something needed at start cannot be reached
    ├── StoreError                    500: the stored data cannot be used
    │   ├── StoreCorrupt
    │   ├── SchemaTooNew
    │   └── ShardMismatch         not the shard that it should be
    ├── ClaimLost                     another process owns this segment now
    └── Unexpected                    500: a fault of ours, its details stay in the log

A class states its message as a template over its own fields; the fields cross the network in a
problem document (RFC 9457), and the same class comes out on the other side.
"""

from headwater._error import HeadwaterError, from_problem


class Rejection(HeadwaterError):
    """The domain refuses a command; nothing is stored. Subclass it in your domain."""

    status = 422


class CommandRefused(Rejection):
    """A saga's command was refused for a reason that is no rejection of the domain.

    ``cause_code`` is the code of the error, such as ``aggregate-not-found``.
    """

    command: str
    cause_code: str
    reason: str
    template = "{command} was refused ({cause_code}): {reason}"


class InvalidInput(HeadwaterError):
    """What the caller sent cannot be understood."""

    status = 400
    reason: str
    template = "{reason}"


class MalformedMessage(InvalidInput):
    """A message is not JSON or not of the declared shape."""

    name: str
    template = "{name} is malformed: {reason}: correct the content and send it again"


class UnknownMessage(InvalidInput):
    """A message type that nobody here handles."""

    status = 404
    name: str
    reason: str = ""
    template = "nobody here handles {name!r}: check the name and where its handler is registered"


class TokenMismatch(InvalidInput):
    """A consistency token was issued by another store, or by the store before a restore."""

    status = 409
    reason: str = ""
    source: str
    expected: str
    actual: str
    template = (
        "the consistency token names epoch {actual!r} of {source!r}, which is at {expected!r}: "
        "the store was replaced; read again without a token"
    )


class NotFound(HeadwaterError):
    """Something named by the caller does not exist."""

    status = 404


class AggregateNotFound(NotFound):
    """A command names an aggregate that has no events."""

    aggregate: str
    id: str
    template = "{aggregate} {id!r} does not exist: create it first or correct the id"


class ViewNotFound(NotFound):
    """No view is stored under the key."""

    view: str
    key: str
    template = "{view} {key!r} does not exist"


class RouteNotFound(NotFound):
    """No handler for the method and path."""

    method: str
    path: str
    template = "no route for {method} {path}: the OpenAPI page at /docs lists all routes"


class InstanceNotFound(NotFound):
    """No instance is registered under the id: it never was, or its lease ran out."""

    id: str
    template = "instance {id!r} is not registered: register it (again)"


class ServiceNotFound(NotFound):
    """No instance of the service is registered."""

    service: str
    known: list[str]
    template = "no instance of {service!r} is registered: start one; known are {known}"


class ChangeNotFound(NotFound):
    """The settings have no change of this number."""

    number: int
    latest: int
    template = (
        "there is no change {number} of the settings, the latest is {latest}: "
        "`headwater config history` lists them"
    )


class Conflict(HeadwaterError):
    """The request contradicts what is stored."""

    status = 409


class ConcurrencyConflict(Conflict):
    """A stream is not at the version that the append expected."""

    stream: str
    expected: int
    actual: int
    template = (
        "stream {stream!r} is at version {actual}, expected {expected}: reload it and decide again"
    )


class ConditionFailed(Conflict):
    """An event matching the append's condition was stored after the decision's position."""

    after: int
    position: int
    template = (
        "an event at position {position} matches the condition, which excluded all after {after}: "
        "reload and decide again"
    )


class PipelineBroken(Conflict):
    """An earlier append of the same pipeline failed, so this one was not tried."""

    cause: str
    template = "an earlier append of this pipeline failed ({cause}): reload and decide again"


class AggregateExists(Conflict):
    """A creating command names an aggregate that already has events."""

    aggregate: str
    id: str
    template = "{aggregate} {id!r} exists already: choose another id"


class ImportRefused(Conflict):
    """What is to be imported does not continue what is stored; nothing of it was stored."""

    reason: str
    template = "nothing was imported: {reason}"


class StoresDiffer(Conflict):
    """A copy of a store does not have the content of its source."""

    difference: str
    template = "the stores differ: {difference}"


class SettingsConflict(Conflict):
    """Somebody else has changed the settings meanwhile; nothing was stored."""

    expected: int
    actual: int
    author: str
    template = (
        "the settings are at change {actual} (by {author}), expected {expected}; nothing was "
        "stored: fetch them with `headwater config pull`, then push again"
    )


class IdempotencyKeyReused(Conflict):
    """An idempotency key was used before with another content."""

    status = 422
    key: str
    template = "idempotency key {key!r} was used before with another content: use a new key"


class Unauthenticated(HeadwaterError):
    """The caller did not say who it is."""

    status = 401
    template = "credentials are missing or invalid: send valid ones"


class Forbidden(HeadwaterError):
    """The caller may not do this."""

    status = 403
    action: str
    template = "not allowed: {action}"


class TooLarge(HeadwaterError):
    """A body is larger than allowed."""

    status = 413
    limit_bytes: int
    template = "the body is larger than {limit_bytes} bytes: send less"


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

    target: str
    reason: str
    template = (
        "{target} closed the connection before it answered ({reason}): what was asked may have "
        "been carried out; check, or retry with the same idempotency key"
    )


class NotCaughtUp(Unavailable):
    """A view did not reach the caller's consistency token within the time allowed."""

    processor: str
    position: int
    expected: int
    waited_s: float
    template = (
        "{processor!r} is at position {position}, the token asks for {expected}, waited "
        "{waited_s:.3f} s: retry, or ask without a token to accept older data"
    )


class StoreUnavailable(Unavailable):
    """A database cannot be opened, is locked or is away."""

    store: str
    reason: str
    template = "store {store!r} is unavailable: {reason}"


class DiskFull(Unavailable):
    """The disk that holds a database is full; nothing of the write was stored."""

    status = 507
    store: str
    template = "the disk of store {store!r} is full: free space; nothing was stored"


class DeadlineExceeded(HeadwaterError):
    """The time allowed for a request has passed."""

    status = 504
    action: str
    timeout_s: float
    template = "{action} did not finish within {timeout_s:.3f} s: retry with a longer deadline"


class RemoteError(HeadwaterError):
    """Another system answered with an error that is not one of ours."""

    status = 502
    source: str
    remote_status: int
    detail: str
    remote_code: str = ""
    template = "{source} answered {remote_status}: {detail}"


class DeclarationError(HeadwaterError):
    """A class or function is declared wrongly; raised while it is being declared."""

    subject: str
    reason: str
    template = "{subject}: {reason}"


class ConfigurationError(HeadwaterError):
    """A file or setting is wrong; raised at start, before anything runs."""

    subject: str
    reason: str
    template = "{subject}: {reason}"


class AddressInUse(ConfigurationError):
    """A port is taken by another process."""

    subject: str = ""
    reason: str = ""
    host: str
    port: int
    template = "{host}:{port} is in use by another process: stop it or choose another port"


class StartupError(ConfigurationError):
    """Something that a service needs at its start cannot be reached."""


class StoreError(HeadwaterError):
    """What is stored cannot be used."""

    store: str
    reason: str
    template = "store {store!r}: {reason}"


class StoreCorrupt(StoreError):
    """A file is not a database, or damaged."""


class SchemaTooNew(StoreError):
    """A database was written by a newer version of Headwater."""

    reason: str = ""
    actual: int
    expected: int
    template = (
        "store {store!r} has schema {actual}, this version knows {expected}: "
        "upgrade headwater or use another database"
    )


class ShardMismatch(StoreError):
    """A database is not the shard of a store that its place among the URLs says."""


class ClaimLost(HeadwaterError):
    """Another process owns the segment now; the transaction was rolled back."""

    processor: str
    segment: int
    template = "segment {segment} of {processor!r} is owned by another process now"


class Unexpected(HeadwaterError):
    """A fault of the service itself; its details are in the log under the reference."""

    reference: str
    template = "the service failed: its log has the details under {reference!r}"


__all__ = [
    "AddressInUse",
    "AggregateExists",
    "AggregateNotFound",
    "ChangeNotFound",
    "CircuitOpen",
    "ClaimLost",
    "CommandRefused",
    "ConcurrencyConflict",
    "ConditionFailed",
    "ConfigurationError",
    "Conflict",
    "ConnectionLost",
    "DeadlineExceeded",
    "DeclarationError",
    "DiskFull",
    "Draining",
    "Forbidden",
    "HeadwaterError",
    "IdempotencyKeyReused",
    "ImportRefused",
    "InstanceNotFound",
    "InvalidInput",
    "MalformedMessage",
    "NoInstance",
    "NotCaughtUp",
    "NotFound",
    "Overloaded",
    "PipelineBroken",
    "Rejection",
    "RemoteError",
    "RouteNotFound",
    "SchemaTooNew",
    "ServiceNotFound",
    "SettingsConflict",
    "ShardMismatch",
    "StartupError",
    "StoreCorrupt",
    "StoreError",
    "StoreUnavailable",
    "StoresDiffer",
    "TokenMismatch",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Unexpected",
    "UnknownMessage",
    "Unreachable",
    "ViewNotFound",
    "from_problem",
]
