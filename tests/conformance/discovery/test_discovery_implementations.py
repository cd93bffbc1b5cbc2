"""Discovery inside a process, and over HTTP, pass the suite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headwater.discovery import Discovery, LocalDiscovery
from headwater.discovery.client import DiscoveryClient
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
