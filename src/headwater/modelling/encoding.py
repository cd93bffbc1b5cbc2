"""From what was decided to what is stored: events with their metadata, and idempotency."""

from collections.abc import Iterable

import msgspec

from headwater.dispatch import CommandMessage
from headwater.errors import ConcurrencyConflict, IdempotencyKeyReused
from headwater.eventstore import Appended, EventStore, Idempotency, NewEvent, StreamWrite
from headwater.messages import Event, Metadata, new_id, now_us


def new_events(events: Iterable[Event], cause: Metadata) -> list[NewEvent]:
    """Return events in stored form; their metadata names the command as their cause."""
    now = now_us()
    conversation = cause.correlation_id or cause.id
    return [
        NewEvent.of(
            event,
            Metadata(
                new_id(),
                conversation,
                cause.id,
                now,
                cause.traceparent,
                cause.principal,
                cause.tenant,
            ),
        )
        for event in events
    ]


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
