"""How fast a change in the registry reaches a client: HTTP request to visible cache entry.

The peer is the bare round trip of one HTTP request to the same server, in the same run.
"""

import asyncio
import statistics
import time

import aiohttp

from benchmarks.harness import Measured, benchmark
from headwater.discovery import Instance
from headwater.discovery.client import DiscoveryClient
from headwater.discovery.server import DiscoveryServer

CHANGES = 200
WATCHERS = 20
INSTANCES = 100


def _instance(number: int, version: str = "") -> Instance:
    return Instance(
        service="accounts", id=f"accounts-{number}", host="127.0.0.1", port=8000, version=version
    )


async def _visible(client: DiscoveryClient, version: str) -> None:
    async for services in client.changes():
        if any(instance.version == version for instance in services.get("accounts", ())):
            return


@benchmark("discovery.push", unit="ms", peer="bare HTTP request", runs=3)
async def push() -> Measured:
    """Median time from an update to the moment when all watchers have it."""
    async with DiscoveryServer() as server:
        for number in range(INSTANCES):
            server.registry.register(_instance(number))
        watchers = [DiscoveryClient(server.url) for _ in range(WATCHERS)]
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(watcher.start() for watcher in watchers))
            own = DiscoveryClient(server.url)
            await own.register(_instance(0))
            pushes, bare = [], []
            for change in range(CHANGES):
                version = f"v{change}"
                waiting = [asyncio.create_task(_visible(w, version)) for w in watchers]
                await asyncio.sleep(0)
                started = time.perf_counter()
                await asyncio.gather(own.update(_instance(0, version)), *waiting)
                pushes.append(time.perf_counter() - started)
                started = time.perf_counter()
                async with session.get(f"{server.url}/health/live") as answer:
                    await answer.read()
                bare.append(time.perf_counter() - started)
        await own.close()
        await asyncio.gather(*(watcher.close() for watcher in watchers))
    return Measured(statistics.median(pushes) * 1000, statistics.median(bare) * 1000)


@benchmark("discovery.expiry", unit="ms", runs=3)
async def expiry() -> Measured:
    """Longest time, of 20, from the end of a lease to the moment when a watcher sees it DOWN."""
    lease_s = 0.2
    late = []
    async with DiscoveryServer() as server, DiscoveryClient(server.url) as client:
        for number in range(20):
            instance = Instance(service="a", id=f"a-{number}", host="h", port=1, lease_s=lease_s)
            started = time.perf_counter()
            server.registry.register(instance)
            async for services in client.changes():
                found = {i.id: i.status for i in services.get("a", ())}
                if found.get(instance.id) == "DOWN":
                    break
            late.append(time.perf_counter() - started - lease_s)
    return Measured(max(late) * 1000)
