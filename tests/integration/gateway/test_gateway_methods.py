"""Which template of a path answers which method, over all services; and whom a request reaches."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from headwater.discovery import Instance, RouteInfo
from headwater.errors import WrongService
from headwater.messages.headers import SERVICE

from .conftest import routed

R = RouteInfo


@pytest.fixture
async def overlapping(gateway, registry, upstream):
    """Two services whose templates overlap."""
    one, two = await upstream("one"), await upstream("two")
    mine = (R("GET", "/a/{x}/c", "query"), R("POST", "/a/{x}", "command"), R("GET", "/e", "stream"))
    other = (R("PUT", "/a/b/{y}", "command"), R("GET", "/a/b/d", "query"), R("GET", "/a/b", "http"))
    await registry.put(one.instance(routes=mine), two.instance(service="other", routes=other))
    await routed(gateway, accounts=1, other=1)
    return gateway.url


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/a/b/c", "one"),  # /a/b/{y} is more specific, but has no GET
        ("PUT", "/a/b/c", "two"),
        ("PUT", "/a/b/d", "two"),
        ("GET", "/a/b/d", "two"),
        ("POST", "/a/b", "one"),
        ("GET", "/a/b", "two"),
        ("DELETE", "/a/b/c", "GET, HEAD, OPTIONS, PUT"),
        ("POST", "/a/b/d", "GET, HEAD, OPTIONS, PUT"),
        ("DELETE", "/a/z/c", "GET, HEAD, OPTIONS"),
        ("GET", "/a/z", "OPTIONS, POST"),
        ("PATCH", "/a/b", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/e", "GET, HEAD, OPTIONS"),
    ],
)
async def test_the_most_specific_template_that_has_the_method(
    overlapping, http, method, path, expected
):
    """It decides, of whatever service; if none has it, 405 names the methods of all."""
    async with http.request(method, overlapping + path) as answer:
        if expected in ("one", "two"):
            assert (answer.status, (await answer.json())["name"]) == (200, expected)
            return
        told = await answer.json(content_type="application/problem+json")
    assert (answer.status, answer.headers["allow"]) == (405, expected)
    assert (told["status"], told["code"]) == (405, "method-not-allowed")
    assert f"allowed are {expected}" in told["detail"]


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/a/b/c", "GET, HEAD, OPTIONS, PUT"),
        ("/a/z", "OPTIONS, POST"),
        ("/a/b?x=1", "GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_options_names_the_methods(overlapping, http, path, allow):
    """OPTIONS is answered for every path that has a route, with the methods of all services."""
    async with http.options(overlapping + path) as answer:
        assert (answer.status, answer.headers["allow"], await answer.read()) == (204, allow, b"")


async def test_head_is_answered_where_get_is(overlapping, http):
    """HEAD reaches the template that GET reaches, and nothing else."""
    for path, status in (("/a/b/c", 200), ("/a/b/d", 200), ("/a/z", 405), ("/health/ready", 200)):
        async with http.head(overlapping + path) as answer:
            assert answer.status == status
            assert await answer.read() == b""


@pytest.fixture
async def impostor() -> AsyncIterator[tuple[int, list[str]]]:
    """An instance of ``payments``, on a port where others still expect ``accounts``."""
    done: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        wanted = request.headers[SERVICE]
        if wanted != "payments":
            problem = WrongService(expected=wanted, actual="payments").to_problem()
            return web.json_response(problem, status=421)
        done.append(request.path)
        return web.json_response({"name": "payments"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1], done
    await runner.cleanup()


async def test_a_request_never_stays_with_the_wrong_service(
    gateway, registry, upstream, http, impostor
):
    """What reaches an instance of another service is carried out by one of its own, even writes."""
    one = await upstream("one")
    port, done = impostor
    stale = Instance(
        service="accounts", id="stale", host="127.0.0.1", port=port, routes=one.instance().routes
    )
    await registry.put(one.instance(), stale)
    await routed(gateway, accounts=2)
    for number in range(20):
        for method, path in (("POST", f"/accounts/{number}/deposits"), ("GET", "/accounts/7")):
            async with http.request(method, gateway.url + path) as answer:
                assert (answer.status, (await answer.json())["name"]) == (200, "one")
    assert done == []


async def test_the_caller_cannot_say_another_service(gateway, registry, upstream, http):
    """The gateway says which service is meant, whatever a client sends."""
    one = await upstream("one")
    await registry.put(one.instance())
    await routed(gateway, accounts=1)
    async with http.get(f"{gateway.url}/accounts/7", headers={SERVICE: "evil"}) as answer:
        assert (await answer.json())["headers"][SERVICE] == "accounts"
