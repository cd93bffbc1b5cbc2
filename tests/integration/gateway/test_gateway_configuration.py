"""How Envoy comes to its configuration: on one stream, part by part, and by itself if need be."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from headwater.discovery import Instance, RouteInfo
from headwater.gateway import Gateway, envoy_routes
from headwater.gateway.supervisor import find_envoy

from .conftest import routed, until

MANY = 200


async def name_at(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["name"]


def watches(pid: int) -> int:
    """Return how many of the system's few inotify instances a process holds."""
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return links.count("anon_inode:inotify")


async def test_services_cost_no_watches(gateway, registry, upstream, http):
    """Any number of services is served with the watches of none, of which a user has 128."""
    one = await upstream("one")
    none = watches(gateway.status().pid)
    services = [
        Instance(
            service=f"s{n}",
            id=f"s{n}",
            host="127.0.0.1",
            port=one.port if n == MANY - 1 else n + 1,
            routes=(RouteInfo("GET", f"/s{n}/{{id}}", "query"),),
        )
        for n in range(MANY)
    ]
    await registry.put(*services)
    await routed(gateway, **{f"s{n}": 1 for n in range(MANY)})
    assert await name_at(http, f"{gateway.url}/s{MANY - 1}/7") == "one"
    assert watches(gateway.status().pid) == none
    os.kill(gateway.status().pid, signal.SIGKILL)
    await until(lambda: gateway.status().restarts == 1)
    assert await name_at(http, f"{gateway.url}/s{MANY - 1}/7") == "one"
    await registry.put(services[0])
    await until(lambda: set(gateway.status().instances) >= {"s0"} and gateway.status().updates > 2)


@pytest.mark.parametrize(
    "path",
    ["/" + "long-" * 300 + "/{id}", "/счета/{номер}/движения" + "/часть" * 40, "/a b/{id}.json"],
    ids=["long", "cyrillic", "odd"],
)
async def test_a_long_or_odd_route_is_served(gateway, registry, upstream, http, path):
    """A path of any permitted length and script is served, next to all others."""
    one = await upstream("one")
    odd = RouteInfo("POST", path, "command", "Odd", "id" if "{id}" in path else "номер")
    await registry.put(one.instance(routes=(RouteInfo("GET", "/plain", "query"), odd)))
    await routed(gateway, accounts=1)
    assert await name_at(http, f"{gateway.url}/plain") == "one"
    real = path.replace("{id}", "7").replace("{номер}", "7")
    async with http.post(gateway.url + real, headers={"idempotency-key": "k"}) as answer:
        assert answer.status == 200
    assert gateway.status().problems == ()


@pytest.fixture
def refusing(monkeypatch):
    """Make Envoy refuse every route whose path has ``bad`` in it."""
    real = envoy_routes._path

    def damaged(path):
        return {"safe_regex": {"regex": "(("}} if "bad" in path else real(path)

    monkeypatch.setattr(envoy_routes, "_path", damaged)


async def test_what_envoy_refuses_is_left_out_and_named(
    settings, registry, upstream, http, refusing
):
    """Faulty routes among many new ones are found and named; all else is served, also afterwards.

    So it is after a restart of Envoy, after one of the gateway, and when the fault is corrected.
    """
    one, two = await upstream("one"), await upstream("two")
    good = tuple(RouteInfo("GET", f"/good/{n}", "query") for n in range(20))
    faulty = (*good[:7], RouteInfo("GET", "/bad/1", "query"), *good[7:])
    faulty += (RouteInfo("GET", "/bad/2", "query"),)
    other = (RouteInfo("GET", "/other", "query"),)
    async with Gateway(settings, registry) as gateway:
        await registry.put(
            one.instance(routes=faulty), two.instance(service="others", routes=other)
        )
        await routed(gateway, accounts=1, others=1)
        await check_faulty(http, gateway)
        os.kill(gateway.status().pid, signal.SIGKILL)
        await until(lambda: gateway.status().restarts == 1)
        await check_faulty(http, gateway)
    async with Gateway(settings, registry) as gateway:
        await check_faulty(http, gateway)
        await registry.put(one.instance(routes=good), two.instance(service="others", routes=other))
        await until(lambda: gateway.status().problems == ())
        async with http.get(f"{gateway.url}/health/ready") as answer:
            assert (await answer.json())["status"] == "ready"


