"""Real aiohttp servers in this process, that count what arrives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from headwater.client import HttpCaller, connect
from headwater.discovery import Instance, LocalDiscovery
from tests.integration.client.customers import Customers

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
        self.port = 0
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
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

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
            stack.push_async_callback(made.stop)
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


@pytest.fixture
async def server(backend: MakeBackend) -> Backend:
    return await backend()


@pytest.fixture
def customers(server: Backend, caller: MakeCaller) -> Customers:
    return connect(Customers, caller=caller())
