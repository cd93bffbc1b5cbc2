"""The client against real registries, in this process and in others that are killed."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from headwater._http.server import AsgiServer
from headwater.discovery import Instance
from headwater.discovery.client import DiscoveryClient
from headwater.discovery.registry import Registry
from headwater.discovery.server import DiscoveryServer
from headwater.errors import ConfigurationError, MalformedMessage, StartupError
from tests.integration.discovery.conftest import RegistryProcess, until


def instance(id: str = "accounts-1", **fields: object) -> Instance:
    port = 8001 + sum(map(ord, id))
    return Instance(service="accounts", id=id, host="127.0.0.1", port=port, **fields)


def ids(client: DiscoveryClient) -> list[str]:
    return [found.id for found in client.instances("accounts")]


@pytest.fixture
async def client(server: DiscoveryServer) -> AsyncIterator[DiscoveryClient]:
    async with DiscoveryClient(server.url) as client:
        yield client


@pytest.fixture
async def other(server: DiscoveryServer) -> AsyncIterator[DiscoveryClient]:
    async with DiscoveryClient(server.url) as client:
        yield client


async def test_registration_reaches_others(client: DiscoveryClient, other: DiscoveryClient) -> None:
    """What one client registers, updates and removes is pushed to another, in that order."""
    async with aclosing(other.changes()) as changes:
        assert await anext(changes) == {}
        await client.register(instance())
        assert [i.status for i in (await anext(changes))["accounts"]] == ["UP"]
        await client.update(instance(status="DRAINING"))
        assert [i.status for i in (await anext(changes))["accounts"]] == ["DRAINING"]
        assert ids(other) == []
        await client.deregister("accounts-1")
        assert await anext(changes) == {}


async def test_renewals_keep_an_instance_live() -> None:
    """A registered instance outlives many leases without a single change being pushed."""
    registry = Registry(pause_s=0.15)  # when this process stands still, that is nobody's silence
    async with DiscoveryServer(registry=registry) as server, DiscoveryClient(server.url) as client:
        await client.register(instance(lease_s=0.3))
        revision = registry.revision
        deadline = asyncio.get_running_loop().time() + 1.0
        await until(lambda: asyncio.get_running_loop().time() > deadline)
        assert registry.revision == revision
        assert ids(client) == ["accounts-1"]


async def test_close_removes(server: DiscoveryServer, other: DiscoveryClient) -> None:
    """Closing a client removes what it registered; closing twice is fine."""
    client = DiscoveryClient(server.url)
    await client.register(instance())
    await until(lambda: ids(other) == ["accounts-1"])
    await client.close()
    assert server.registry.services() == {}
    await client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        await client.start()


async def test_lost_registration_is_repeated(
    server: DiscoveryServer, client: DiscoveryClient
) -> None:
    """An instance that the registry lost is registered again by its next renewal."""
    await client.register(instance(lease_s=0.3))
    server.registry.deregister("accounts-1")
    await until(lambda: server.registry.live("accounts"))


async def test_refusal_is_not_repeated(client: DiscoveryClient) -> None:
    """A registration that the registry refuses raises its reason at once."""
    with pytest.raises(MalformedMessage, match="lease_s is 99999"):
        await client.register(instance(lease_s=99999.0))
    assert client.status().registered == {}


async def test_unreachable_at_start() -> None:
    """A registry that is not there is named at start, with what to do; nothing is left running."""
    client = DiscoveryClient("http://127.0.0.1:9", start_timeout_s=0.3)
    for attempt in (client.register(instance()), client.start()):
        with pytest.raises(StartupError, match=r"at http://127.0.0.1:9: no answer") as e:
            await attempt
        assert "start the discovery service, or correct its URL" in str(e.value)
    assert client.status().registered == {}
    await client.close()


async def test_not_a_registry() -> None:
    """A server that is no registry is named at start with what it answered."""

    async def app(_scope: object, _receive: object, send: object) -> None:
        start = {"type": "http.response.start", "status": 418, "headers": []}
        await send(start)  # type: ignore[operator] # an ASGI send
        await send({"type": "http.response.body", "body": b"tea"})  # type: ignore[operator] # same

    async with AsgiServer(app) as server:
        client = DiscoveryClient(server.url, start_timeout_s=0.3)
        with pytest.raises(StartupError, match="answered 418: tea"):
            await client.register(instance())
        await client.close()


@pytest.mark.parametrize("url", ["", "localhost:1", "ftp://h", "http://h:x", "http://"])
def test_no_url(url: str) -> None:
    """What is no URL is refused before anything is requested."""
    with pytest.raises(ConfigurationError, match="discovery"):
        DiscoveryClient(url)


async def test_cache_survives_a_killed_registry(process: RegistryProcess) -> None:
    """Clients keep what they know while the registry is dead, and say that it is stale."""
    async with DiscoveryClient(process.url) as client:
        await client.register(instance(lease_s=3))
        await until(lambda: ids(client))
        await process.kill()
        await until(lambda: not client.status().url)
        assert ids(client) == ["accounts-1"]
        status = client.status()
        assert status.error
        await until(lambda: client.status().stale_s > status.stale_s)
        assert ids(client) == ["accounts-1"]


async def test_restarted_registry_is_complete_again(process: RegistryProcess) -> None:
    """A registry that lost its memory learns all again, and nobody sees an instance vanish."""
    async with DiscoveryClient(process.url) as one, DiscoveryClient(process.url) as two:
        await one.register(instance("accounts-1", lease_s=6))
        await two.register(instance("accounts-2", lease_s=6))
        await until(lambda: len(ids(one)) == len(ids(two)) == 2)
        seen: list[int] = []

        async def follow() -> None:
            async for services in one.changes():
                seen.append(len(services.get("accounts", ())))

        follower = asyncio.create_task(follow())
        await process.kill()
        await until(lambda: not one.status().url and not two.status().url)
        await process.start()
        async with DiscoveryClient(process.url) as fresh:
            await until(lambda: ids(fresh) == ["accounts-1", "accounts-2"])
        await until(lambda: one.status().url)
        assert ids(one) == ["accounts-1", "accounts-2"]
        assert min(seen) == 2
        follower.cancel()


async def test_dead_instance_is_dropped_after_a_restart(process: RegistryProcess) -> None:
    """An instance that does not come back after the registry's restart is dropped after a lease."""
    async with DiscoveryClient(process.url) as client:
        gone = DiscoveryClient(process.url)
        await gone.register(instance("gone", lease_s=0.5))
        await client.register(instance("stays", lease_s=0.5))
        await until(lambda: ids(client) == ["gone", "stays"])
        await process.kill()
        await gone.close()
        await process.start()
        await until(lambda: ids(client) == ["stays"])


