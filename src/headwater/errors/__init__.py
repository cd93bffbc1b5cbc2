"""One tree of errors, so that a caller can catch as widely or as narrowly as it likes.

::

    HeadwaterError
    ├── Rejection                     the domain says no; nothing was stored (subclass it)
    │   ├── RemoteRejection           another service's domain says no, by a class unknown here
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
    │   ├── EventParked               the view waits for an operator before the caller's token
    │   ├── PipelineBroken            an earlier append of the same pipeline failed
    │   ├── AggregateExists
    │   ├── ImportRefused             the events are not those that come next in the store
    │   ├── StoresDiffer              a copy is not what was copied
    │   ├── AddressTaken              a later instance listens at that address
    │   ├── SettingsConflict          somebody else has changed the settings meanwhile
    │   └── IdempotencyKeyReused      the same key with another content
    ├── Unauthenticated, Forbidden    401, 403
    ├── TooLarge                      413
    ├── UnsupportedMediaType          415
    ├── Unavailable                   503: try again later
    │   ├── Overloaded
    │   ├── Draining
    │   ├── NoInstance                nobody offers the service at the moment
    │   ├── NotKnownYet               the registry has not heard from everyone yet
    │   ├── WrongService              421: an instance of another service; nothing was done
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
    ├── StoreError                    503: the stored data cannot be used
    │   ├── StoreCorrupt
    │   ├── SchemaTooNew
    │   ├── AheadOfLog            a processor is further than its log, which was cut or replaced
    │   ├── EventsForgotten       a bus does not keep any more what was asked for
    │   ├── ShardMismatch         not the shard that it should be
    │   ├── EventUnreadable       500: a stored event does not fit its class
    │   └── ViewUnreadable        500: a stored document does not fit its view class
    ├── Unstorable                    500: the program made what could not be read again
    ├── CommandTooOld                 tried for so long that it could act twice
    ├── ClaimLost                     another process owns this segment now
    └── Unexpected                    500: a fault of ours, its details stay in the log

A class states its message as a template over its own fields; the fields cross the network in a
problem document (RFC 9457), and the same class comes out on the other side. Each says as data
(``outcome``) whether the work that it ended was stored, not stored, or that it is unknown.
"""

from headwater.errors.base import HeadwaterError, Outcome, declared_at, from_problem
from headwater.errors.conflicts import (
    AddressTaken,
    AggregateExists,
    ConcurrencyConflict,
    ConditionFailed,
    Conflict,
    EventParked,
    IdempotencyKeyReused,
    ImportRefused,
    PipelineBroken,
    SettingsConflict,
    StoresDiffer,
)
from headwater.errors.faults import (
    AddressInUse,
    AheadOfLog,
    ClaimLost,
    CommandTooOld,
    ConfigurationError,
    DeclarationError,
    EventsForgotten,
    EventUnreadable,
    SchemaTooNew,
    ShardMismatch,
    StartupError,
    StoreCorrupt,
    StoreError,
    Unexpected,
    Unstorable,
    ViewUnreadable,
)
from headwater.errors.refusals import (
    AggregateNotFound,
    ChangeNotFound,
    CommandRefused,
    Forbidden,
    InstanceNotFound,
    InvalidInput,
    MalformedMessage,
    NotFound,
    Rejection,
    RemoteRejection,
    RouteNotFound,
    ServiceNotFound,
    TokenMismatch,
    TooLarge,
    Unauthenticated,
    UnknownMessage,
    UnsupportedMediaType,
    ViewNotFound,
)
from headwater.errors.unavailable import (
    CircuitOpen,
    ConnectionLost,
    DeadlineExceeded,
    DiskFull,
    Draining,
    NoInstance,
    NotCaughtUp,
    NotKnownYet,
    Overloaded,
    RemoteError,
    StoreUnavailable,
    Unavailable,
    Unreachable,
    WrongService,
)

__all__ = [
    "AddressInUse",
    "AddressTaken",
    "AggregateExists",
    "AggregateNotFound",
    "AheadOfLog",
    "ChangeNotFound",
    "CircuitOpen",
    "ClaimLost",
    "CommandRefused",
    "CommandTooOld",
    "ConcurrencyConflict",
    "ConditionFailed",
    "ConfigurationError",
    "Conflict",
    "ConnectionLost",
    "DeadlineExceeded",
    "DeclarationError",
    "DiskFull",
    "Draining",
    "EventParked",
    "EventUnreadable",
    "EventsForgotten",
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
    "NotKnownYet",
    "Outcome",
    "Overloaded",
    "PipelineBroken",
    "Rejection",
    "RemoteError",
    "RemoteRejection",
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
    "Unstorable",
    "UnsupportedMediaType",
    "ViewNotFound",
    "ViewUnreadable",
    "WrongService",
    "declared_at",
    "from_problem",
]
