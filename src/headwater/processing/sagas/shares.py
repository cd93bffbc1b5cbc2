"""An event that is for several sagas, as each of them gets it.

Each saga has its segment, its order and its dead letters, so such an event is handled, retried
and parked once for each, as if it were several.
"""

from collections.abc import Callable, Sequence

import msgspec

from headwater.eventbus import BusEvent
from headwater.eventstore import StoredEvent
from headwater.processing.sources.source import RawEvent, SourcePage


class StoredShare(StoredEvent, frozen=True, gc=False):
    """An event of a store, for one saga."""

    saga: str


class BusShare(BusEvent, frozen=True, kw_only=True):
    """An event of the bus, for one saga."""

    saga: str


def share_of(event: RawEvent, saga: str) -> RawEvent:
    """Return an event for one saga only."""
    kind = BusShare if isinstance(event, BusEvent) else StoredShare
    return kind(**msgspec.structs.asdict(event), saga=saga)


def saga_of(event: RawEvent) -> str:
    """Return for which saga only an event is; ``""`` for an event that is whole."""
    return event.saga if isinstance(event, StoredShare | BusShare) else ""


def divided(page: SourcePage, sagas_of: Callable[[RawEvent], Sequence[str]]) -> SourcePage:
    """Return a page in which an event of several sagas stands for each of them."""
    shares: list[RawEvent] = []
    numbers: list[int] = []  # of the events that they are of
    for number, event in enumerate(page.events):
        sagas = sagas_of(event)
        shares += [share_of(event, saga) for saga in sagas] if len(sagas) > 1 else [event]
        numbers += [number] * max(len(sagas), 1)
    if len(shares) == len(page.events):
        return page
    return SourcePage(
        shares,
        page.token,
        [page.partitions[number] for number in numbers] if page.partitions else (),
        [page.offsets[number] for number in numbers] if page.offsets else (),
    )
