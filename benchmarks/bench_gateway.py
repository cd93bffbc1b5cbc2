"""Requests through the gateway, against the service itself and against a bare Envoy.

The service is as lean as Python allows, so that what is measured is what stands before it. Envoy
has one worker in both cases; the gateway has its defaults (access log, retries, size limit, ...)
and the routes of a service with fifty of them, the bare Envoy one route and nothing else. The
load comes from wrk (``apt install wrk``).
"""

import asyncio
import json
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.harness import Measured, benchmark
from headwater.discovery import Instance, RouteInfo
from headwater.discovery.local import StaticDiscovery
from headwater.gateway import Gateway, GatewaySettings
from headwater.gateway.supervisor import find_envoy

SECONDS = 1
TURNS = 2  # value and peer take turns, so that both meet the same neighbours
CONNECTIONS = 32
PATH = "/accounts/4711/part-12"  # in the middle of the routes, since the first match wins
ROUTES = (
    RouteInfo("GET", "/accounts/{account_id}", "query", "GetAccount"),
    *(RouteInfo("GET", f"/accounts/{{account_id}}/part-{n}", "query") for n in range(24)),
    *(RouteInfo("POST", f"/accounts/{{account_id}}/do-{n}", "command") for n in range(25)),
)
SERVICE = """
import asyncio, uvloop
ANSWER = (b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: 60\\r\\n\\r\\n"
          + b'{"id":"4711","holder":"Ada","balance":125000}'.ljust(60))
class Service(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(ANSWER * data.count(b"\\r\\n\\r\\n"))
async def main():
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""


@benchmark("gateway", unit="req/s", peer="straight to the service", runs=3)
async def gateway() -> Measured:
    """Through the gateway, and straight to the service."""
    async with _service() as port, _gateway(port) as front:
        return await _compare(front, port)


@benchmark("gateway.envoy", unit="req/s", peer="bare Envoy, one static route", runs=3)
async def gateway_envoy() -> Measured:
    """Through the gateway, and through an Envoy that does nothing but pass requests on."""
    async with _service() as port, _gateway(port) as front, _bare_envoy(port) as bare:
        return await _compare(front, bare)


@asynccontextmanager
async def _service() -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.communicate()


@asynccontextmanager
async def _gateway(port: int) -> AsyncIterator[int]:
    instance = Instance(service="accounts", id="a", host="127.0.0.1", port=port, routes=ROUTES)
    with tempfile.TemporaryDirectory() as folder:
        settings = GatewaySettings(port=0, data=Path(folder), concurrency=1)
        async with Gateway(settings, StaticDiscovery({"accounts": [instance]})) as running:
            yield running.port


@asynccontextmanager
async def _bare_envoy(port: int) -> AsyncIterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        config, admin = Path(folder, "envoy.json"), Path(folder, "admin")
        config.write_text(json.dumps(_bare_config(port)))  # noqa: ASYNC240  # small
        process = await asyncio.create_subprocess_exec(
            *(find_envoy(GatewaySettings()), "-c", config, "--disable-hot-restart"),
            *("--concurrency", "1", "-l", "off", "--admin-address-path", admin),
        )
        try:
            yield await _bare_port(admin)
        finally:
            process.terminate()
            await process.wait()


async def _bare_port(admin: Path) -> int:
    """Ask the admin interface for the port that the listener was given."""
    async with asyncio.timeout(10):
        while True:
            address = _text(admin)
            if address:
                host, _, port = address.partition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET /listeners HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                found = re.search(rb"front::127\.0\.0\.1:(\d+)", await reader.read())
                writer.close()
                if found:
                    return int(found[1])
            await asyncio.sleep(0.05)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _bare_config(port: int) -> dict[str, object]:
    def at(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    kind = "type.googleapis.com/envoy.extensions.filters."
    router = {"name": "r", "typed_config": {"@type": kind + "http.router.v3.Router"}}
    host = {
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "s"}}],
    }
    manager = {
        "@type": kind + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [router],
    }
    endpoint = {"endpoint": {"address": at(port)}}
    cluster = {
        "name": "s",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "s", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "front", "address": at(0), "filter_chains": [chain]}
    return {
        "admin": {"address": at(0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


async def _compare(port: int, peer: int) -> Measured:
    """Return the mean rates of both over all turns."""
    rates = [(await _load(port), await _load(peer)) for _ in range(TURNS)]
    return Measured(sum(r[0] for r in rates) / TURNS, sum(r[1] for r in rates) / TURNS)


async def _load(port: int) -> float:
    """Return the requests per second that wrk counts; any failed request is an error."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed: run `apt install wrk`")
    process = await asyncio.create_subprocess_exec(
        *(program, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", f"http://127.0.0.1:{port}{PATH}"),
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if rate is None or "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"wrk met failed requests:\n{output}")
    return float(rate[1])
