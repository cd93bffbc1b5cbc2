"""What a service's codec makes of contents: they are sealed where they are stored, and stay so.

Events are sealed when they have been decided, and opened by who handles them, one by one. In
between, in the store, in letters, on the bus and in copies of all these, nobody needs the codec.
"""

import base64
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from headwater.errors import EventUnreadable

E = TypeVar("E")

_MARK = b"\xff"  # begins no text in UTF-8, so no content that a codec has not made
NO_CODEC = "it was stored through a codec, and there is none: give the service the codec it had"


class Codec(Protocol):
    """Turns contents into what is stored, and back: the place of compression and encryption.

    A service has one, for its events and its snapshots; what it makes of events goes on the bus,
    so services that take each other's events share it. Contents that were stored without a codec
    stay readable with one. Both methods run on the event loop: they must not wait for anything.
    """

    def encode(self, content: bytes, *, stream: str) -> bytes:
        """Return what is stored of the content of an event, or the state, of a stream."""

    def decode(self, stored: bytes, *, stream: str) -> bytes:
        """Return the content again, from what `encode` returned.

        Raises whatever it likes when it cannot; then the event is unreadable, and no other.
        """


def sealed(codec: Codec | None, content: bytes, *, stream: str) -> bytes:
    """Return what is stored of a content."""
    return content if codec is None else _MARK + codec.encode(content, stream=stream)


def opened(codec: Codec | None, stored: bytes, *, stream: str) -> bytes:
    """Return the content of what is stored; raises what the codec raises."""
    if not is_sealed(stored):
        return stored
    if codec is None:
        raise ValueError(NO_CODEC)
    return codec.decode(stored[1:], stream=stream)


def is_sealed(stored: bytes) -> bool:
    """Whether a codec has made this of a content."""
    return stored[:1] == _MARK


def opened_events(codec: Codec | None, events: Sequence[E]) -> Sequence[E]:
    """Return events from a store, or the bus, with their contents as they were decided.

    Raises:
        EventUnreadable: a content cannot be opened; the error says of which event.
    """
    return events if codec is None else [opened_event(codec, event) for event in events]


def opened_event(codec: Codec | None, event: Any) -> Any:
    """As `opened_events`, for one of them."""
    if codec is None or not is_sealed(event.data):
        return event
    try:
        content = codec.decode(event.data[1:], stream=event.stream)
    except Exception as error:
        raise EventUnreadable(
            type=event.type,
            stream=event.stream,
            version=event.version,
            reason=f"the codec cannot decode it ({type(error).__name__}: {error})",
        ) from error
    return msgspec.structs.replace(event, data=content)


def as_json(stored: bytes) -> bytes:
    """Return what is stored as JSON: of something that is sealed its base64, as a text."""
    return b'"%b"' % base64.b64encode(stored) if is_sealed(stored) else stored


__all__ = [
    "NO_CODEC",
    "Codec",
    "as_json",
    "is_sealed",
    "opened",
    "opened_event",
    "opened_events",
    "sealed",
]
