"""Real aiohttp servers in this process, that count what arrives."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from headwater.client import HttpCaller, attempts, connect, http, instances
from headwater.discovery import Instance, LocalDiscovery
from tests.integration.client.customers import Customers
from tests.ports import HeldPort

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def cut(request: web.Request) -> web.StreamResponse:
    """Break the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def status(code: int, **headers: str) -> Handler:
    """Answer with a status."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers)

    return answer


fine = status(200)


class Backend:
    """One server; `handler` may be replaced at any time."""

    def __init__(self, name: str, handler: Handler) -> None:
        self.name = name
        self.handler = handler
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.arrived = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.running = 0
        self.most_running = 0
        self._port = HeldPort()  # for the case that it stops and comes back
        self.port = self._port.number
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def close(self) -> None:
        await self.stop()
        self._port.release()

    def instance(self, **changes: object) -> Instance:
        fields = {"service": "shop", "id": self.name, "host": "127.0.0.1", "port": self.port}
        return Instance(**{**fields, **changes})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.seen.append(request)
        self.arrived.set()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.handler(request)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1


MakeBackend = Callable[..., Awaitable[Backend]]
MakeCaller = Callable[..., HttpCaller]


@pytest.fixture
async def discovery() -> LocalDiscovery:
    """An empty registry in this process."""
    return LocalDiscovery()


@pytest.fixture
async def backend(discovery: LocalDiscovery) -> AsyncIterator[MakeBackend]:
    """Start servers, registered as instances of ``shop`` unless told otherwise."""
    async with AsyncExitStack() as stack:

        async def make(
            handler: Handler = fine, *, name: str = "a", register: bool = True
        ) -> Backend:
            made = Backend(name, handler)
            await made.start()
            stack.push_async_callback(made.close)
            if register:
                await discovery.register(made.instance())
            return made

        yield make


@pytest.fixture
async def caller(discovery: LocalDiscovery) -> AsyncIterator[MakeCaller]:
    """Make callers over the registry, impatient by default."""
    async with AsyncExitStack() as stack:

        def make(**options: object) -> HttpCaller:
            made = HttpCaller(discovery, **{"patience_s": 0.1, **options})
            stack.push_async_callback(made.close)
            return made

        yield make


class Clock:
    """The time as the client sees it, and what the test adds to it instead of waiting."""

    added = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.added


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Eject for a minute, so that no pause of the machine ends it, and let the test put it on."""
    clock = Clock()
    for module in (attempts, http, instances):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(instances, "EJECT_S", 60.0)
    monkeypatch.setattr(instances, "EJECT_S_MAX", 60.0)
    return clock


@pytest.fixture
async def server(backend: MakeBackend) -> Backend:
    return await backend()


@pytest.fixture
def customers(server: Backend, caller: MakeCaller) -> Customers:
    return connect(Customers, caller=caller())
