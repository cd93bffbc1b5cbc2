"""Discovery inside a process, and over HTTP, pass the suite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headwater.discovery import Discovery, LocalDiscovery, RegistryStore
from headwater.discovery.client import DiscoveryClient
from headwater.discovery.memory import MemoryRegistryStore
from headwater.discovery.postgres import PostgresRegistryStore
from headwater.discovery.registry import Registry
from headwater.discovery.server import DiscoveryServer
from headwater.testing.discovery import DiscoveryConformance


class TestLocalDiscovery(DiscoveryConformance):
    @asynccontextmanager
    async def open_pair(self) -> AsyncIterator[tuple[Discovery, Discovery]]:
        registry = Registry()
        yield LocalDiscovery(registry), LocalDiscovery(registry)


class TestDiscoveryClient(DiscoveryConformance):
    @asynccontextmanager
    async def open_pair(self) -> AsyncIterator[tuple[Discovery, Discovery]]:
        async with DiscoveryServer() as server:
            yield DiscoveryClient(server.url), DiscoveryClient(server.url)


class TestDiscoveryClientOfTwoRegistries(DiscoveryConformance):
    @asynccontextmanager
    async def open_pair(self) -> AsyncIterator[tuple[Discovery, Discovery]]:
        async with DiscoveryServer() as one, DiscoveryServer() as two:
            yield DiscoveryClient([one.url, two.url]), DiscoveryClient([two.url, one.url])


class TestDiscoveryClientsOfRegistriesThatShare(DiscoveryConformance):
    """Each of the two talks to another registry; only the store connects them."""

    async def stores(self) -> tuple[RegistryStore, RegistryStore]:
        store = MemoryRegistryStore()
        return store, store.again()

    @asynccontextmanager
    async def open_pair(self) -> AsyncIterator[tuple[Discovery, Discovery]]:
        first, second = await self.stores()
        async with DiscoveryServer(store=first) as one, DiscoveryServer(store=second) as two:
            yield DiscoveryClient(one.url), DiscoveryClient(two.url)


class TestDiscoveryClientsOfRegistriesOnPostgres(TestDiscoveryClientsOfRegistriesThatShare):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def stores(self) -> tuple[RegistryStore, RegistryStore]:
        open = PostgresRegistryStore.open
        return await open(self.url), await open(self.url)