async def check_faulty(http: aiohttp.ClientSession, gateway: Gateway) -> None:
    for n in range(20):
        assert await name_at(http, f"{gateway.url}/good/{n}") == "one"
    assert await name_at(http, f"{gateway.url}/other") == "two"
    found = gateway.status().problems
    assert sorted(p.path for p in found) == ["/bad/1", "/bad/2"]
    assert all("Envoy refuses it: " in p.reason and "((" in p.reason for p in found)
    async with http.get(f"{gateway.url}/health/ready") as answer:
        told = await answer.json()
    assert (answer.status, told["status"]) == (200, "degraded")
    assert "((" in told["problems"]["route GET /bad/1"]


async def test_an_instance_that_envoy_refuses_is_left_out_and_named(
    gateway, registry, upstream, http, monkeypatch
):
    """An endpoint that Envoy does not take costs its own traffic only, and is named."""
    one = await upstream("one")
    bad = msgspec.structs.replace(one.instance(), id="odd", host="odd.example", port=1)

    async def resolve(hosts):
        return {host: "1.2.3" if host == "odd.example" else host for host in hosts}

    monkeypatch.setattr(gateway._resolver, "resolve", resolve)
    await registry.put(bad, one.instance())
    await until(lambda: gateway.status().faulty != ())
    (fault,) = gateway.status().faulty
    assert (fault.service, fault.instance) == ("accounts", "odd")
    assert "1.2.3" in fault.reason
    assert await name_at(http, f"{gateway.url}/accounts/7") == "one"
    await registry.put(one.instance())
    await until(lambda: gateway.status().faulty == ())


async def test_a_host_that_cannot_be_resolved_is_named(gateway, registry, upstream, http):
    """An instance at an unknown host name gets no traffic, and is named as the reason."""
    one = await upstream("one")
    lost = msgspec.structs.replace(one.instance(), id="lost", host="nowhere.invalid", port=1)
    await registry.put(lost, one.instance())
    await until(lambda: gateway.status().faulty != ())
    assert "'nowhere.invalid' cannot be resolved" in gateway.status().faulty[0].reason
    assert await name_at(http, f"{gateway.url}/accounts/7") == "one"


@asynccontextmanager
async def envoy(configuration: Path, log: Path):
    """Run an Envoy that nobody controls."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(find_envoy_path(), "-c", str(configuration), "--disable-hot-restart"),
            *("--concurrency", "1"),
            stderr=file,
        )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def find_envoy_path() -> Path:
    from headwater.gateway import GatewaySettings

    return find_envoy(GatewaySettings())


async def test_the_configuration_on_disk_serves_without_a_gateway(
    settings, registry, upstream, http, tmp_path
):
    """What is on disk starts an Envoy that serves the last routes though its gateway is away."""
    one = await upstream("one")
    await registry.put(one.instance())
    async with Gateway(settings, registry) as gateway:
        await routed(gateway, accounts=1)
        url = gateway.url
    async with envoy(settings.data / "standalone.json", tmp_path / "log"):

        async def served() -> bool:
            try:
                async with http.get(f"{url}/accounts/7") as answer:
                    return answer.status == 200 and (await answer.json())["name"] == "one"
            except aiohttp.ClientConnectionError:
                return False

        await until(served)
        async with http.get(f"{url}/health/ready") as answer:
            assert (answer.status, (await answer.json(content_type=None))["status"]) == (
                200,
                "degraded",
            )


async def test_an_envoy_that_stays_is_told_what_it_missed(gateway, registry, upstream, http):
    """When the stream breaks Envoy serves on, connects again, and is told what has changed."""
    one, two = await upstream("one"), await upstream("two")
    await registry.put(one.instance())
    await routed(gateway, accounts=1)
    told = gateway._control._answers
    await gateway._control._stream.cancel()  # as a fault of the connection would
    await registry.put(two.instance())

    async def moved() -> bool:
        return await name_at(http, f"{gateway.url}/accounts/7") == "two"

    await until(moved)
    assert gateway.status().restarts == 0
    assert gateway._control._answers <= told + 3  # clusters and routes it has already
