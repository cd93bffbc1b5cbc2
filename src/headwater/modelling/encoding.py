"""From what was decided to what is stored: events with their metadata, and idempotency."""

from collections.abc import Callable, Iterable

import msgspec

from headwater.dispatch import CommandMessage
from headwater.errors import ConcurrencyConflict, IdempotencyKeyReused
from headwater.eventstore import Appended, EventStore, Idempotency, NewEvent, StreamWrite
from headwater.messages import Event, Metadata, encode_metadata, new_id, now_us

_encode = msgspec.json.Encoder().encode
_joined = "".join

Admit = Callable[[type[Event]], None]


class Admission:
    """Has each class of events checked once, before the first of them is stored."""

    def __init__(self, admit: Admit | None) -> None:
        """Check with this function, which raises to refuse; None: admit all."""
        self._admit = admit
        self._known: set[type[Event]] = set()

    def check(self, events: Iterable[Event]) -> None:
        """Check the classes of some events.

        Raises:
            DeclarationError: one is refused.
        """
        known = self._known
        for event in events:
            cls = type(event)
            if cls not in known:
                if self._admit is not None:
                    self._admit(cls)
                known.add(cls)


def new_events(events: Iterable[Event], cause: Metadata) -> list[NewEvent]:
    """Return events in stored form; their metadata names the command as their cause.

    Raises:
        Unstorable: an event, or the metadata of the command, would not come back as the same.
    """
    return stored_and_read(events, cause)[0]


def stored_and_read(events: Iterable[Event], cause: Metadata) -> tuple[list[NewEvent], list[Event]]:
    """Return what `new_events` returns, and the events as they are read back from that.

    By these a state is changed, so that it is at once what it will be when it is loaded anew.
    """
    now = now_us()
    conversation = cause.correlation_id or cause.id
    new: list[NewEvent] = []
    read: list[Event] = []
    try:
        # Hooks may have changed it. To see that it is text costs less than to read it back.
        _joined((conversation, cause.id, cause.traceparent, cause.principal, cause.tenant))
        for event in events:
            about = Metadata(
                new_id(),
                conversation,
                cause.id,
                now,
                cause.traceparent,
                cause.principal,
                cause.tenant,
            )
            made, back = NewEvent.and_back(event, _encode(about))
            new.append(made)
            read.append(back)
    except (TypeError, UnicodeEncodeError):
        encode_metadata(cause)
        raise
    return new, read


def idempotency_of(message: CommandMessage) -> Idempotency | None:
    """Return the idempotency of an append for a command that came with a key."""
    if not message.idempotency_key:
        return None
    return Idempotency(message.idempotency_key, message.fingerprint)


_NEVER = -1  # a version that no stream is at


async def first_outcome(
    store: EventStore, message: CommandMessage, stream: str, *, settled: bool
) -> Appended | None:
    """Return what the store holds under a command's idempotency key, if anything.

    With ``settled`` after all that was submitted before: as an append to the stream that takes
    its place behind them, and whose key alone is looked at.

    Raises:
        IdempotencyKeyReused: it holds the outcome of another command.
    """
    if settled:
        nothing = StreamWrite(stream, (), _NEVER)
        try:
            return await store.append((nothing,), idempotency=idempotency_of(message))
        except ConcurrencyConflict:
            return None
    found = await store.outcome(message.idempotency_key)
    if found is None:
        return None
    appended, fingerprint = found
    if fingerprint != message.fingerprint:
        raise IdempotencyKeyReused(key=message.idempotency_key)
    return msgspec.structs.replace(appended, duplicate=True)
