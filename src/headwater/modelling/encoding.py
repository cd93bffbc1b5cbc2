"""From what was decided to what is stored: events with their metadata, and idempotency."""

from collections.abc import Callable, Iterable

import msgspec

from headwater.dispatch import CommandMessage
from headwater.errors import IdempotencyKeyReused
from headwater.eventstore import Appended, EventStore, Idempotency, NewEvent
from headwater.messages import Event, Metadata, new_id, now_us

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
