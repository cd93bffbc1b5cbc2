"""The registry's HTTP interface, over a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest

from headwater._http.sse import ServerSentEvent, decode_events
from headwater.discovery.client import DiscoveryClient
from headwater.discovery.memory import MemoryRegistryStore
from headwater.discovery.server import DiscoveryServer, serve
from headwater.errors import AddressInUse

ONE: dict[str, Any] = {
    "service": "accounts",
    "id": "accounts-1",
    "host": "127.0.0.1",
    "port": 8001,
    "routes": [{"method": "GET", "path": "/accounts/{id}", "kind": "query", "message": "Get<A>"}],
    "metadata": {"git.sha": "abc"},
}


class Api:
    """Requests to one server, answered with status and decoded body."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self._http.request(method, self.url + path, **options) as answer:
            text = await answer.read()
            return answer.status, await answer.json(content_type=None) if text else None

    async def watch(self, **headers: str) -> AsyncIterator[ServerSentEvent]:
        async with self._http.get(f"{self.url}/v1/watch", headers=headers) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            async for event in decode_events(answer.content.iter_any()):
                if event is not None:
                    yield event


@pytest.fixture
def api(server: DiscoveryServer, http: aiohttp.ClientSession) -> Api:
    return Api(server.url, http)


def decoded(event: ServerSentEvent) -> Any:
    return json.loads(event.data)


async def test_life_of_an_instance(api: Api) -> None:
    """Register, read, renew, update, override, restore and remove, each answered as listed."""
    status, listed = await api("POST", "/v1/instances", json=ONE)
    assert status == 201
    assert listed["status"] == "UP"
    assert listed["started"] > 0
    assert await api("GET", "/v1/instances/accounts-1") == (200, listed)
    assert await api("PUT", "/v1/instances/accounts-1/lease") == (200, listed)
    status, updated = await api("PUT", "/v1/instances/accounts-1", json=ONE | {"version": "2"})
    assert (status, updated["version"]) == (200, "2")
    assert updated["revision"] == listed["revision"] + 1
    path = "/v1/instances/accounts-1/status"
    status, out = await api("PUT", path, json={"status": "OUT_OF_SERVICE"})
    assert (status, out["status"]) == (200, "OUT_OF_SERVICE")
    status, back = await api("DELETE", path)
    assert (status, back["status"]) == (200, "UP")
    assert await api("DELETE", "/v1/instances/accounts-1") == (204, None)
    assert (await api("GET", "/v1/services"))[1]["services"] == {}


async def test_services(api: Api) -> None:
    """All services, or one with its instances."""
    _, listed = await api("POST", "/v1/instances", json=ONE)
    status, content = await api("GET", "/v1/services")
    assert (status, content["services"]) == (200, {"accounts": [listed]})
    status, content = await api("GET", "/v1/services/accounts")
    assert (status, content["name"], content["instances"]) == (200, "accounts", [listed])


async def test_long_poll_returns_with_the_change(api: Api) -> None:
    """A long poll at the current revision waits for the next change and answers with it."""
    _, content = await api("GET", "/v1/services")
    index = content["revision"]
    poll = asyncio.create_task(api("GET", f"/v1/services?index={index}&wait=30s"))
    await api("GET", "/health/live")
    assert not poll.done()
    await api("POST", "/v1/instances", json=ONE)
    status, content = await poll
    assert (status, content["revision"]) == (200, index + 1)
    assert list(content["services"]) == ["accounts"]


@pytest.mark.parametrize("query", ["?index=0&wait=10m", "?index=99999999999&wait=10m"])
async def test_long_poll_of_another_life(api: Api, query: str) -> None:
    """A revision that is not the current one, also one of the future, answers at once."""
    async with asyncio.timeout(30):
        assert (await api("GET", f"/v1/services{query}"))[0] == 200


async def test_long_poll_ends_after_its_time(api: Api) -> None:
    """Without a change the poll answers after its time with the same revision."""
    _, content = await api("GET", "/v1/services")
    assert await api("GET", f"/v1/services?index={content['revision']}&wait=20ms") == (200, content)


