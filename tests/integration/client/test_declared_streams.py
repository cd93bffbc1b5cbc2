"""Streams of a declared client, from a real server."""

import asyncio
from contextlib import aclosing

import pytest
from aiohttp import web

from headwater.client import (
    connect,
)
from headwater.errors import (
    ConnectionLost,
    RemoteError,
)
from tests.integration.client.conftest import Backend, MakeCaller, cut
from tests.integration.client.customers import (
    Customer,
    Customers,
    Guarded,
    TooPoor,
    failing,
)


def stream(*parts: bytes, hold: asyncio.Event | None = None, broken: bool = False):
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        if hold is not None:
            await hold.wait()
        return await cut(request) if broken else response

    return answer


EVENTS = (b': hi\n\ndata: {"id":"1"}\n\nda', b'ta: {"id":\ndata: "2"}\n\n', b"event: ping\n\n")


async def test_events(server: Backend, customers: Customers) -> None:
    """A stream yields the data of each event as it comes, and ends when the server ends it."""
    server.handler = stream(*EVENTS)
    assert [item async for item in customers.events(after=3)] == [Customer("1"), Customer("2")]
    assert server.seen[0].raw_path == "/customers/events?after=3"
    assert server.seen[0].headers["accept"] == "text/event-stream"
    assert "headwater-timeout-ms" not in server.seen[0].headers


async def test_events_at_once(server: Backend, customers: Customers) -> None:
    """Items arrive while the stream is open; leaving it closes the connection."""
    server.handler = stream(*EVENTS, hold=asyncio.Event())
    async with aclosing(customers.events()) as events:
        assert await asyncio.wait_for(anext(events), 30) == Customer("1")
    await asyncio.wait_for(server.cancelled.wait(), 30)


async def test_events_cancelled(server: Backend, customers: Customers) -> None:
    """Cancelling the task that reads a stream closes the connection."""
    server.handler = stream(hold=asyncio.Event())

    async def read() -> None:
        async for _ in customers.events():
            pass

    task = asyncio.ensure_future(read())
    await asyncio.wait_for(server.arrived.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.cancelled.wait(), 30)


async def test_events_broken(server: Backend, customers: Customers) -> None:
    """A stream that breaks off raises after the items that came."""
    server.handler = stream(*EVENTS, broken=True)
    events = customers.events()
    assert [await anext(events), await anext(events)] == [Customer("1"), Customer("2")]
    with pytest.raises(ConnectionLost):
        await anext(events)


async def test_events_malformed(server: Backend, customers: Customers) -> None:
    """An item that does not fit is a RemoteError."""
    server.handler = stream(b"data: {}\n\n")
    with pytest.raises(RemoteError, match="something unexpected"):
        await anext(customers.events())


async def test_events_endless_line(server: Backend, customers: Customers) -> None:
    """An event that never ends is given up past a megabyte."""
    server.handler = stream(*[b"data: " + b"x" * 100_000] * 20)
    with pytest.raises(RemoteError, match="an event past 1048576 bytes"):
        await anext(customers.events())


async def test_events_refused(server: Backend, customers: Customers) -> None:
    """An error instead of a stream is the same typed error as for a call."""
    server.handler = failing(TooPoor(balance=1))
    with pytest.raises(TooPoor):
        await anext(customers.events())


async def test_events_fallback(caller: MakeCaller) -> None:
    """When no stream can be opened the fallback's is used."""
    guarded = connect(Guarded, caller=caller(patience_s=0.01))
    assert [item async for item in guarded.feed()] == [Customer("offline")]


async def test_implements(customers: Customers) -> None:
    """What `connect` returns is an instance of the declared class."""
    assert type(customers).__mro__[1] is Customers
