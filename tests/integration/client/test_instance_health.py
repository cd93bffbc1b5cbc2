"""Which instance is asked: affinity, circuit breaker, arrival, overload."""

import asyncio
import os
import signal
import sys
import time

import pytest
from aiohttp import web

from headwater.client import HttpCaller, Request
from headwater.discovery import Instance, LocalDiscovery
from headwater.errors import (
    CircuitOpen,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    NoInstance,
    Overloaded,
)
from headwater.messages import handling, new_metadata
from tests.integration.client.conftest import Clock, MakeBackend, MakeCaller, cut, status
from tests.integration.client.test_retry_safety import never

GET = Request("GET", "/x", service="shop")


async def test_routing_key(backend: MakeBackend, caller: MakeCaller) -> None:
    """All calls of one routing key go to one instance; keys spread over all."""
    for name in "abc":
        await backend(name=name)
    made = caller()
    homes = {}
    for key in map(str, range(30)):
        request = Request("GET", "/x", service="shop", routing_key=key)
        homes[key] = {(await made.call(request)).instance for _ in range(3)}
    assert all(len(home) == 1 for home in homes.values())
    assert set.union(*homes.values()) == set("abc")


async def test_role(discovery: LocalDiscovery, backend: MakeBackend, caller: MakeCaller) -> None:
    """A call for one side of a service goes to instances of that side or of both."""
    writer, reader = await backend(register=False), await backend(register=False)
    await discovery.register(writer.instance(id="writer", role="command"))
    await discovery.register(reader.instance(id="reader", role="query"))
    made = caller()
    for role, expected in (("command", "writer"), ("query", "reader")):
        request = Request("GET", "/x", service="shop", role=role)
        assert {(await made.call(request)).instance for _ in range(5)} == {expected}


async def test_ejection(backend: MakeBackend, caller: MakeCaller, clock: Clock) -> None:
    """After consecutive failures an instance is left alone, and asked again after a while."""
    sick, well = await backend(status(502), name="sick"), await backend(name="well")
    made = caller(eject_after=3)
    while len(sick.seen) < 3:
        await made.call(GET)
    assert {(await made.call(GET)).instance for _ in range(10)} == {"well"}
    assert well.seen
    sick.handler = status(200)
    clock.added = 61
    async with asyncio.timeout(30):
        while (await made.call(GET)).instance != "sick":
            pass


async def test_success_between_failures(backend: MakeBackend, caller: MakeCaller) -> None:
    """Only failures in a row count; a success forgets those before."""
    codes = iter([502, 502, 200] * 10)

    async def alternate(_: web.Request) -> web.StreamResponse:
        return web.Response(status=next(codes))

    server = await backend(alternate)
    made = caller(eject_after=3)
    for _ in range(30):
        await made.call(Request("GET", "/x", url=server.url))
    assert len(server.seen) == 30


async def test_circuit_of_a_url(backend: MakeBackend, caller: MakeCaller, clock: Clock) -> None:
    """A base URL that keeps failing is not asked for a while; one probe closes the circuit."""
    server = await backend(status(502), register=False)
    made = caller(eject_after=3)
    request = Request("GET", "/x", url=server.url)
    for _ in range(3):
        assert (await made.call(request)).status == 502
    with pytest.raises(CircuitOpen, match="suspended") as caught:
        await made.call(request)
    assert 0 < caught.value.retry_after_s <= 60
    assert len(server.seen) == 3
    server.handler = status(200)
    clock.added = 61
    assert {(await made.call(request)).status for _ in range(5)} == {200}


