"""The view store in SQLite passes the suite; whoever opens the same file shares it."""

from collections.abc import Callable
from pathlib import Path

from headwater.testing.views import ViewStoreConformance
from headwater.views import ViewStore
from headwater.views.sqlite import ENGINE, SQLiteViewStore


class TestSQLiteViewStore(ViewStoreConformance):
    engine = ENGINE

    async def open_store(self, place: Path, clock: Callable[[], float]) -> ViewStore:
        return await SQLiteViewStore.open(place / "views.db", clock=clock)
