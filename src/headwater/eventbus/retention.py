"""Which events of a bus may be forgotten: what is old or too much, and read by all."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
import structlog

from headwater.errors import InvalidInput

AT_ONCE = 1000
"""How many events are removed in one transaction, so that others come in between."""

_log = structlog.get_logger("headwater.eventbus")


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """For how long a bus keeps its events.

    Attributes:
        age_s: older ones may be forgotten; infinite: none for their age.
        bytes_max: the oldest may be forgotten while there are more bytes; 0: any number.
        silent_s: who reads keeps what it has not read, until it was silent for this long.
    """

    age_s: float = math.inf
    bytes_max: int = 0
    silent_s: float = math.inf


class Mark(NamedTuple):
    """A partition went up to an offset at a time; ``bytes`` came since the mark before."""

    partition: int
    offset: int
    at: float
    bytes: int


def forgettable(
    marks: Iterable[Mark],
    readers: Mapping[int, int],
    ends: Mapping[int, int],
    *,
    now: float,
    retention: Retention,
) -> dict[int, int]:
    """Return by partition up to which offset events may be forgotten.

    The last event of a partition stays, as its offset is where the next one goes on.

    Args:
        marks: of all partitions.
        readers: by partition the least offset that somebody has read.
        ends: by partition the offset of the last event.
        now: by the clock of the bus.
        retention: what to keep.
    """
    oldest_first = sorted(marks, key=lambda mark: mark.at)
    left = sum(mark.bytes for mark in oldest_first)
    found: dict[int, int] = {}
    for mark in oldest_first:
        too_much = 0 < retention.bytes_max < left
        if mark.at > now - retention.age_s and not too_much:
            break
        most = min(readers.get(mark.partition, mark.offset), ends[mark.partition] - 1)
        if mark.offset <= most:
            left -= mark.bytes
        found[mark.partition] = max(found.get(mark.partition, -1), min(mark.offset, most))
    return {partition: offset for partition, offset in found.items() if offset >= 0}


def check_kept(partition: int, after: int, first: int) -> None:
    """Refuse to go on behind a gap; who begins at the start begins at what is kept, and is told.

    Raises:
        InvalidInput: events after the offset were forgotten.
    """
    if first == after + 1:
        return
    if after < 0:
        _log.warning(
            "a partition of the event bus begins later: what was before was forgotten",
            partition=partition,
            offset=first,
        )
        return
    raise InvalidInput(
        reason=f"events {after + 1} to {first - 1} of partition {partition} were forgotten before "
        "they were read: replay the processor from the start of what is kept, or rebuild it from "
        "the stores that the events came from; and let the bus keep them for longer"
    )


__all__ = ["AT_ONCE", "Mark", "Retention", "check_kept", "forgettable"]
