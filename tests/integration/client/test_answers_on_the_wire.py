"""Odd answers: redirects, huge ones, garbage; and what is sent along."""

import asyncio
import gzip
import re
import ssl

import pytest
import trustme
from aiohttp import web

from headwater.client import Request
from headwater.errors import InvalidInput, RemoteError, Unreachable
from headwater.messages import Metadata, handling
from tests.integration.client.conftest import MakeBackend, MakeCaller, status


async def test_redirect_same_host(backend: MakeBackend, caller: MakeCaller) -> None:
    """A GET follows a redirect to another path of the same host."""

    async def moved(request: web.Request) -> web.StreamResponse:
        if request.path == "/old":
            return web.Response(status=301, headers={"Location": "/new"})
        return web.Response(text=request.path)

    server = await backend(moved)
    reply = await caller().call(Request("GET", "/old", url=server.url))
    assert (reply.status, reply.body) == (200, b"/new")


async def test_redirect_other_host(backend: MakeBackend, caller: MakeCaller) -> None:
    """A redirect to another host is not followed: headers would go to a stranger."""
    stranger = await backend(register=False)
    server = await backend(status(302, Location=f"{stranger.url}/x"))
    reply = await caller().call(Request("GET", "/x", url=server.url))
    assert reply.status == 302
    assert stranger.seen == []


async def test_redirect_post(backend: MakeBackend, caller: MakeCaller) -> None:
    """A POST follows no redirect."""
    server = await backend(status(307, Location="/y"))
    assert (await caller().call(Request("POST", "/x", url=server.url))).status == 307
    assert len(server.seen) == 1


async def test_redirect_circle(backend: MakeBackend, caller: MakeCaller) -> None:
    """A circle of redirects ends with an error."""
    server = await backend(status(302, Location="/x"))
    with pytest.raises(RemoteError, match="redirected more than 5 times"):
        await caller().call(Request("GET", "/x", url=server.url))
    assert len(server.seen) == 5


@pytest.mark.parametrize("form", ["length", "chunked", "compressed"])
async def test_huge_answer(form: str, backend: MakeBackend, caller: MakeCaller) -> None:
    """An answer past the bound is refused, however its size is hidden, and not asked for again."""

    async def huge(request: web.Request) -> web.StreamResponse:
        content = b"0" * 300_000
        if form == "length":
            return web.Response(body=content)
        if form == "compressed":
            return web.Response(body=gzip.compress(content), headers={"Content-Encoding": "gzip"})
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(content)
        return response

    server = await backend(huge)
    with pytest.raises(RemoteError, match="larger than 100000 bytes"):
        await caller(answer_bytes_max=100_000).call(Request("GET", "/x", url=server.url, retries=3))
    assert len(server.seen) == 1
    reply = await caller(answer_bytes_max=300_000).call(Request("GET", "/x", url=server.url))
    assert len(reply.body) == 300_000


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n"])
async def test_not_http(answer: bytes, caller: MakeCaller) -> None:
    """A server that does not speak HTTP is reported as such."""

    async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(RemoteError, match="not HTTP"):
            await caller().call(Request("GET", "/x", url=f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize("path", ["/a b", "/ä", "/a\r\nHost: evil", "/a\n"])
async def test_unencoded_path(path: str, backend: MakeBackend, caller: MakeCaller) -> None:
    """A path that is not encoded is refused before anything is sent."""
    server = await backend()
    with pytest.raises(InvalidInput, match="not an encoded URL"):
        await caller().call(Request("GET", path, url=server.url))
    assert server.seen == []


async def test_header_injection(backend: MakeBackend, caller: MakeCaller) -> None:
    """A header with a line break is refused before anything is sent."""
    server = await backend()
    with pytest.raises(InvalidInput, match="cannot be sent"):
        await caller().call(Request("GET", "/", url=server.url, headers={"x": "a\r\ny: b"}))
    assert server.seen == []


async def test_context_travels(backend: MakeBackend, caller: MakeCaller) -> None:
    """Correlation, cause, tenant and trace of the current message go along, the trace as child."""
    server = await backend()
    trace, span = "a" * 32, "b" * 16
    cause = Metadata(
        id="m2", correlation_id="m1", traceparent=f"00-{trace}-{span}-01", tenant="north"
    )
    with handling(cause):
        await caller().call(Request("GET", "/", url=server.url))
    sent = server.seen[0].headers
    assert sent["headwater-correlation-id"] == "m1"
    assert sent["headwater-causation-id"] == "m2"
    assert sent["headwater-tenant"] == "north"
    child = re.fullmatch(rf"00-{trace}-([0-9a-f]{{16}})-01", sent["traceparent"])
    assert child is not None
    assert child[1] != span


async def test_body_and_headers(backend: MakeBackend, caller: MakeCaller) -> None:
    """Body, query string and headers arrive as they are; the answer's headers ignore case."""
    server = await backend(status(200, **{"X-Answer": "1"}))
    request = Request(
        "PUT", "/a%2Fb?q=%C3%A4", url=server.url + "/base", body=b"\x00\xff", headers={"x-a": "b"}
    )
    reply = await caller().call(request)
    assert server.bodies == [b"\x00\xff"]
    assert server.seen[0].raw_path == "/base/a%2Fb?q=%C3%A4"
    assert server.seen[0].headers["X-A"] == "b"
    assert reply.headers["x-answer"] == reply.headers["X-ANSWER"] == "1"


async def test_tls(caller: MakeCaller) -> None:
    """Over https an unknown authority is refused, and one that the context knows accepted."""
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    app = web.Application()
    app.router.add_get("/x", status(200))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_side).start()
        request = Request("GET", "/x", url=f"https://127.0.0.1:{runner.addresses[0][1]}")
        assert (await caller(tls=client_side).call(request)).status == 200
        with pytest.raises(Unreachable, match="certificate"):
            await caller().call(request)
    finally:
        await runner.cleanup()


async def test_unknown_host(caller: MakeCaller) -> None:
    """A host name that does not exist is named in the error."""
    with pytest.raises(Unreachable, match=r"http://nowhere\.invalid cannot be reached"):
        await caller(patience_s=0.0).call(Request("GET", "/x", url="http://nowhere.invalid"))
