"""The HTTP edge, asked by a real client."""

import asyncio

import pytest
from jsonschema import Draft202012Validator
from litestar import Litestar

from headwater.messages import ConsistencyToken
from headwater.service.router import OWN_ROUTES
from headwater.service.runtime import Runtime
from tests.integration.service import shop

TOKEN = "headwater-consistency-token"


async def _add(http, item="i1", stock=5, **headers):
    content = {"item_id": item, "title": "Bach", "stock": stock}
    async with http.post("/items", json=content, headers=headers) as answer:
        return answer.status, await answer.json(), answer.headers


async def test_command_then_query_with_token(http):
    """A query that sends back a command's token sees what the command did."""
    status, result, headers = await _add(http)
    assert status == 200
    assert result["id"] == "i1"
    assert result["version"] == 1
    assert headers[TOKEN] == result["token"]
    async with http.get("/items/i1", headers={TOKEN: result["token"]}) as answer:
        assert await answer.json() == {"id": "i1", "title": "Bach", "stock": 5}
    async with http.get("/items?title=Bach&limit=1", headers={TOKEN: result["token"]}) as answer:
        assert [item["id"] for item in await answer.json()] == ["i1"]


async def test_rejection_is_a_problem_and_stores_nothing(http, runtime):
    """A refusal is answered with the domain's own status and code, and no event is stored."""
    await _add(http, stock=1)
    async with http.post("/items/i1/sales", json={"count": 2}) as answer:
        problem = await answer.json()
        assert answer.status == 409
        assert answer.content_type == "application/problem+json"
    assert problem["code"] == "sold-out"
    assert problem["fields"] == {"item_id": "i1", "stock": 1}
    assert await runtime.store.head() == 1


async def test_idempotency_key(http, runtime):
    """The same key gives the first outcome; with another content it is refused."""
    key = {"Idempotency-Key": "k1"}
    first = await _add(http, **key)
    again = await _add(http, **key)
    assert again[1] == {**first[1], "duplicate": True}
    other = await _add(http, item="i2", **key)
    assert other[0] == 422
    assert other[1]["code"] == "idempotency-key-reused"
    assert await runtime.store.head() == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "words"),
    [
        ("POST", "/items", b"{", 400, "malformed-message", "truncated"),
        ("POST", "/items", b"[1]", 400, "malformed-message", "object"),
        ("POST", "/items", b"\xff\xfe", 400, "malformed-message", "malformed"),
        ("POST", "/items", b'{"item_id": 1, "title": "x"}', 400, "malformed-message", "item_id"),
        ("POST", "/items", b'{"item_id": "1"}', 400, "malformed-message", "title"),
        ("POST", "/items", b'{"item_id":"1","title":"x","z":1}', 400, "malformed-message", "'z'"),
        (
            "POST",
            "/items",
            b'{"item_id":"1","title":"x","stock":-1}',
            400,
            "malformed-message",
            ">= 0",
        ),
        ("POST", "/items", b'{"item_id":"","title":"x"}', 400, "invalid-input", "1 to 200"),
        ("POST", "/items/i1/sales", b'{"count": "2"}', 400, "malformed-message", "count"),
        ("POST", "/items/i1/sales", b'{"count":1,"item_id":"b"}', 400, "malformed-message", "path"),
        ("POST", "/items/none/sales", b'{"count": 2}', 404, "aggregate-not-found", "none"),
        ("POST", "/items", b'{"x":"' + b"y" * 2000 + b'"}', 413, "too-large", "1000"),
        ("GET", "/items/none", b"", 404, "view-not-found", "none"),
        ("GET", "/items?limit=many", b"", 400, "malformed-message", "limit"),
        ("GET", "/items?limit=1&limit=2", b"", 400, "malformed-message", "2 times"),
        ("GET", "/items?colour=red", b"", 400, "malformed-message", "colour"),
        ("GET", "/items?limit=0", b"", 400, "invalid-input", "limit"),
        ("GET", "/nowhere", b"", 404, "route-not-found", "/docs"),
        ("DELETE", "/items", b"", 405, "method-not-allowed", "POST"),
    ],
)
async def test_bad_input(http, runtime, method, path, body, status, code, words):
    """Whatever is wrong with a request is named in one problem document, and nothing is stored."""
    headers = {"Content-Type": "application/json"}
    async with http.request(method, path, data=body, headers=headers) as answer:
        problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["code"]) == (status, code), problem
    assert words in problem["detail"]
    assert await runtime.store.head() == 0


async def test_second_creation(http):
    """Creating what exists is a conflict."""
    await _add(http)
    status, problem, _ = await _add(http)
    assert (status, problem["code"]) == (409, "aggregate-exists")


async def test_token_of_the_future(http, runtime):
    """A token that the view does not reach in time is answered 503 with what it waited for."""
    await _add(http)
    token = ConsistencyToken.at("shop", runtime.store.epoch, 99).encode()
    async with http.get("/items/i1", headers={TOKEN: token}) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (503, "not-caught-up")
        assert "Retry-After" in answer.headers
    assert problem["fields"]["expected"] == 99


