"""A gateway before many services: its memory, and how soon a change of one instance is served.

The gateway runs in a process of its own and follows a registry in this one, of 2,000 services
with 10,000 instances and 6,000 routes. One more service has two real instances, which take turns:
what is measured is the time from the registration of one to the first answer of it through Envoy.
The instances that are only listed are never asked.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from benchmarks.harness import Measured, benchmark
from benchmarks.percentiles import milliseconds
from headwater.discovery import DiscoveryServer, Instance, RouteInfo

SERVICES = 2000
EACH = 5
CHANGES = 200
POLL_S = 0.002
PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
GATEWAY = """
import asyncio, sys, uvloop
from pathlib import Path
from headwater.discovery import DiscoveryClient
from headwater.gateway import Gateway, GatewaySettings

async def main():
    settings = GatewaySettings(port=0, data=Path(sys.argv[2]), concurrency=1, access_log="off",
                               start_timeout_s=120.0)
    async with DiscoveryClient(sys.argv[1], start_timeout_s=60) as client:
        async with Gateway(settings, client) as gateway:
            print(gateway.port, gateway.status().pid, flush=True)
            await asyncio.Event().wait()

uvloop.run(main())
"""


def _listed(service: int, number: int) -> Instance:
    name = f"service-{service}"
    at = service * EACH + number
    routes = (
        RouteInfo("GET", f"/{name}/items/{{id}}", "query", "Get"),
        RouteInfo("GET", f"/{name}/items", "query", "List"),
        RouteInfo("POST", f"/{name}/items/{{id}}/do", "command", "Do", "id"),
    )
    return Instance(
        service=name,
        id=f"{name}-{number}",
        host=f"10.0.{at // 250}.{at % 250 + 1}",
        port=8000,
        routes=routes,
        lease_s=3600.0,
    )


@benchmark("gateway.fleet", unit="ms", runs=1)
async def fleet() -> Measured:
    """Median time until a change of one instance among 10,000 is served."""
    async with DiscoveryServer(settle_s=0.0) as server, _upstream("a") as a, _upstream("b") as b:
        for service in range(SERVICES):
            for number in range(EACH):
                server.registry.register(_listed(service, number))
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as data:
            async with _gateway(server.url, data) as (process, port, envoy):
                start_s = time.perf_counter() - began
                before = _cpu_ms(process), _cpu_ms(envoy)
                times = await _changes(server, {"a": a, "b": b}, port)
                more = milliseconds("", times) | {
                    # Of each change; unlike the time it does not depend on the neighbours.
                    "gateway_cpu_ms": (_cpu_ms(process) - before[0]) / CHANGES,
                    "envoy_cpu_ms": (_cpu_ms(envoy) - before[1]) / CHANGES,
                    "start_s": start_s,
                    "envoy_mb": _resident_mb(envoy),
                    "gateway_mb": _resident_mb(process),
                    "route_ms": await _request_ms(port),
                }
    return Measured(more.pop("p50_ms"), more=more)


async def _changes(server: DiscoveryServer, ports: dict[str, int], port: int) -> list[float]:
    times = []
    route = (RouteInfo("GET", "/probe", "query"),)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for change in range(CHANGES):
            name, other = ("a", "b") if change % 2 else ("b", "a")
            shared = {"service": "probe", "host": "127.0.0.1", "routes": route, "lease_s": 3600.0}
            started = time.perf_counter()
            server.registry.register(Instance(id="probe", port=ports[name], **shared))
            while await _answer(session) != name:
                await asyncio.sleep(POLL_S)
                assert time.perf_counter() - started < 60, f"{other} is served instead of {name}"
            times.append(time.perf_counter() - started)
            await asyncio.sleep(0.02)
    return times[1:]  # the first brings a new route, which is another matter


async def _answer(session: aiohttp.ClientSession) -> str:
    async with session.get("/probe") as answer:
        return await answer.text()


async def _request_ms(port: int) -> float:
    """Return the median time of a request for the last of all routes."""
    times = []
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for _ in range(200):
            started = time.perf_counter()
            await _answer(session)
            times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2] * 1000


def _cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE_KB / 1024


@asynccontextmanager
async def _upstream(name: str) -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _gateway(url: str, data: str) -> AsyncIterator[tuple[int, int, int]]:
    """Run a gateway; give its process id, its port, and the process id of its Envoy."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GATEWAY, url, data), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(120):
            words = b""
            while not words.replace(b" ", b"").strip().isdigit():
                words = await process.stdout.readline()
                assert words, "the gateway ended"
        port, envoy = map(int, words.split())
        yield process.pid, port, envoy
    finally:
        process.kill()
        await process.communicate()
