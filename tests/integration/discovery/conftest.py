"""A registry in a process of its own, and one in ours."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from headwater.discovery.server import DiscoveryServer
from tests.ports import HeldPort

_PROGRAM = """
import asyncio, sys
from headwater.discovery.postgres import PostgresRegistryStore
from headwater.discovery.registry import Registry
from headwater.discovery.server import DiscoveryServer

async def main(port, database):
    store = await PostgresRegistryStore.open(database) if database else None
    registry = Registry(removal_s=1.0)
    async with DiscoveryServer(port=port, registry=registry, store=store) as server:
        print("UP", server.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
"""


class RegistryProcess:
    """The discovery service as an own process on a port that stays the same over restarts.

    It lists an expired instance for one second only.
    """

    def __init__(self, database: str = "") -> None:
        self._database = database
        self._held = HeldPort()
        self.port = self._held.number
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM, str(self.port), self._database),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            while b"UP " not in (line := await self._process.stdout.readline()):
                assert line, "the registry ended before it was up"

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    async def kill(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()
        self._process = None

    async def close(self) -> None:
        await self.kill()
        self._held.release()


async def until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    """Return when a condition holds; fail when it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what happens in other processes sends no event
            await asyncio.sleep(0.005)


@pytest.fixture
async def process() -> AsyncIterator[RegistryProcess]:
    process = RegistryProcess()
    await process.start()
    yield process
    await process.close()


@pytest.fixture
async def server() -> AsyncIterator[DiscoveryServer]:
    async with DiscoveryServer(heartbeat_s=0.2, settle_s=0.0) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session