async def test_watch_begins_with_a_snapshot(api: Api) -> None:
    """A watch sends everything first, then each change with an id to resume after."""
    _, listed = await api("POST", "/v1/instances", json=ONE)
    async with aclosing(api.watch()) as events:
        first = await anext(events)
        assert (first.name, decoded(first)["instances"]) == ("snapshot", [listed])
        await api("DELETE", "/v1/instances/accounts-1")
        second = await anext(events)
        assert second.name == "changes"
        assert [(c["kind"], c["instance"]["id"]) for c in decoded(second)["changes"]] == [
            ("remove", "accounts-1")
        ]
        assert second.id == f"{decoded(first)['epoch']}.{listed['revision'] + 1}"


async def test_watch_resumes(api: Api) -> None:
    """A watcher that names the last event it saw gets exactly what it missed."""
    async with aclosing(api.watch()) as events:
        seen = (await anext(events)).id
    await api("POST", "/v1/instances", json=ONE)
    async with aclosing(api.watch(**{"Last-Event-ID": seen})) as events:
        event = await anext(events)
    assert event.name == "changes"
    assert [c["kind"] for c in decoded(event)["changes"]] == ["put"]


async def test_watch_of_another_life_begins_anew(api: Api) -> None:
    """A resume id of another registry's life is answered with a snapshot."""
    _, listed = await api("POST", "/v1/instances", json=ONE)
    for revision in (5, listed["revision"] - 1, listed["revision"]):
        async with aclosing(api.watch(**{"Last-Event-ID": f"0123456789ab.{revision}"})) as events:
            assert (await anext(events)).name == "snapshot"


async def test_watch_has_a_heartbeat(api: Api, http: aiohttp.ClientSession) -> None:
    """A silent watch carries comments, so that a dead connection is noticed."""
    async with http.get(f"{api.url}/v1/watch") as answer:
        events = decode_events(answer.content.iter_any())
        kinds = [await anext(events) is None for _ in range(3)]
    assert kinds == [False, True, True]


async def test_watchers_that_leave_are_forgotten(api: Api) -> None:
    """A watch that its client closed costs the registry nothing any more."""
    async with aclosing(api.watch()) as events:
        await anext(events)
        assert (await api("GET", "/health/ready"))[1]["watchers"] == 1
    async with asyncio.timeout(30):
        while (await api("GET", "/health/ready"))[1]["watchers"]:
            pass


async def test_expiry_is_pushed(api: Api) -> None:
    """An instance that is not renewed is pushed as DOWN without anyone asking."""
    async with aclosing(api.watch()) as events:
        await anext(events)
        await api("POST", "/v1/instances", json=ONE | {"lease_s": 0.1})
        statuses = [decoded(await anext(events))["changes"][0]["instance"]["status"] for _ in "ab"]
    assert statuses == ["UP", "DOWN"]


async def test_stop_ends_watches(http: aiohttp.ClientSession) -> None:
    """Stopping the registry ends open watches and does not wait for them."""
    server = DiscoveryServer()
    await server.start()
    async with http.get(f"{server.url}/v1/watch") as answer:
        await answer.content.readuntil(b"\n\n")
        async with asyncio.timeout(30):
            await server.stop(60)
            assert await answer.content.read() == b""


async def test_what_is_not_known_yet(http: aiohttp.ClientSession) -> None:
    """While a registry without memory is settling, who is not listed is unavailable, not absent.

    A renewal is told at once that it must register again. With a store that was read, it knows.
    """
    for store, status in ((None, 503), (MemoryRegistryStore(), 404)):
        async with DiscoveryServer(store=store, settle_s=3600.0) as server:
            for path in ("/v1/services/a", "/v1/instances/a"):
                async with http.get(server.url + path) as answer:
                    assert answer.status == status
                    assert (int(answer.headers.get("retry-after", 0)) > 3000) is (status == 503)
            async with http.put(f"{server.url}/v1/instances/a/lease") as answer:
                assert answer.status == 404
            async with DiscoveryClient(server.url) as client:
                assert client.standing().complete is (status == 404)


