"""How much of a source is in a partition: looked for backwards from its end."""

import msgspec
from confluent_kafka import Message

from headwater.errors import MalformedMessage
from headwater.eventbus.api import WATERMARK
from headwater.eventbus.kafka import documents
from headwater.eventbus.kafka.reading import messages
from headwater.eventbus.kafka.settings import Place

_FIRST = 500  # so many events are looked at first, and ever more before them


def last_position(
    place: Place, partition: int, *, source: str, epoch: str, begin: int, following: int,
    patience_s: float,
) -> int:  # fmt: skip
    """Return the last position of a source and epoch in a partition, 0 if there is none.

    For a thread. It takes as long as it takes to read what other sources have published since.

    Args:
        place: where.
        partition: of the topic of events.
        source, epoch: of the events wanted.
        begin: the first offset that is kept.
        following: the offset after the last one.
        patience_s: how long at most nothing may come.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    needle, size = msgspec.json.encode(epoch), _FIRST
    while following > begin:
        first, found = max(begin, following - size), 0
        for message in messages(
            place, place.events, partition, first=first, following=following, patience_s=patience_s
        ):
            found = _position(message, source, epoch, needle) or found
        if found:
            return found
        following, size = first, size * 4
    return 0


def _position(message: Message, source: str, epoch: str, needle: bytes) -> int:
    """Return the position of an event of a source; 0 for all others."""
    value = message.value()
    if not isinstance(value, bytes) or needle not in value:
        return 0
    try:
        event = documents.delivery(message).event
    except MalformedMessage:
        return 0
    mine = (event.source, event.epoch) == (source, epoch) and event.type != WATERMARK
    return event.position if mine else 0


__all__ = ["last_position"]
