"""Messages: typed commands, events and queries, their metadata, names, versions and codec."""

from headwater.messages.codec import (
    encode_event,
)
from headwater.messages.metadata import (
    Context,
    Metadata,
    current,
    handling,
    new_id,
    new_metadata,
    now_us,
)
from headwater.messages.principal import ANONYMOUS, Principal
from headwater.messages.sealing import Codec
from headwater.messages.tags import Tag
from headwater.messages.text import Textual, canonical_text
from headwater.messages.token import ConsistencyToken
from headwater.messages.types import (
    Command,
    Event,
    Query,
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
    "Metadata",
    "Principal",
    "Query",
    "Tag",
    "Target",
    "Textual",
    "Upcast",
    "canonical_text",
    "current",
    "encode_event",
    "handling",
    "message_type",
    "new_id",
    "new_metadata",
    "now_us",
    "route",
    "upcaster",
    "wire",
]
