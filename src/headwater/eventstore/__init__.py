"""Event store: the only source of truth, and the outbox."""

from headwater.eventstore.api import (
    EVERYTHING,
    AppendCondition,
    Appended,
    EventFilter,
    EventStore,
    FilterItem,
    Idempotency,
    NewEvent,
    Page,
    Pipeline,
    Snapshot,
    StoredEvent,
    StoredKey,
    StreamWrite,
)

__all__ = [
    "EVERYTHING",
    "AppendCondition",
    "Appended",
    "EventFilter",
    "EventStore",
    "FilterItem",
    "Idempotency",
    "NewEvent",
    "Page",
    "Pipeline",
    "Snapshot",
    "StoredEvent",
    "StoredKey",
    "StreamWrite",
]
