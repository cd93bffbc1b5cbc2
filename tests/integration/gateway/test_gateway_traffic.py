"""Requests through a real Envoy to real processes."""

import asyncio
import io

import aiohttp
import msgspec
import pytest

from headwater.errors import (
    DeadlineExceeded,
    InvalidInput,
    NoInstance,
    RemoteError,
    RouteNotFound,
    TooLarge,
    Unavailable,
    from_problem,
)
from headwater.gateway import Gateway

from .conftest import routed


async def problem(answer: aiohttp.ClientResponse):
    """Return the typed error that an answer carries."""
    assert answer.content_type == "application/problem+json"
    document = await answer.json(content_type=None)
    assert document["status"] == answer.status
    return from_problem(document, status=answer.status)


@pytest.fixture
async def one(gateway, registry, upstream):
    """One registered instance behind the gateway."""
    started = await upstream("one")
    await registry.put(started.instance())
    await routed(gateway, accounts=1)
    return started


async def test_request_reaches_the_declaring_service(gateway, one, http):
    """A request reaches the service that declared its method and path, body and query whole."""
    async with http.post(f"{gateway.url}/accounts/7/deposits?a=b", data=b"abc") as answer:
        seen = await answer.json()
        assert answer.headers["server"] == "headwater"
    assert (seen["name"], seen["path"], seen["bytes"]) == ("one", "/accounts/7/deposits?a=b", 3)


@pytest.mark.parametrize("path", ["/accounts/a*b", "/accounts/a%2Fb", "/accounts/%C3%A4'(x)"])
async def test_path_parameter_takes_any_segment(gateway, one, http, path):
    """A path parameter takes every character that a segment may have, an escaped slash too."""
    from yarl import URL

    async with http.get(URL(gateway.url + path, encoded=True)) as answer:
        assert answer.status == 200
        assert (await answer.json())["path"] == path


async def test_head_follows_get(gateway, one, http):
    """A path that can be read with GET answers HEAD."""
    async with http.head(f"{gateway.url}/accounts/7") as answer:
        assert answer.status == 200


async def test_unknown_path_is_route_not_found(gateway, one, http):
    """An unknown path is a 404 problem document that names method and path."""
    for method, path in (("GET", "/nowhere"), ("DELETE", "/accounts/7/none")):
        async with http.request(method, gateway.url + path) as answer:
            error = await problem(answer)
        assert isinstance(error, RouteNotFound)
        assert error.outcome == "not stored"
        assert (error.method, error.path) == (method, path)


async def test_service_that_is_down_is_no_instance(gateway, registry, one, http):
    """Routes of a service whose last instance is gone answer 503 and say when to come back."""
    for left in ((one.instance(status="DRAINING"),), ()):
        await registry.put(*left)
        await routed(gateway, accounts=0)
        async with http.get(f"{gateway.url}/accounts/7") as answer:
            assert answer.headers["retry-after"] == "1"
            error = await problem(answer)
        assert isinstance(error, NoInstance)
        assert (error.service, error.outcome) == ("accounts", "not stored")


async def test_unreachable_service_is_unavailable(gateway, registry, one, http):
    """A service that is registered but cannot be reached answers 503 with Retry-After.

    Nothing was stored, unless the gateway may have sent it before, which it does with a key only.
    """
    await one.kill()
    keyed = {"Idempotency-Key": "k"}
    for method, headers, outcome in (
        ("GET", {}, "not stored"),
        ("GET", keyed, "not stored"),
        ("POST", {}, "not stored"),
        ("POST", keyed, "unknown"),
    ):
        async with http.request(method, f"{gateway.url}/status/200", headers=headers) as answer:
            assert answer.headers["retry-after"] == "1"
            error = await problem(answer)
        assert isinstance(error, Unavailable)
        assert error.outcome == outcome


async def test_slow_service_is_deadline_exceeded(settings, registry, upstream, http):
    """A request that outlasts its time limit is a 504 problem document naming the limit."""
    one = await upstream("one")
    await registry.put(one.instance())
    short = msgspec.structs.replace(
        settings, read_timeout_s=0.3, read_try_timeout_s=0.3, write_timeout_s=0.3
    )
    async with Gateway(short, registry) as gateway:
        for method, outcome in (("GET", "not stored"), ("POST", "unknown")):
            async with http.request(method, gateway.url + "/slow?s=9") as answer:
                error = await problem(answer)
            assert isinstance(error, DeadlineExceeded)
            assert error.timeout_s == pytest.approx(0.3)
            assert error.outcome == outcome


