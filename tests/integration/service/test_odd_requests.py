"""What the edge makes of odd requests, told through bare sockets."""

import asyncio
import re

import aiohttp
import msgspec
import pytest
from litestar import Request, get, put
from litestar.exceptions import HTTPException

from headwater.service.runtime import Runtime
from tests.integration.service.shop import make_service


def _request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, "", ""]).encode("latin-1") + body


def _post(path: str, body: bytes, *headers: str) -> bytes:
    return _request(f"POST {path}", f"Content-Length: {len(body)}", *headers, body=body)


def _chunked(path: str, *parts: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))
    return _request(f"POST {path}", "Transfer-Encoding: chunked", body=body)


def _item(id: str, size: int = 0) -> bytes:
    return msgspec.json.encode({"item_id": id, "title": "t"}).ljust(size)


async def _ask(runtime: Runtime, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, read one answer: status, headers (names lower-case), body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(runtime.url.rsplit(":")[-1]))
    try:
        writer.write(raw)
        async with asyncio.timeout(30):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = [line.partition(": ") for line in head[1:] if line]
            headers = {name.lower(): value for name, _, value in fields}
            length = int(headers.get("content-length", "0"))
            no_body = raw.startswith(b"HEAD")
            body = b"" if no_body else await reader.readexactly(length)
    finally:
        writer.close()
    return int(head[0].split()[1]), headers, body