async def test_token_of_a_replaced_store(http):
    """A token of another epoch is refused, never waited for."""
    await _add(http)
    token = ConsistencyToken.at("shop", "another-epoch", 1).encode()
    async with http.get("/items/i1", headers={TOKEN: token}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "token-mismatch")


async def test_garbage_token(http):
    """A token that is none is a malformed message."""
    async with http.get("/items/i1", headers={TOKEN: "garbage!"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "malformed-message")


async def test_authorization_hook(http):
    """The hook sees message and tenant, and its refusal is answered 403."""
    assert (await _add(http, item="reserved"))[0] == 403
    assert (await _add(http, item="reserved", **{"headwater-tenant": "owner"}))[0] == 200
    async with http.get("/items/reserved") as answer:
        assert (await answer.json())["code"] == "forbidden"


async def test_overload(http):
    """More requests than allowed are answered 503 at once, and health still answers."""
    waiting = [asyncio.create_task(http.get(f"/slow/{n}")) for n in range(2)]
    for _ in waiting:
        await asyncio.wait_for(shop.gate.entered.acquire(), 30)
    async with http.get("/slow/3") as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "overloaded")
        assert answer.headers["Retry-After"] == "1"
    async with http.get("/health/live") as live:
        assert live.status == 200
    shop.gate.open.set()
    for task in waiting:
        answer = await task
        assert answer.status == 200
        answer.release()


async def test_deadline_of_the_caller(http):
    """A request takes no longer than its caller allows."""
    async with http.get("/slow/1", headers={"headwater-timeout-ms": "30"}) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"]) == (504, "deadline-exceeded")
    assert problem["outcome"] == "not stored"
    async with http.get("/slow/1", headers={"headwater-timeout-ms": "soon"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "malformed-message")


async def test_a_deadline_that_has_passed(http, runtime):
    """A command that comes after its deadline is not looked at, and is reported as not stored."""
    status, problem, _ = await _add(http, **{"headwater-timeout-ms": "0"})
    assert (status, problem["code"], problem["outcome"]) == (504, "deadline-exceeded", "not stored")
    assert await runtime.store.head() == 0


async def test_openapi_document(http):
    """The document is OpenAPI 3.1, its schemas are valid, and every route is in it."""
    async with http.get("/openapi.json") as answer:
        document = await answer.json()
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "shop", "version": "2.1"}
    assert set(document["paths"]) == {
        "/items",
        "/items/{item_id}",
        "/items/{item_id}/sales",
        "/slow/{item_id}",
        "/ticks",
    }
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    async with http.get("/docs") as page:
        assert "SwaggerUIBundle" in await page.text()
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js"):
        async with http.get(f"/docs/assets/{asset}") as found:
            assert found.status == 200
            assert len(await found.read()) > 10_000


async def test_metrics(http):
    """Requests are counted by route and status, and processors show their lag."""
    await _add(http)
    async with http.get("/metrics") as answer:
        text = await answer.text()
    counted = [line for line in text.splitlines() if line.startswith("headwater_request_seconds_c")]
    assert any('route="/items",' in line and line.endswith(" 1.0") for line in counted)
    assert 'processor="items"' in text


async def test_streams_pass(http, runtime):
    """A service's own SSE and WebSocket routes are served and registered as streams."""
    async with http.get("/ticks") as answer:
        assert "data: 2" in await answer.text()
    async with http.ws_connect("/echo") as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
    kinds = {(route.path, route.kind) for route in runtime.edge.routes()}
    assert {("/ticks", "stream"), ("/echo", "stream"), ("/items", "query")} <= kinds
    assert isinstance(runtime.edge.app, Litestar)


async def test_drain(http, runtime: Runtime):
    """A stopping instance finishes what it has begun and refuses the rest."""
    slow = asyncio.create_task(http.get("/slow/1"))
    await asyncio.wait_for(shop.gate.entered.acquire(), 30)
    runtime.edge.draining = True
    async with http.get("/items/i1") as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "draining")
    async with http.get("/health/ready") as answer:
        assert answer.status == 503
    stopping = asyncio.create_task(runtime.stop())
    shop.gate.open.set()
    async with await slow as answer:
        assert (answer.status, await answer.json()) == (200, "1")
    await asyncio.wait_for(stopping, 30)


async def test_stale_version(http, runtime):
    """If-Match lets a command through at that version only, and the answer's ETag is the next."""
    _, _, headers = await _add(http)
    assert headers["ETag"] == '"1"'
    sale = {"count": 1}
    async with http.post("/items/i1/sales", json=sale, headers={"If-Match": '"1"'}) as answer:
        assert (answer.status, answer.headers["ETag"]) == (200, '"2"')
    async with http.post("/items/i1/sales", json=sale, headers={"If-Match": '"1"'}) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (409, "concurrency-conflict")
    assert problem["fields"] == {"stream": "Item/i1", "expected": 1, "actual": 2}
    async with http.post("/items/i1/sales", json=sale, headers={"If-Match": "new"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "malformed-message")
    assert await runtime.store.head() == 2


async def test_paths_of_its_own_are_known(runtime):
    """What every instance answers itself is what no message of a service may be served at."""
    served = {path for handler in runtime.edge._own_handlers() for path in handler.paths}
    assert {path.replace(":str", "") for path in served} == set(OWN_ROUTES)