async def test_large_body_is_refused(gateway, one, http):
    """A body over the limit is refused with 413, declared length or not; the service sees none."""

    async def chunks():
        for _ in range(40):
            yield b"x" * 65536

    for body in (io.BytesIO(b"x" * (1024 * 1024 + 1)), chunks()):
        async with http.post(f"{gateway.url}/accounts/7/deposits", data=body) as answer:
            error = await problem(answer)
        assert isinstance(error, TooLarge)
        assert error.limit_bytes == 1024 * 1024
    async with http.get(f"http://127.0.0.1:{one.port}/counts") as answer:
        assert "/accounts/7/deposits" not in await answer.json()


async def test_body_at_the_limit_passes(gateway, one, http):
    """A body of exactly the limit passes, and a stream route takes more."""
    limit = 1024 * 1024
    for path, size in (("/accounts/7/deposits", limit), ("/upload", 8 * limit)):
        async with http.post(gateway.url + path, data=io.BytesIO(b"x" * size)) as answer:
            assert (await answer.json())["bytes"] == size


async def test_malformed_request_is_invalid_input(gateway, one):
    """What is no HTTP request gets a 400 problem document."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /accounts/7 HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert isinstance(from_problem(msgspec.json.decode(body)), InvalidInput)


async def test_trace_and_request_id_pass(gateway, one, http):
    """A caller's request id and trace context arrive unchanged; without an id one is made."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    given = {"x-request-id": "mine-7", "traceparent": trace, "tracestate": "a=b"}
    async with http.get(f"{gateway.url}/accounts/7", headers=given) as answer:
        seen = (await answer.json())["headers"]
        assert answer.headers["x-request-id"] == "mine-7"
    assert {name: seen[name] for name in given} == given
    async with http.get(f"{gateway.url}/accounts/7") as answer:
        assert (await answer.json())["headers"]["x-request-id"] == answer.headers["x-request-id"]


async def test_deadline_is_passed_on(gateway, one, http):
    """A service learns how long the gateway waits, or what its caller said."""
    for given, expected in (({}, "30000"), ({"headwater-timeout-ms": "70"}, "70")):
        async with http.get(f"{gateway.url}/accounts/7", headers=given) as answer:
            assert (await answer.json())["headers"]["headwater-timeout-ms"] == expected


async def test_problem_document_of_a_service_passes(gateway, one, http):
    """An error answer of a service reaches the client as the service wrote it."""
    for status in (400, 404, 409, 413, 422, 500):
        async with http.get(f"{gateway.url}/status/{status}") as answer:
            assert (answer.status, await answer.json()) == (status, {"name": "one", "code": "mine"})


async def test_health_of_the_gateway(gateway, http):
    """The gateway answers for its own life and readiness on its public port."""
    for path in ("/health/live", "/health/ready"):
        async with http.get(gateway.url + path) as answer:
            assert answer.status == 200


async def test_events_arrive_one_by_one(gateway, one, http):
    """Server-sent events pass at once, not when the stream ends."""
    async with http.get(f"{gateway.url}/events?n=100000") as answer:
        for number in range(3):
            line = await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 30)
            assert line == f"data: {number}\n\n".encode()


async def test_websocket_passes(gateway, one, http):
    """A WebSocket passes in both directions."""
    async with http.ws_connect(f"{gateway.url}/socket") as socket:
        for word in ("a", "b"):
            await socket.send_str(word)
            assert await socket.receive_str(timeout=30) == f"one:{word}"


async def test_streams_outlive_the_time_limits(settings, registry, upstream, http):
    """Neither events nor WebSockets end with the time limits of other routes."""
    one = await upstream("one")
    await registry.put(one.instance())
    limits = {"read_timeout_s": 0.2, "read_try_timeout_s": 0.2, "write_timeout_s": 0.2}
    short = msgspec.structs.replace(settings, **limits)
    async with (
        Gateway(short, registry) as gateway,
        http.ws_connect(f"{gateway.url}/socket") as socket,
    ):
        async with http.get(f"{gateway.url}/events?n=5") as answer:
            assert (await answer.text()).count("data:") == 5
        await socket.send_str("x")
        assert await socket.receive_str(timeout=30) == "one:x"


