"""From what was decided to what is stored: events with their metadata, and idempotency."""

import time
from collections.abc import Iterable

import msgspec
import uuid_utils

from headwater.dispatch import CommandMessage
from headwater.errors import IdempotencyKeyReused
from headwater.eventstore import Appended, EventStore, Idempotency, NewEvent
from headwater.messages import Event, EventCodec, Metadata, encode_metadata

_codec = EventCodec()


def new_events(events: Iterable[Event], cause: Metadata) -> list[NewEvent]:
    """Return events in stored form; their metadata names the command as their cause."""
    now = time.time_ns() // 1000
    new = []
    for event in events:
        encoded = _codec.encode(event)
        metadata = Metadata(
            id=str(uuid_utils.uuid7()),
            correlation_id=cause.correlation_id or cause.id,
            causation_id=cause.id,
            time=now,
            traceparent=cause.traceparent,
            principal=cause.principal,
            tenant=cause.tenant,
        )
        new.append(
            NewEvent(
                encoded.type, encoded.version, encoded.data, encode_metadata(metadata), encoded.tags
            )
        )
    return new


def idempotency_of(message: CommandMessage) -> Idempotency | None:
    """Return the idempotency of an append for a command that came with a key."""
    if not message.idempotency_key:
        return None
    return Idempotency(message.idempotency_key, message.fingerprint)


async def first_outcome(store: EventStore, message: CommandMessage) -> Appended | None:
    """Return what the store holds under a command's idempotency key, if anything.

    Raises:
        IdempotencyKeyReused: it holds the outcome of another command.
    """
    if not message.idempotency_key:
        return None
    found = await store.outcome(message.idempotency_key)
    if found is None:
        return None
    appended, fingerprint = found
    if fingerprint != message.fingerprint:
        raise IdempotencyKeyReused(key=message.idempotency_key)
    return msgspec.structs.replace(appended, duplicate=True)
