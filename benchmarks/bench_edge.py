"""The servers that could stand under the HTTP edge, inside a running event loop.

Each serves the same small JSON answer from the same loop, uvloop: once from a Litestar handler, as
the edge does, once from a bare ASGI function, which leaves the server alone. Value is ours
(uvicorn, through `AsgiServer`), peer is granian's embedded server, in one run and in turns. The
load comes from wrk (``apt install wrk``); granian comes with the development dependencies.
"""

import asyncio
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from litestar import Litestar, get

from benchmarks.harness import Measured, benchmark
from headwater._http.server import AsgiServer

SECONDS = 2
CONNECTIONS = 64
BODY = b'{"id":"4711","holder":"Ada","balance":125000}'


@benchmark("edge.litestar", unit="req/s", peer="granian, embedded", runs=3)
def litestar_handler() -> Measured:
    """A Litestar handler."""
    return Measured(_rate(_uvicorn, _litestar()), _rate(_granian, _litestar()))


@benchmark("edge.asgi", unit="req/s", peer="granian, embedded", runs=3)
def bare_asgi() -> Measured:
    """A bare ASGI function."""
    return Measured(_rate(_uvicorn, _bare), _rate(_granian, _bare))


def _litestar() -> Litestar:
    @get("/account")
    async def account() -> dict[str, Any]:
        return {"id": "4711", "holder": "Ada", "balance": 125000}

    return Litestar([account], openapi_config=None, logging_config=None)


async def _bare(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/json"), (b"content-length", b"45")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})
    else:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def _uvicorn(app: Any) -> AsyncIterator[int]:
    server = AsgiServer(app)
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop(1.0)


@asynccontextmanager
async def _granian(app: Any) -> AsyncIterator[int]:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(
        app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False
    )
    serving = asyncio.create_task(server.serve())
    try:
        await _reachable(port)
        yield port
    finally:
        server.stop()
        await serving


async def _reachable(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


def _rate(server: Any, app: Any) -> float:
    """Return the requests per second that one wrk thread gets out of a server."""
    path = "/account"

    async def measure() -> float:
        async with server(app) as port:
            wrk = shutil.which("wrk") or "wrk"
            command = (wrk, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s")
            # Not uvloop's subprocess: it forks, and granian's threads may hold a lock just then.
            load = await asyncio.to_thread(
                subprocess.run,
                (*command, f"http://127.0.0.1:{port}{path}"),
                capture_output=True,
                text=True,
                check=True,
                timeout=SECONDS + 20,
            )
            output = load.stdout
            if "Non-2xx" in output:
                raise RuntimeError(output)
            found = re.search(r"Requests/sec:\s+([\d.]+)", output)
            if found is None:
                raise RuntimeError(output)
            return float(found[1])

    return uvloop.run(measure())
