"""Hot aggregates under contention, on two handles of one SQLite file."""

from pathlib import Path

import pytest

from headwater.eventstore.sqlite import SQLiteEventStore
from tests.unit.modelling.contention_rules import outcome_under_contention


@pytest.mark.parametrize("seed", range(10))
async def test_contention(tmp_path: Path, seed: int) -> None:
    """Acknowledged is stored once, refused is true, whatever two handles do at once."""
    stores = [await SQLiteEventStore.open(tmp_path / "events.db") for _ in range(2)]
    try:
        await outcome_under_contention(stores, seed)
    finally:
        for store in stores:
            await store.close()
