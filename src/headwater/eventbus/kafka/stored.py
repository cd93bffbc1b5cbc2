"""How much of a source is in a partition: looked for backwards from its end.

What was found is noted, so that the next one who looks does not go further back than that, and
knows of an event that was forgotten since that it had been there.
"""

from typing import NamedTuple

import msgspec
from confluent_kafka import Message

from headwater.errors import MalformedMessage
from headwater.eventbus.api import WATERMARK, BusEvent
from headwater.eventbus.kafka import documents
from headwater.eventbus.kafka.reading import messages
from headwater.eventbus.kafka.settings import Place

_FIRST = 500  # so many events are looked at first, and ever more before them


class Last(msgspec.Struct, frozen=True):
    """The last event of a source in a partition.

    Attributes:
        offset, position: of the event; -1 and 0 if there was none.
        following: where the partition went on when it was looked for.
    """

    offset: int
    position: int
    following: int


class Log(NamedTuple):
    """A partition as it is: the first offset that is kept, and the one after the last."""

    place: Place
    partition: int
    begin: int
    following: int
    patience_s: float


def find_last(log: Log, *, source: str, epoch: str, noted: Last | None) -> Last:
    """Return the last event of a source and epoch in a partition; for a thread.

    It takes as long as it takes to read what others have published since.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    if noted is not None and not _holds(log, noted, source, epoch):
        noted = None
    until = log.begin if noted is None else max(log.begin, noted.following)
    needle, size, following = msgspec.json.encode(epoch), _FIRST, log.following
    while following > until:
        first, found = max(until, following - size), Last(-1, 0, log.following)
        for message in _part(log, first, following):
            event = _event(message, needle)
            if event is None or (event.source, event.epoch) != (source, epoch):
                continue
            if event.position >= found.position:  # else somebody has published it again
                found = Last(message.offset() or 0, event.position, log.following)
        if found.position:
            return found
        following, size = first, size * 4
    if noted is None:
        return Last(-1, 0, log.following)
    return Last(noted.offset, noted.position, log.following)


def _holds(log: Log, noted: Last, source: str, epoch: str) -> bool:
    """Whether what was noted holds: the event is still there, or was forgotten."""
    if noted.following > log.following:
        return False
    if noted.offset < log.begin:
        return True
    for message in _part(log, noted.offset, noted.offset + 1):
        event = _event(message, b"")
        return event is not None and (event.source, event.epoch, event.position) == (
            source,
            epoch,
            noted.position,
        )
    return False


def _part(log: Log, first: int, following: int) -> list[Message]:
    return list(
        messages(
            log.place,
            log.place.events,
            log.partition,
            first=first,
            following=following,
            patience_s=log.patience_s,
        )
    )


def _event(message: Message, needle: bytes) -> BusEvent | None:
    """Return the event of a message; None if it is of somebody else, or says nothing."""
    value = message.value()
    if not isinstance(value, bytes) or needle not in value:
        return None
    try:
        event = documents.delivery(message).event
    except MalformedMessage:
        return None
    return None if event.type == WATERMARK else event


__all__ = ["Last", "Log", "find_last"]