@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        (_post("/items/", _item("a")), 200, '"a"'),
        (_post("//items", _item("a")), 200, '"a"'),
        (_post("/items?x=1", _item("a")), 200, '"a"'),
        (_post("/%69tems", _item("a")), 200, '"a"'),
        (_post("/items", _item("a"), "Content-Type: multipart/form-data"), 415, "form-data"),
        (_post("/items", _item("a"), "Content-Type: text/plain"), 415, "text/plain"),
        (
            _post("/items", _item("a"), "Content-Type: application/x-www-form-urlencoded"),
            415,
            "x-w",
        ),
        (_post("/items", _item("a"), "Content-Type: application/xml"), 415, "application/xml"),
        (_post("/items", _item("a"), "Content-Type: application/json; charset=utf-16"), 415, "16"),
        (_post("/items", _item("a"), "Content-Type: , application/json"), 415, "json"),
        (
            _post("/items", _item("a"), 'Content-Type: Application/JSON; charset="UTF-8"'),
            200,
            '"a"',
        ),
        (_post("/items", _item("a"), "Content-Type: application/merge-patch+json"), 200, '"a"'),
        (_post("/items", _item("a"), "Origin: http://evil.example"), 415, "declared as ''"),
        (_request("POST /items", "Origin: null"), 415, "declared as ''"),
        (
            _post(
                "/items", _item("a"), "Origin: https://x.example", "Content-Type: application/json"
            ),
            200,
            '"a"',
        ),
        (_post("/items", b'{"a":' * 150 + b"1" + b"}" * 150), 400, "a"),
        (_post("/items", _item("a"), "Accept: application/xml"), 200, '"a"'),
        (_post("/items", _item("a", 1000)), 200, '"a"'),
        (_chunked("/items", _item("a")[:9], _item("a")[9:]), 200, '"a"'),
        (_post("/items", _item("a", 1001)), 413, "too-large"),
        (_request("POST /items", "Content-Length: 5000"), 413, "too-large"),
        (_chunked("/items", b"x" * 600, b"x" * 600), 413, "too-large"),
        (_request("POST /items", "Content-Length: -1"), 400, "Invalid"),
        (_request("POST /items", "Content-Length: 2", "Content-Length: 3"), 400, "Invalid"),
        (_request("POST /items"), 400, "item_id"),
        (_post("/items/a/sales", b"  "), 400, "count"),
        (_request("GET /items/%C3%BC"), 404, "ü"),
        (_request("GET /items/%FF"), 404, "\ufffd"),
        (_request("GET /items/%zz"), 404, "'%zz'"),
        (_request("GET /items/a%20b+c"), 404, "'a b+c'"),
        (_request("GET /items/x%2Fy"), 404, "'x/y'"),
        (_request("GET /items/%00"), 404, "view-not-found"),
        (_request("GET /items/a/b"), 404, "route-not-found"),
        (_request("GET /items/%2e%2e/a"), 404, "route-not-found"),
        (_request("GET /now%20here"), 404, "/now%20here"),
        (_request("OPTIONS *"), 404, "route-not-found"),
        (_request("OPTIONS /nowhere"), 404, "route-not-found"),
        (_request("GET http://x/items/a"), 404, "'a'"),
        (_request("GET /items/a", "Content-Length: 2000", body=b"x" * 2000), 404, "'a'"),
        (_request("GET /items?title"), 200, "[]"),
        (_request("GET /items?&&title=a+b%20c&"), 200, "[]"),
        (_request("GET /items?title=%FF"), 200, "[]"),
        (_request("GET /items?title=a;limit=x"), 200, "[]"),
        (_request("GET /items?title=a=b"), 200, "[]"),
        (_request("GET /items?limit=1&limit=1"), 400, "2 times"),
        (
            _request("GET /items/a", "headwater-timeout-ms: x", "headwater-timeout-ms: 9"),
            400,
            "'x'",
        ),
        (_request("GET /items", "headwater-timeout-ms: 900", "headwater-timeout-ms: x"), 200, "[]"),
        (_request("GET /items", "headwater-tenant: Z%C3%BCrich"), 200, "[]"),
        (_request("GET /items", "headwater-tenant: \xfc"), 400, "headwater-tenant"),
        (_request("GET /items", "headwater-correlation-id: \xfc"), 200, "[]"),
        (b"GET /items HTTP/1.1\r\nHost: a b/c?\r\n\r\n", 400, "host"),
        (b"GET /items HTTP/1.1\r\n\r\n", 200, "[]"),
        (b"GET /items HTTP/1.0\r\n\r\n", 200, "[]"),
        (b"get /items HTTP/1.1\r\n\r\n", 400, "Invalid"),
        (b"\x00garbage\r\n\r\n", 400, "Invalid"),
    ],
)
async def test_odd_request(runtime, raw, status, words):
    """However odd a request is, it is answered once, and a fault is a problem that names it."""
    answered, headers, body = await _ask(runtime, raw)
    assert (answered, words in body.decode()) == (status, True), body
    if answered == 200:
        assert headers["content-type"] == "application/json"
    elif b"Invalid HTTP" not in body:  # that is the server's own answer to what is not HTTP
        assert headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("line", "status", "allow"),
    [
        ("OPTIONS /items", 204, "GET, HEAD, OPTIONS, POST"),
        ("OPTIONS /items/a", 204, "GET, HEAD, OPTIONS"),
        ("PUT /items", 405, "GET, HEAD, OPTIONS, POST"),
        ("PROPFIND /items", 405, "GET, HEAD, OPTIONS, POST"),
        ("HEAD /items/a/sales", 405, "OPTIONS, POST"),
        ("DELETE /items/a/sales", 405, "OPTIONS, POST"),
        ("POST /ticks", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS /health/live", 204, "GET, HEAD, OPTIONS"),
    ],
)
async def test_other_methods(runtime, line, status, allow):
    """A path says which methods it has, to OPTIONS and to those who use another."""
    answered, headers, _ = await _ask(runtime, _request(line))
    assert (answered, headers["allow"]) == (status, allow)


async def test_pipelined_requests(runtime):
    """Requests sent without waiting are answered one after the other, in order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(runtime.url.rsplit(":")[-1]))
    asked = [f"i{number}" for number in range(5)]
    writer.write(b"".join(_request(f"GET /items/{id}") for id in asked))
    found = b""
    async with asyncio.timeout(30):
        while len(re.findall(rb'"key":"(i\d)"}}', found)) < len(asked):
            found += await reader.read(65_536)
    writer.close()
    assert re.findall(r'"key":"(i\d)"}}', found.decode()) == asked


async def test_client_leaves_while_it_sends(http, runtime):
    """Who goes away in the middle of a body changes nothing, and is counted as 499."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(runtime.url.rsplit(":")[-1]))
    writer.write(_request("POST /items", "Content-Length: 500", body=b'{"item_id":'))
    await writer.drain()
    writer.close()
    counted = re.compile(r'headwater_request_seconds_count{.*route="/items".*status="499"} 1\.0')
    async with asyncio.timeout(30):
        while True:
            async with http.get("/metrics") as answer:
                text = await answer.text()
            if counted.search(text):
                break
    assert "headwater_requests_in_progress" in text
    assert re.search(r"headwater_requests_in_progress{.*} 0\.0", text)
    assert await runtime.store.head() == 0


