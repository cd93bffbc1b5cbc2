"""What the gateway knows after a restart, of itself and of the registry."""

import contextlib

import msgspec
import pytest

from headwater.discovery import DiscoveryClient, DiscoveryServer, LocalDiscovery, Standing
from headwater.errors import NoInstance, NotKnownYet, RouteNotFound, StartupError, from_problem
from headwater.gateway import Gateway
from headwater.gateway.last_seen import remembers
from tests.ports import HeldPort

from .conftest import routed, until

LONG_S = 3600.0


async def asked(http, url):
    """Return the name of who answered, or the error."""
    async with http.get(url) as answer:
        if answer.status == 200:
            return (await answer.json())["name"]
        error = from_problem(await answer.json(), status=answer.status, source="gateway")
        if answer.status == 503:
            assert int(answer.headers["retry-after"]) >= 1
        return error


@contextlib.asynccontextmanager
async def registry_and_gateway(settings, settle_s, *instances):
    """Run both, the registry with these instances, which nobody renews."""
    async with DiscoveryServer(settle_s=settle_s) as server:
        for instance in instances:
            server.registry.register(instance)
        async with DiscoveryClient(server.url) as client, Gateway(settings, client) as gateway:
            yield server.registry, gateway


async def test_both_restart(settings, upstream, http):
    """After the gateway and a registry without memory restart together, nothing known is lost.

    What was served is served; what nobody knows is unavailable until all had the time to register,
    and only then not found; a service that did not come back is unavailable, not "not found".
    """
    one, two = await upstream("one"), await upstream("two")
    routes = one.instance().routes[:1]
    new = two.instance(service="new", lease_s=LONG_S)
    new = msgspec.structs.replace(
        new,
        routes=(
            msgspec.structs.replace(routes[0], method="GET", path="/new", kind="query", key=""),
        ),
    )
    async with registry_and_gateway(settings, 0.0, one.instance(lease_s=LONG_S)) as (_, gateway):
        await routed(gateway, accounts=1)
        url = "/accounts/7"
        assert await asked(http, gateway.url + url) == "one"
        assert isinstance(await asked(http, f"{gateway.url}/new"), RouteNotFound)
    async with registry_and_gateway(settings, LONG_S) as (registry, gateway):
        assert gateway.status().settling
        assert await asked(http, gateway.url + url) == "one"
        assert isinstance(await asked(http, f"{gateway.url}/new"), NotKnownYet)
        async with http.get(f"{gateway.url}/health/ready") as answer:
            told = await answer.json()
        assert (answer.status, told["status"]) == (200, "degraded")
        assert "has not heard from everyone" in told["problems"]["discovery"]
        registry.register(new)
        await routed(gateway, new=1)
        assert await asked(http, f"{gateway.url}/new") == "two"
    async with registry_and_gateway(settings, 0.0, new) as (_, gateway):
        assert isinstance(await asked(http, gateway.url + url), NoInstance)
        assert isinstance(await asked(http, f"{gateway.url}/nowhere"), RouteNotFound)
        assert await asked(http, f"{gateway.url}/new") == "two"


class Settling(LocalDiscovery):
    """A registry of which the test says for how long it is settling."""

    left_s = 0.2

    def standing(self) -> Standing:
        return Standing(settling_s=self.left_s)


async def test_settling_ends_by_itself(settings, upstream, http):
    """When everyone has had the time to register, what is unknown is not found."""
    registry, one = Settling(), await upstream("one")
    await registry.register(one.instance())
    async with Gateway(settings, registry) as gateway:
        assert isinstance(await asked(http, f"{gateway.url}/nowhere"), NotKnownYet)
        registry.left_s = 0.0

        async def not_found() -> bool:
            return isinstance(await asked(http, f"{gateway.url}/nowhere"), RouteNotFound)

        await until(not_found)
        assert await asked(http, f"{gateway.url}/accounts/7") == "one"
        assert not gateway.status().settling


async def test_a_remembered_address_belongs_to_who_has_it_now(settings, upstream, http):
    """Who is remembered at an address where another service is registered now gets no request."""
    one = await upstream("one")
    async with registry_and_gateway(settings, 0.0, one.instance(lease_s=LONG_S)) as (_, gateway):
        await routed(gateway, accounts=1)
    other = one.instance(service="other", lease_s=LONG_S, routes=())
    async with registry_and_gateway(settings, LONG_S, other) as (_, gateway):
        assert isinstance(await asked(http, f"{gateway.url}/accounts/7"), NoInstance)


async def test_routes_keep_their_owner(settings, registry, upstream, http):
    """Which of two rivals serves a route survives a restart, whoever registers first then."""
    one, two = await upstream("one"), await upstream("two")
    mine, rival = one.instance(), two.instance(service="a-rival")
    await registry.put(mine)
    async with Gateway(settings, registry) as gateway:
        await registry.put(mine, rival)
        await until(lambda: gateway.status().problems != ())
    again = LocalDiscovery()
    await again.register(rival)
    await again.register(mine)
    async with Gateway(settings, again) as gateway:
        assert await asked(http, f"{gateway.url}/accounts/7") == "one"


async def test_damaged_memory_is_no_obstacle(settings, registry, upstream, http):
    """A gateway whose memory cannot be read starts without it."""
    one = await upstream("one")
    await registry.put(one.instance())
    settings.data.mkdir(parents=True)
    (settings.data / "state.json").write_text("{")
    async with Gateway(settings, registry) as gateway:
        assert await asked(http, f"{gateway.url}/accounts/7") == "one"


async def test_a_start_without_any_registry(settings, upstream, http):
    """While no registry answers, a restarted gateway serves what it remembers."""
    one = await upstream("one")
    assert not remembers(settings.data)
    async with registry_and_gateway(settings, 0.0, one.instance(lease_s=LONG_S)) as (_, gateway):
        await routed(gateway, accounts=1)
    assert remembers(settings.data)
    with HeldPort() as port:
        client = DiscoveryClient(f"http://127.0.0.1:{port}", start_timeout_s=0.1)
        with pytest.raises(StartupError):
            await client.start()
        async with Gateway(settings, client) as gateway:
            assert await asked(http, f"{gateway.url}/accounts/7") == "one"
            assert isinstance(await asked(http, f"{gateway.url}/nowhere"), NotKnownYet)
        await client.close()


class Lost(LocalDiscovery):
    """A registry that has been away for a minute."""

    def standing(self) -> Standing:
        return Standing(0.0, 61.0)


async def test_a_lost_registry_is_told(settings, upstream, http):
    """While the registry is away for long the gateway is degraded, but ready, and says why."""
    registry, one = Lost(), await upstream("one")
    await registry.register(one.instance())
    async with Gateway(settings, registry) as gateway:
        async with http.get(f"{gateway.url}/health/ready") as answer:
            told = await answer.json()
        assert (answer.status, told["status"]) == (200, "degraded")
        assert "no registry has answered for 61 s" in told["problems"]["discovery"]
        assert await asked(http, f"{gateway.url}/accounts/7") == "one"