async def test_suspended_registry_expires_nobody(process: RegistryProcess) -> None:
    """After a pause of the registry longer than every lease, nobody is pushed as DOWN."""
    async with DiscoveryClient(process.url) as client:
        await client.register(instance(lease_s=3))
        statuses: list[str] = []

        async def follow() -> None:
            async for services in client.changes():
                statuses.extend(i.status for i in services.get("accounts", ()))

        follower = asyncio.create_task(follow())
        await until(lambda: statuses)
        process.signal(signal.SIGSTOP)
        paused = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > paused + 3.5)
        process.signal(signal.SIGCONT)
        await client.update(instance(lease_s=3, version="2"))
        await until(lambda: [i.version for i in client.instances("accounts")] == ["2"])
        assert set(statuses) == {"UP"}
        follower.cancel()


async def test_fail_over(process: RegistryProcess, server: DiscoveryServer) -> None:
    """With two registries each knows every instance, and the death of one is not noticed."""
    async with (
        DiscoveryClient([process.url, server.url]) as client,
        DiscoveryClient(f"{server.url},{process.url}") as other,
    ):
        await client.register(instance("accounts-1"))
        await other.register(instance("accounts-2"))
        await until(lambda: len(ids(client)) == len(ids(other)) == 2)
        await until(lambda: len(client.status().registered["accounts-1"]) == 2)
        await process.kill()
        await until(lambda: client.status().url == server.url)
        await other.deregister("accounts-2")
        await until(lambda: ids(client) == ["accounts-1"])


async def test_start_with_one_of_two(server: DiscoveryServer) -> None:
    """One registry of several is enough to start."""
    async with DiscoveryClient(["http://127.0.0.1:9", server.url]) as client:
        await client.register(instance())
        await until(lambda: ids(client) == ["accounts-1"])
        assert client.status().registered == {"accounts-1": (server.url,)}
