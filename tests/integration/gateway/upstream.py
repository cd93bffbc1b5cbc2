"""A small real service: it says who it is, and can be slow, stream, fail, or count what it saw."""

import asyncio
import os
import signal
import ssl
import sys

from aiohttp import WSMsgType, web

NAME = sys.argv[1]
SEEN: dict[str, int] = {}
LEAVE = asyncio.Event()


async def echo(request: web.Request) -> web.Response:
    """Answer with what arrived."""
    body = await request.read()
    SEEN[request.path] = SEEN.get(request.path, 0) + 1
    return web.json_response(
        {
            "name": NAME,
            "method": request.method,
            "path": request.path_qs,
            "headers": {k.lower(): v for k, v in request.headers.items()},
            "bytes": len(body),
            "seen": SEEN[request.path],
        }
    )


async def slow(request: web.Request) -> web.Response:
    """Answer after a number of seconds, or when somebody asks for ``/leave``."""
    if "s" in request.query:
        await asyncio.sleep(float(request.query["s"]))
    else:
        await LEAVE.wait()
    return web.json_response({"name": NAME})


async def leave(_request: web.Request) -> web.Response:
    """Let those who wait leave."""
    LEAVE.set()
    return web.Response()


async def status(request: web.Request) -> web.Response:
    """Answer with a status of the caller's choice, counted."""
    SEEN[request.path] = SEEN.get(request.path, 0) + 1
    code = int(request.match_info["code"])
    return web.json_response({"name": NAME, "code": "mine"}, status=code)


async def fall(request: web.Request) -> web.Response:
    """Break the connection instead of answering, unless told who shall answer."""
    SEEN[request.path] = SEEN.get(request.path, 0) + 1
    body = await request.read()
    if request.query.get("by") in {NAME, "all"}:
        assert request.transport is not None
        request.transport.abort()
    return web.json_response({"name": NAME, "bytes": len(body)})


async def counts(_request: web.Request) -> web.Response:
    """Answer how often each path was asked."""
    return web.json_response(SEEN)


async def events(request: web.Request) -> web.StreamResponse:
    """Stream an event every 100 ms, for as long as the caller stays."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for number in range(int(request.query["n"])):
        await response.write(f"data: {number}\n\n".encode())
        await asyncio.sleep(0.1)
    return response


async def socket(request: web.Request) -> web.WebSocketResponse:
    """Echo over a WebSocket."""
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    async for message in answer:
        if message.type is WSMsgType.TEXT:
            await answer.send_str(f"{NAME}:{message.data}")
    return answer


async def main() -> None:
    """Serve until told to stop; the first line on standard output is the port."""
    app = web.Application(client_max_size=1 << 28)
    app.router.add_route("*", "/slow", slow)
    app.router.add_get("/leave", leave)
    app.router.add_get("/events", events)
    app.router.add_get("/socket", socket)
    app.router.add_get("/counts", counts)
    app.router.add_route("*", "/status/{code}", status)
    app.router.add_route("*", "/fall", fall)
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    tls = None
    if len(sys.argv) > 2:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[2])
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    parent = os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        try:
            await asyncio.wait_for(stop.wait(), 1.0)
        except TimeoutError:
            continue
    await runner.cleanup()


asyncio.run(main())
