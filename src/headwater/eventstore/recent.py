"""The last events that a store has stored itself, for followers in the same process.

Most events that a follower waits for were appended by its own process a moment ago. They need not
be read back: who has come as far as the first of them gets them from here.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice

from headwater.eventstore.api import Appended, NewEvent, StoredEvent, StreamWrite

_EVENTS_MAX = 1000
_BYTES_MAX = 4 << 20


class Recent:
    """Events in a row: one position follows the other."""

    def __init__(self) -> None:
        """Know none."""
        self._events: deque[StoredEvent] = deque()
        self._bytes = 0

    def add(self, writes: Sequence[StreamWrite], stored: Appended) -> None:
        """Take note of what was stored just now."""
        events = self._events
        if events and events[-1].position != stored.first - 1:
            self.forget()  # others have stored something in between
        position = stored.first
        for write, last in zip(writes, stored.versions, strict=True):
            version = last - len(write.events)
            for event in write.events:
                version += 1
                self._bytes += _size(event)
                events.append(
                    StoredEvent(
                        position,
                        write.stream,
                        version,
                        event.type,
                        event.type_version,
                        stored.time,
                        tuple(event.tags),
                        bytes(event.data),
                        bytes(event.metadata),
                    )
                )
                position += 1
        while len(events) > _EVENTS_MAX or self._bytes > _BYTES_MAX:
            self._bytes -= _size(events.popleft())

    def after(self, position: int, limit: int) -> tuple[StoredEvent, ...]:
        """Return the events that follow a position; none if the first of them is not known."""
        events = self._events
        if not events or not events[0].position <= position + 1 <= events[-1].position:
            return ()
        begin = position + 1 - events[0].position
        return tuple(islice(events, begin, begin + limit))

    def forget(self) -> None:
        """Know none any more: what is in the log may have become another."""
        self._events.clear()
        self._bytes = 0


def _size(event: NewEvent | StoredEvent) -> int:
    return len(event.data) + len(event.metadata)


__all__ = ["Recent"]
