"""Messages: typed commands, events and queries, their metadata, names, versions and codec."""

from headwater.messages.codec import (
    EventCodec,
    decode_metadata,
    encode_event,
    encode_metadata,
    message_form,
    metadata_of,
    stored_event,
)
from headwater.messages.hashing import stable_hash
from headwater.messages.idempotency import check_key, key_for
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
from headwater.messages.principal import ANONYMOUS, Principal
from headwater.messages.sealing import Codec
from headwater.messages.stored_form import StoredForm
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
    wire,
)
from headwater.messages.upcasting import Upcast, upcaster
from headwater.messages.whole_numbers import BigInt

__all__ = [
    "ANONYMOUS",
    "BigInt",
    "Codec",
    "Command",
    "ConsistencyToken",
    "Context",
    "Event",
    "EventCodec",
    "MessageType",
    "Metadata",
    "Principal",
    "Query",
    "Route",
    "SourceState",
    "StoredForm",
    "Tag",
    "Target",
    "Textual",
    "Upcast",
    "canonical_text",
    "check_key",
    "current",
    "decode_metadata",
    "encode_event",
    "encode_metadata",
    "handling",
    "key_for",
    "message_form",
    "message_type",
    "metadata_of",
    "new_id",
    "new_metadata",
    "new_traceparent",
    "now_us",
    "remaining_s",
    "route",
    "stable_hash",
    "stored_event",
    "upcaster",
    "wire",
]