async def test_slow_body_meets_the_deadline(runtime):
    """A body that does not arrive within the time allowed is answered 504."""
    raw = _request("POST /items", "Content-Length: 50", "headwater-timeout-ms: 30", body=b"{")
    status, _, body = await _ask(runtime, raw)
    assert (status, b"deadline-exceeded" in body) == (504, True)


@get("/items/special")
async def special() -> str:
    """A literal beside a message's parameter."""
    return "special"


@put("/items/{item_id:str}")
async def replace(request: Request) -> str:
    """Another method at a message's path."""
    return f"replaced {request.path_params['item_id']}"


async def test_own_routes_beside_messages(tmp_path):
    """A service's own routes and its messages share paths as if they were of one kind."""
    service = make_service()
    service.routes = (*service.routes, special, replace)
    async with (
        Runtime(service, {"data": str(tmp_path)}) as runtime,
        aiohttp.ClientSession(runtime.url) as http,
    ):
        async with http.get("/items/special") as answer:
            assert await answer.text() == "special"
        async with http.get("/items/i1") as answer:
            assert (await answer.json())["code"] == "view-not-found"
        async with http.put("/items/i1") as answer:
            assert await answer.text() == "replaced i1"
        for method, status in (("OPTIONS", 204), ("DELETE", 405)):
            async with http.request(method, "/items/i1") as answer:
                allow = "GET, HEAD, OPTIONS, PUT"
                assert (answer.status, answer.headers["Allow"]) == (status, allow)


async def test_faults_behind_a_message(tmp_path, capsys):
    """A fault of the program is answered with a reference alone; an error of Litestar as itself."""

    def authorize(message, _):
        if message.title == "tea":
            raise HTTPException(status_code=418)
        raise RuntimeError("the secret detail")

    service = make_service()
    service.authorize = authorize
    async with (
        Runtime(service, {"data": str(tmp_path)}) as runtime,
        aiohttp.ClientSession(runtime.url) as http,
    ):
        async with http.post("/items", json={"item_id": "a", "title": "t"}) as answer:
            text = await answer.text()
            assert answer.status == 500
        assert "secret" not in text
        reference = msgspec.json.decode(text)["fields"]["reference"]
        log = capsys.readouterr()
        assert reference in log.out + log.err
        assert "the secret detail" in log.out + log.err
        async with http.post("/items", json={"item_id": "a", "title": "tea"}) as answer:
            assert answer.status == 418


async def test_remote_id_with_a_slash(http):
    """An id may hold a slash: the path carries it encoded."""
    async with http.post("/items", json={"item_id": "x/y", "title": "t", "stock": 2}) as answer:
        assert answer.status == 200
    async with http.post("/items/x%2Fy/sales", json={"count": 1}) as answer:
        assert (await answer.json())["id"] == "x/y"


async def test_json_nested_without_end(tmp_path):
    """JSON that is nested deeper than can be read is a malformed message, and nothing else."""
    given = {"data": str(tmp_path), "max_body_bytes": 1_000_000}
    async with Runtime(make_service(), given) as runtime:
        for path, before in (("/items", b'{"item_id":'), ("/items/a/sales", b'{"count":')):
            for opening in (b"[", b'{"a":'):
                body = before + opening * 100_000
                status, _, answer = await _ask(runtime, _post(path, body))
                assert (status, b"malformed-message" in answer) == (400, True)
        assert (await _ask(runtime, _request("GET /items")))[0] == 200
