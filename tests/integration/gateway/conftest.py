"""Real upstream processes, a registry that the test writes, and a gateway with a real Envoy."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from headwater.discovery import Instance, LocalDiscovery, RouteInfo
from headwater.gateway import Gateway, GatewaySettings

UPSTREAM = Path(__file__).with_name("upstream.py")
R = RouteInfo
ROUTES = (
    R("POST", "/accounts/{account_id}/deposits", "command", "Deposit", "account_id"),
    R("POST", "/accounts/{account_id}/withdrawals", "command", "Withdraw", "account_id"),
    R("POST", "/accounts", "command", "Open"),
    R("GET", "/accounts/{account_id}", "query", "GetAccount", "account_id"),
    R("GET", "/accounts/top", "query", "Top"),
    R("GET", "/events", "stream"),
    R("GET", "/socket", "stream"),
    R("GET", "/slow", "query"),
    R("POST", "/slow", "http"),
    R("POST", "/status/{code}", "http"),
    R("GET", "/status/{code}", "http"),
    R("POST", "/fall", "http"),
    R("GET", "/fall", "http"),
    R("POST", "/upload", "stream"),
)


class Registry(LocalDiscovery):
    """Discovery inside the process, as the test dictates it."""

    async def put(self, *instances: Instance) -> None:
        """Make these the only instances that are registered."""
        for instance in instances:
            await self.register(instance)
        wanted = {instance.id for instance in instances}
        for known in [i for listed in self.services().values() for i in listed]:
            if known.id not in wanted:
                await self.deregister(known.id)


class Upstream:
    """One running process of the small service."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, port: int) -> None:
        self.name, self.process, self.port = name, process, port

    def instance(self, *, service: str = "accounts", **other: object) -> Instance:
        """Its registration."""
        fields = {"routes": ROUTES, "started": 1} | other
        identity = self.name if service == "accounts" else f"{service}-{self.name}"
        return Instance(service=service, id=identity, host="127.0.0.1", port=self.port, **fields)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        await self.process.wait()


@pytest.fixture
def registry() -> Registry:
    """An empty registry."""
    return Registry()


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[..., Awaitable[Upstream]]]:
    """Start upstream processes by name; all are ended afterwards."""
    started: list[Upstream] = []

    async def start(name: str, *arguments: str) -> Upstream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(UPSTREAM), name, *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        started.append(Upstream(name, process, port))
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            one.process.kill()
        await one.process.communicate()


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """Settings for a test: a port of the system's choice, one worker thread."""
    return GatewaySettings(port=0, data=tmp_path / "gateway", concurrency=1, drain_timeout_s=2.0)


@pytest.fixture
async def gateway(settings: GatewaySettings, registry: Registry) -> AsyncIterator[Gateway]:
    """A running gateway over the registry."""
    async with Gateway(settings, registry) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def until(condition: Callable[[], bool | Awaitable[bool]], *, within_s: float = 60.0) -> None:
    """Poll a condition until it holds; fail when it does not in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < deadline, "the condition did not hold in time"
        await asyncio.sleep(0.01)


async def routed(gateway: Gateway, **instances: int) -> None:
    """Wait until the gateway sends traffic to this many instances of each service."""
    await until(
        lambda: all(gateway.status().instances.get(s, 0) == n for s, n in instances.items())
    )
