"""A bus whose offsets have gaps, and whose partitions are in no order, passes the suite."""

from pathlib import Path

from headwater.eventbus import EventBus, EventBusEngine
from headwater.testing.eventbus import EventBusConformance
from tests.conformance.eventbus.sparse_bus import SparseEventBus


async def _open(_url: str, partitions: int) -> EventBus:
    return SparseEventBus(partitions)


class TestSparseEventBus(EventBusConformance):
    engine = EventBusEngine(
        open=_open, shared=False, ordered=False, drops_repeated=False, tells_stored=True
    )

    async def open_bus(self, place: Path, partitions: int) -> EventBus:
        return SparseEventBus(partitions)
