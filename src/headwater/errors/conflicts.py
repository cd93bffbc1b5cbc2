"""Errors of a request that contradicts what is stored."""

from headwater.errors.base import HeadwaterError


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


class AddressTaken(Conflict):
    """An instance cannot register again: who registered later listens at its address."""

    id: str
    address: str
    holder: str
    template = (
        "instance {id!r} says that it listens at {address}, where {holder} registered later: let "
        "each advertise an address of its own"
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


class EventParked(Conflict):
    """An event that a consistency token names waits among the dead letters of a processor.

    ``position`` is that of the first parked event of the sequence, ``expected`` the token's.
    Waiting does not help, and asking another instance does not either: hence no 503.
    """

    processor: str
    sequence: str
    position: int
    expected: int
    template = (
        "{processor!r} has parked {sequence!r} from position {position} on, so its views cannot "
        "show what the token asks for, position {expected}: ask without a token to accept what "
        "they show; whoever runs it finds the error with `headwater dead-letters list`"
    )


class AggregateExists(Conflict):
    """A creating command names an aggregate that already has events."""

    decided = True
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
