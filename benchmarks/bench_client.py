"""Calls through HttpCaller and a declared client against the same calls with bare aiohttp."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp
import msgspec
from aiohttp import web

from benchmarks.harness import Measured, benchmark
from headwater.client import HttpCaller, Request, client, connect, get
from headwater.discovery import StaticDiscovery

CALLS = 1500
CONCURRENT = 16
WARM_UP = 100


class Item(msgspec.Struct):
    """What the server answers."""

    id: str
    amount: int


@client("shop")
class Shop(Protocol):
    """The server as a declared client."""

    @get("/items/{item_id}")
    async def item(self, item_id: str) -> Item:
        """Ask for one item."""


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b'{"id":"7","amount":1250}', content_type="application/json")

    app = web.Application()
    app.router.add_get("/items/{id}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _per_second(call: Callable[[], Awaitable[object]]) -> float:
    async def caller(calls: int) -> None:
        for _ in range(calls):
            await call()

    await asyncio.gather(*(caller(WARM_UP // CONCURRENT) for _ in range(CONCURRENT)))
    started = time.perf_counter()
    await asyncio.gather(*(caller(CALLS // CONCURRENT) for _ in range(CONCURRENT)))
    return CALLS // CONCURRENT * CONCURRENT / (time.perf_counter() - started)


async def _bare(url: str) -> float:
    async with aiohttp.ClientSession() as session:

        async def call() -> bytes:
            async with session.get(f"{url}/items/7") as response:
                return await response.read()

        return await _per_second(call)


@benchmark("client.caller", unit="calls/s", peer="bare aiohttp session, same server and loop")
async def caller() -> Measured:
    """Measure `HttpCaller.call`, with the server in the same loop."""
    async with _server() as url:
        http = HttpCaller(StaticDiscovery({"shop": [url]}))
        request = Request("GET", "/items/7", service="shop")
        try:
            value = await _per_second(lambda: http.call(request))
        finally:
            await http.close()
        return Measured(value, await _bare(url))


@benchmark("client.declared", unit="calls/s", peer="bare aiohttp session, same server and loop")
async def declared() -> Measured:
    """Measure a declared method, decoding included, with the server in the same loop."""
    async with _server() as url:
        http = HttpCaller(StaticDiscovery({"shop": [url]}))
        shop = connect(Shop, caller=http)
        try:
            value = await _per_second(lambda: shop.item("7"))
        finally:
            await http.close()
        return Measured(value, await _bare(url))
