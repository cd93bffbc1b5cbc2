"""Event store: the only source of truth, and the outbox."""

from headwater.eventstore.api import (
    EVERYTHING,
    WHOLE,
    AppendCondition,
    Appended,
    EventFilter,
    EventStore,
    FilterItem,
    Idempotency,
    NewEvent,
    Page,
    Pipeline,
    Shard,
    Snapshot,
    StoredEvent,
    StoredKey,
    StreamStore,
    StreamWrite,
)
from headwater.eventstore.sharded import ShardedEventStore

__all__ = [
    "EVERYTHING",
    "WHOLE",
    "AppendCondition",
    "Appended",
    "EventFilter",
    "EventStore",
    "FilterItem",
    "Idempotency",
    "NewEvent",
    "Page",
    "Pipeline",
    "Shard",
    "ShardedEventStore",
    "Snapshot",
    "StoredEvent",
    "StoredKey",
    "StreamStore",
    "StreamWrite",
]
