"""An event together with where it comes from, for handlers that want to know."""

from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from headwater.messages import Event, Metadata

E_co = TypeVar("E_co", bound=Event, covariant=True)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EventMessage(msgspec.Struct, Generic[E_co], frozen=True):
    """One event as it reaches a handler.

    Attributes:
        payload: the event, lifted to the current version of its class.
        metadata: who, when and why; its causation is the command that led to the event.
        source: the service that owns the event.
        position: its position in that service's store (sharded: in the stream's shard).
        stream: its stream there.
        version: its version in the stream; together these identify the event.
        time_us: when it was recorded, microseconds since 1970 UTC.
        tags: its tags.
        part: its number, from 0, among the events that an older one, at this position, has become.
        replaying: it was recorded before the processor began, or went back: it is history, which
            a handler with effects outside may want to leave alone.
    """

    payload: E_co
    metadata: Metadata
    source: str
    position: int
    stream: str
    version: int
    time_us: int
    tags: tuple[str, ...] = ()
    part: int = 0
    replaying: bool = False

    @property
    def time(self) -> datetime:
        """When it was recorded, as an aware datetime (UTC)."""
        return _EPOCH + timedelta(microseconds=self.time_us)
