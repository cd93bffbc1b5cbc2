"""The stores that registries share pass the suite."""

import pytest

from headwater.discovery.memory import MemoryRegistryStore
from headwater.discovery.postgres import PostgresRegistryStore
from headwater.testing.discovery_store import RegistryStoreConformance, Two


class TestMemoryRegistryStore(RegistryStoreConformance):
    async def open_two(self) -> Two:
        store = MemoryRegistryStore()
        return store, store.again()


class TestPostgresRegistryStore(RegistryStoreConformance):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def open_two(self) -> Two:
        return await PostgresRegistryStore.open(self.url), await PostgresRegistryStore.open(
            self.url
        )