async def test_prefix_routes_are_opt_in(settings, gateway, registry, one, http):
    """With the setting, every path of a service is reachable under its prefix; else none is."""
    async with http.get(f"{gateway.url}/services/accounts/any/path") as answer:
        assert answer.status == 404
    other = msgspec.structs.replace(settings, service_prefix=True, data=settings.data / "other")
    async with Gateway(other, registry) as second:
        for method in ("GET", "PUT"):
            url = f"{second.url}/services/accounts/any/path?x=1"
            async with http.request(method, url) as answer:
                assert (await answer.json())["path"] == "/any/path?x=1"
        async with http.ws_connect(f"{second.url}/services/accounts/socket") as socket:
            await socket.send_str("x")
            assert await socket.receive_str(timeout=30) == "one:x"


async def test_access_log_is_json(gateway, settings, one, http):
    """Every request leaves one JSON line with its id, status and upstream."""
    async with http.get(f"{gateway.url}/accounts/7", headers={"x-request-id": "r1"}) as answer:
        assert answer.status == 200
    await gateway.stop()
    lines = (settings.data / "access.log").read_bytes().splitlines()
    entry = next(e for e in map(msgspec.json.decode, lines) if e["request_id"] == "r1")
    assert (entry["status"], entry["path"], entry["cluster"]) == (
        200,
        "/accounts/7",
        "accounts.query",
    )
    assert entry["upstream"] == f"127.0.0.1:{one.port}"


BLANK = [("idempotency-key", " ")]


@pytest.mark.parametrize(
    "headers", [[], [("idempotency-key", "")], BLANK, [*BLANK, *BLANK]], ids=len
)
async def test_lost_plain_write_is_not_repeated(gateway, registry, upstream, http, headers):
    """A write whose connection broke is sent once only, and its outcome is called unknown.

    A blank idempotency key is none.
    """
    one, two = await upstream("one"), await upstream("two")
    await registry.put(one.instance(), two.instance())
    await routed(gateway, accounts=2)
    async with http.post(f"{gateway.url}/fall?by=all", headers=headers) as answer:
        error = await problem(answer)
    assert answer.status == 502
    assert isinstance(error, RemoteError)
    assert "outcome is unknown" in str(error)
    assert error.outcome == "unknown"
    assert await _seen(http, one, two) == 1


@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("POST", {"Idempotency-Key": "k1"})])
async def test_lost_safe_request_is_repeated_elsewhere(
    gateway, registry, upstream, http, method, headers
):
    """A read, or a write with an idempotency key, is tried on another instance when one breaks."""
    one, two = await upstream("one"), await upstream("two")
    await registry.put(one.instance(), two.instance())
    await routed(gateway, accounts=2)
    for _ in range(10):
        url = f"{gateway.url}/fall?by=one"
        async with http.request(method, url, headers=headers) as answer:
            assert (answer.status, await answer.json()) == (200, {"name": "two", "bytes": 0})


async def test_large_write_is_repeated_whole(settings, registry, upstream, http):
    """A keyed write that is sent again carries its whole body, up to the limit."""
    one, two = await upstream("one"), await upstream("two")
    await registry.put(one.instance(), two.instance())
    size = 4 * 1024 * 1024
    large = msgspec.structs.replace(settings, body_limit_bytes=size)
    async with Gateway(large, registry) as gateway:
        for number in range(8):
            url, body = f"{gateway.url}/fall?by=one&n={number}", io.BytesIO(b"x" * size)
            async with http.post(url, data=body, headers={"Idempotency-Key": "k"}) as answer:
                assert (await answer.json()) == {"name": "two", "bytes": size}
    assert await _seen(http, one) > 0


@pytest.mark.parametrize(
    ("method", "headers", "tries"),
    [
        ("GET", {}, 4),
        ("POST", {}, 1),
        ("POST", {"Idempotency-Key": "  "}, 1),
        ("POST", {"Idempotency-Key": "k1"}, 4),
        ("POST", {"Idempotency-Key": " a key, with a comma "}, 4),
    ],
)
async def test_unavailable_is_repeated_where_safe(gateway, one, http, method, headers, tries):
    """An answer 503 is tried again for reads and keyed writes, never for plain writes.

    The last answer is the service's own, and the instance is not ejected for it.
    """
    for turn in range(1, 4):
        async with http.request(method, f"{gateway.url}/status/503", headers=headers) as answer:
            assert (answer.status, await answer.json()) == (503, {"name": "one", "code": "mine"})
        async with http.get(f"http://127.0.0.1:{one.port}/counts") as answer:
            assert (await answer.json())["/status/503"] == turn * tries


async def _seen(http, *instances):
    total = 0
    for instance in instances:
        async with http.get(f"http://127.0.0.1:{instance.port}/counts") as answer:
            total += (await answer.json()).get("/fall", 0)
    return total
