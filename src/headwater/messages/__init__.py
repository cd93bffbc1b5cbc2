"""Messages: typed commands, events and queries, their metadata, names, versions and codec."""

from headwater.messages.codec import (
    EventCodec,
    decode_metadata,
    encode_event,
    encode_metadata,
)
from headwater.messages.hashing import stable_hash
from headwater.messages.metadata import (
    Context,
    Metadata,
    current,
    handling,
    new_id,
    new_metadata,
    new_traceparent,
    now_us,
    remaining_s,
)
from headwater.messages.tags import Tag
from headwater.messages.text import Textual, canonical_text
from headwater.messages.token import ConsistencyToken, SourceState
from headwater.messages.types import (
    Command,
    Event,
    MessageType,
    Query,
    Route,
    Target,
    message_type,
    route,
    upcaster,
    wire,
)

__all__ = [
    "Command",
    "ConsistencyToken",
    "Context",
    "Event",
    "EventCodec",
    "MessageType",
    "Metadata",
    "Query",
    "Route",
    "SourceState",
    "Tag",
    "Target",
    "Textual",
    "canonical_text",
    "current",
    "decode_metadata",
    "encode_event",
    "encode_metadata",
    "handling",
    "message_type",
    "new_id",
    "new_metadata",
    "new_traceparent",
    "now_us",
    "remaining_s",
    "route",
    "stable_hash",
    "upcaster",
    "wire",
]
