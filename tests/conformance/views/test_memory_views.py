"""The view store in memory passes the suite; it shares nothing between processes."""

from collections.abc import Callable
from pathlib import Path

from headwater.testing.views import ViewStoreConformance
from headwater.views import ViewStore
from headwater.views.memory import ENGINE, MemoryViewStore


class TestMemoryViewStore(ViewStoreConformance):
    engine = ENGINE

    async def open_store(self, place: Path, clock: Callable[[], float]) -> ViewStore:
        return MemoryViewStore(clock=clock)
