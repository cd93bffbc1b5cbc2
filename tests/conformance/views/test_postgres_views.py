"""The view store in PostgreSQL passes the suite; whoever opens the same schema shares it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.testing.views import ViewStoreConformance
from headwater.views import ViewStore
from headwater.views.postgres import ENGINE, PostgresViewStore


class TestPostgresViewStore(ViewStoreConformance):
    engine = ENGINE

    @pytest.fixture(autouse=True)
    def place(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def open_store(self, place: Path, clock: Callable[[], float]) -> ViewStore:
        return await PostgresViewStore.open(self.url, clock=clock)