async def test_one_probe(backend: MakeBackend, caller: MakeCaller) -> None:
    """While one call probes a base URL again, others are still refused."""
    release = asyncio.Event()

    async def held(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    server = await backend(status(502), register=False)
    made = caller(eject_after=1)
    request = Request("GET", "/x", url=server.url)
    await made.call(request)
    server.handler = held
    server.arrived.clear()
    calls: list[asyncio.Task[object]] = []
    async with asyncio.timeout(30):
        while not server.arrived.is_set():
            calls.append(asyncio.create_task(made.call(request)))
            await asyncio.sleep(0.01)
    with pytest.raises(CircuitOpen):
        await made.call(request)
    release.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [o.status for o in outcomes if not isinstance(o, CircuitOpen)] == [200]


@pytest.mark.usefixtures("clock")
async def test_circuit_of_the_only_instance(backend: MakeBackend, caller: MakeCaller) -> None:
    """A service whose one instance keeps failing is not asked for a while."""
    server = await backend(status(502))
    made = caller(eject_after=3)
    for _ in range(3):
        await made.call(GET)
    with pytest.raises(CircuitOpen, match="http://127"):
        await made.call(GET)
    assert len(server.seen) == 3


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("timeout_s", [0.05, 0.5, 0.6])
async def test_late_answers_open_the_circuit(
    timeout_s: float, backend: MakeBackend, caller: MakeCaller
) -> None:
    """Each use of the whole time allowed counts as a failure, however short it is."""
    server = await backend(never)
    made = caller(eject_after=2)
    late = Request("GET", "/x", service="shop", timeout_s=timeout_s)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            await made.call(late)
    with pytest.raises(CircuitOpen):
        await made.call(late)
    assert len(server.seen) == 2


async def test_a_caller_in_a_hurry_opens_no_circuit(
    backend: MakeBackend, caller: MakeCaller
) -> None:
    """An attempt for which a deadline left hardly any time says nothing about the instance."""
    await backend(never)
    made = caller(eject_after=1)
    metadata = new_metadata()
    for _ in range(3):
        deadline = time.monotonic() + 0.02
        with pytest.raises(DeadlineExceeded), handling(metadata, deadline=deadline):
            await made.call(GET)  # would be refused by an open circuit


async def test_least_bad(backend: MakeBackend, caller: MakeCaller) -> None:
    """When all instances of a service are ejected they are asked all the same."""
    servers = [await backend(status(502), name=name) for name in "ab"]
    made = caller(eject_after=1)
    for _ in range(10):
        assert (await made.call(GET)).status == 502
    assert sum(len(server.seen) for server in servers) == 10


@pytest.mark.usefixtures("clock")
async def test_a_successor_starts_healthy(
    discovery: LocalDiscovery, backend: MakeBackend, caller: MakeCaller
) -> None:
    """An instance that registers anew under its id is not held responsible for its past."""
    first, other = await backend(status(502), name="a"), await backend(status(502), name="b")
    made = caller(eject_after=1)
    for _ in range(4):
        await made.call(GET)
    first.handler = status(200)
    await discovery.register(first.instance(started=2))
    assert {(await made.call(GET)).instance for _ in range(10)} == {"a"}
    assert other.seen


async def test_arrival(discovery: LocalDiscovery, backend: MakeBackend, caller: MakeCaller) -> None:
    """A call waits a moment for a first instance to register."""
    server = await backend(register=False)
    call = asyncio.ensure_future(caller(patience_s=10.0).call(GET))
    done, _ = await asyncio.wait([call], timeout=0.05)
    assert not done
    await discovery.register(server.instance())
    assert (await asyncio.wait_for(call, 30)).status == 200


async def test_no_instance(caller: MakeCaller) -> None:
    """When none registers in time the error names the service."""
    started = time.monotonic()
    with pytest.raises(NoInstance, match="'shop'"):
        await caller(patience_s=0.1).call(GET)
    assert 0.09 <= time.monotonic() - started < 5


async def test_connections_are_bounded(backend: MakeBackend, caller: MakeCaller) -> None:
    """No more calls run on one instance than connections are allowed; the rest waits."""

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return web.Response()

    server = await backend(slow)
    made = caller(connections=3, waiting=100)
    replies = await asyncio.gather(*(made.call(GET) for _ in range(30)))
    assert {reply.status for reply in replies} == {200}
    assert server.most_running == 3


async def test_waiting_is_bounded(backend: MakeBackend, caller: MakeCaller) -> None:
    """One call more than may run and wait is refused at once."""
    release = asyncio.Event()

    async def held(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    server = await backend(held)
    made = caller(connections=1, waiting=2)
    calls = [asyncio.ensure_future(made.call(GET)) for _ in range(3)]
    await asyncio.wait_for(server.arrived.wait(), 30)
    with pytest.raises(Overloaded, match="3 requests are in progress"):
        await made.call(GET)
    release.set()
    assert {reply.status for reply in await asyncio.gather(*calls)} == {200}


async def test_neither_service_nor_url(caller: MakeCaller) -> None:
    """A call to nowhere, to a URL that is none, or by name without discovery, is refused."""
    for url in ("", "shop", "ftp://shop", "http://", "http://shop?x=1"):
        with pytest.raises(ConfigurationError, match="base URL"):
            await caller().call(Request("GET", "/x", url=url))
    with pytest.raises(ConfigurationError, match="without discovery"):
        await HttpCaller().call(GET)


PROGRAM = """
import asyncio, sys
from aiohttp import web

async def hang(request):
    await request.read()
    print("arrived", flush=True)
    await asyncio.Event().wait()

async def main():
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hang)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_killed_process(
    method: str, discovery: LocalDiscovery, backend: MakeBackend, caller: MakeCaller
) -> None:
    """When a process dies in mid-call a GET goes to another one, and a POST is not repeated."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), 30))
        await discovery.register(Instance("shop", "victim", "127.0.0.1", port))
        request = Request(method, "/x", service="shop", retries=1, routing_key="k")
        call = asyncio.ensure_future(caller().call(request))
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"arrived\n"
        survivor = await backend(name="survivor")
        os.kill(process.pid, signal.SIGKILL)
        if method == "POST":
            with pytest.raises(ConnectionLost, match="may have been carried out"):
                await call
            assert survivor.seen == []
        else:
            assert (await call).instance == "survivor"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert (await caller().call(Request("POST", "/x", service="shop"))).instance == "survivor"


async def test_cancellation(backend: MakeBackend, caller: MakeCaller) -> None:
    """A cancelled call closes its connection, which the server sees."""

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    server = await backend(never)
    call = asyncio.ensure_future(caller().call(GET))
    await asyncio.wait_for(server.arrived.wait(), 30)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(server.cancelled.wait(), 30)


async def test_hedging(backend: MakeBackend, caller: MakeCaller) -> None:
    """A slow GET is asked of a second instance too; the first answer wins, the other is dropped."""

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    slow, fast = await backend(never, name="slow"), await backend(name="fast")
    made = caller()
    request = Request("GET", "/x", service="shop", hedge_s=0.05)
    async with asyncio.timeout(30):
        while not slow.seen:
            assert (await made.call(request)).instance == "fast"
    await asyncio.wait_for(slow.cancelled.wait(), 30)
    assert slow.running == 0
    assert fast.seen


async def test_hedged_deadline(backend: MakeBackend, caller: MakeCaller) -> None:
    """The second attempt ends at the same deadline as the first."""

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    servers = [await backend(never, name=name) for name in "ab"]
    request = Request("GET", "/x", service="shop", timeout_s=1.5, hedge_s=0.75)
    with pytest.raises(DeadlineExceeded):
        await caller().call(request)
    told = sorted(int(s.seen[0].headers["headwater-timeout-ms"]) for s in servers)
    assert told[0] <= 750 < told[1] <= 1500


async def test_hedging_only_where_safe(backend: MakeBackend, caller: MakeCaller) -> None:
    """A POST is never hedged."""

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return web.Response()

    servers = [await backend(slow, name=name) for name in "ab"]
    await caller().call(Request("POST", "/x", service="shop", hedge_s=0.01, idempotent=True))
    assert sum(len(server.seen) for server in servers) == 1


async def test_failed_hedge(backend: MakeBackend, caller: MakeCaller) -> None:
    """When the second attempt fails, the first one is still waited for."""
    release = asyncio.Event()

    async def held(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response(text="late")

    async def broken(request: web.Request) -> web.StreamResponse:
        release.set()
        return await cut(request)

    slow, _ = await backend(held, name="slow"), await backend(broken, name="broken")
    ranked = (str(n) for n in range(1000))
    made = caller()
    async with asyncio.timeout(30):
        while not slow.seen:
            release.clear()
            request = Request(
                "GET", "/x", service="shop", hedge_s=0.05, routing_key=next(ranked), retries=1
            )
            reply = await made.call(request)
    assert reply.body == b"late"