async def test_prometheus(api: Api) -> None:
    """Prometheus gets every instance that is not down, in its HTTP discovery format."""
    assert await api("GET", "/v1/prometheus") == (200, [])
    await api("POST", "/v1/instances", json=ONE)
    await api("POST", "/v1/instances", json=ONE | {"id": "dead", "port": 1, "status": "DOWN"})
    status, targets = await api("GET", "/v1/prometheus")
    assert (status, len(targets)) == (200, 1)
    assert targets[0]["targets"] == ["127.0.0.1:8001"]
    labels = targets[0]["labels"]
    assert labels["__meta_headwater_service"] == "accounts"
    assert labels["__meta_headwater_metadata_git_sha"] == "abc"


async def test_page(api: Api, http: aiohttp.ClientSession) -> None:
    """The status page names instances and routes, escaped, and loads nothing from elsewhere."""
    await api("POST", "/v1/instances", json=ONE)
    async with http.get(api.url) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        page = await answer.text()
    assert "accounts-1" in page
    assert "1 of 1 instances of 1 services are up" in page
    assert "Get&lt;A&gt;" in page
    assert "src=" not in page
    assert "href=" not in page


async def test_health(api: Api) -> None:
    """Live and ready once it serves."""
    assert await api("GET", "/health/live") == (200, {"status": "live"})
    status, content = await api("GET", "/health/ready")
    assert (status, content["status"], content["instances"]) == (200, "ready", 0)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v1/instances", b"{", 400, "the instance is malformed"),
        ("POST", "/v1/instances", b"[]", 400, "Expected `object`, got `array`"),
        ("POST", "/v1/instances", b"\xff", 400, "the instance is malformed"),
        ("POST", "/v1/instances", b'{"service":"a","id":"a"}', 400, "`host`"),
        ("POST", "/v1/instances", b'{"service":"a","id":"a","host":"h","port":"1"}', 400, "$.port"),
        ("POST", "/v1/instances", b'{"service":"a","id":"a","host":"h","port":0}', 400, "port is"),
        ("POST", "/v1/instances", b" " * 1_000_001, 413, "larger than 1000000 bytes"),
        ("PUT", "/v1/instances/a", b'{"service":"a","id":"b","host":"h","port":1}', 400, "'b'"),
        ("PUT", "/v1/instances/a", b'{"service":"a","id":"a","host":"h","port":1}', 404, "'a'"),
        ("PUT", "/v1/instances/a", b"", 400, "truncated"),
        ("PUT", "/v1/instances/a/lease", None, 404, "register it (again)"),
        ("PUT", "/v1/instances/a/status", b'{"status":"FINE"}', 400, "FINE"),
        ("PUT", "/v1/instances/a/status", b'{"status":"UP"}', 404, "'a'"),
        ("DELETE", "/v1/instances/a/status", None, 404, "'a'"),
        ("DELETE", "/v1/instances/a", None, 404, "'a'"),
        ("GET", "/v1/instances/a", None, 404, "'a'"),
        ("GET", "/v1/services/a", None, 404, "no instance of 'a' is registered"),
        ("GET", "/v1/services?index=x", None, 400, "index is 'x'"),
        ("GET", "/v1/services?index=-1", None, 400, "index is '-1'"),
        ("GET", "/v1/services?index=1&wait=soon", None, 400, "wait is 'soon'"),
        ("GET", "/v1/watch?revision=7", None, 400, "<epoch>.<revision>"),
        ("GET", "/nowhere", None, 404, "no route for GET /nowhere"),
        ("PATCH", "/v1/services", None, 405, "allowed are"),
    ],
)
async def test_bad_requests(
    api: Api, method: str, path: str, body: bytes | None, status: int, words: str
) -> None:
    """Whatever is wrong with a request is answered with a problem document that says what."""
    actual, problem = await api(method, path, data=body)
    assert (actual, problem["status"]) == (status, status)
    assert words in problem["detail"]
    assert (await api("GET", "/v1/services"))[1]["services"] == {}


async def test_taken_port(server: DiscoveryServer) -> None:
    """A taken port is a clear error at start."""
    with pytest.raises(AddressInUse, match=str(server.port)):
        await DiscoveryServer(port=server.port).start()


async def test_serve_runs_until_cancelled(http: aiohttp.ClientSession) -> None:
    """`serve` tells its URL once it answers, and stops when cancelled."""
    urls: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(serve("127.0.0.1", 0, started=urls.put_nowait))
    url = await urls.get()
    async with http.get(f"{url}/health/live") as answer:
        assert answer.status == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(f"{url}/health/live")
