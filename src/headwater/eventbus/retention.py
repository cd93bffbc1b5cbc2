"""Which events of a bus may be forgotten: what is old or too much, and read by all."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

AT_ONCE = 1000
"""How many events are removed in one transaction, so that others come in between."""


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


class Growth(NamedTuple):
    """A partition went up to an offset at a time; ``bytes`` came since the time before."""

    partition: int
    offset: int
    at: float
    bytes: int


def forgettable(
    growth: Iterable[Growth],
    readers: Mapping[int, int],
    ends: Mapping[int, int],
    *,
    now: float,
    retention: Retention,
) -> dict[int, int]:
    """Return by partition up to which offset events may be forgotten.

    The last event of a partition stays, as its offset is where the next one goes on.

    Args:
        growth: of all partitions.
        readers: by partition the least offset that somebody has read.
        ends: by partition the offset of the last event.
        now: by the clock of the bus.
        retention: what to keep.
    """
    oldest_first = sorted(growth, key=lambda step: step.at)
    left = sum(step.bytes for step in oldest_first)
    found: dict[int, int] = {}
    for step in oldest_first:
        too_much = 0 < retention.bytes_max < left
        if step.at > now - retention.age_s and not too_much:
            break
        most = min(readers.get(step.partition, step.offset), ends[step.partition] - 1)
        if step.offset <= most:
            left -= step.bytes
        found[step.partition] = max(found.get(step.partition, -1), min(step.offset, most))
    return {partition: offset for partition, offset in found.items() if offset >= 0}


__all__ = ["AT_ONCE", "Growth", "Retention", "forgettable"]
