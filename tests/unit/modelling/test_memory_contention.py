"""Hot aggregates under contention, on the event store in memory."""

import pytest

from headwater.eventstore.memory import MemoryEventStore
from tests.unit.modelling.contention_rules import outcome_under_contention


@pytest.mark.parametrize("seed", range(15))
async def test_contention(seed: int) -> None:
    """Acknowledged is stored once, refused is true, whatever two repositories do at once."""
    store = MemoryEventStore()
    await outcome_under_contention([store, store], seed)
    await store.close()
