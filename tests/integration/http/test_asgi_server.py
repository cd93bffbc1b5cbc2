"""The server that runs every HTTP edge, over real sockets."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from litestar import Litestar, Request, get, post
from litestar.response import Stream

from headwater._http.problems import problem_handlers, read_json
from headwater._http.server import AsgiServer
from headwater._http.sse import HEADERS, MEDIA_TYPE, encode_event
from headwater.errors import AddressInUse, ConfigurationError, Rejection, StartupError
from tests.ports import HeldPort

_NUMBERS = msgspec.json.Decoder(dict[str, int])


class TooPoor(Rejection):
    account: str
    template = "account {account!r} has too little"


class Gate:
    """Lets a test see that a request is inside, and let it go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()


def make_app(gate: Gate) -> Litestar:
    @get("/slow")
    async def slow() -> dict[str, bool]:
        gate.entered.set()
        await gate.leave.wait()
        return {"done": True}

    @get("/stream")
    async def stream() -> Stream:
        async def events() -> AsyncIterator[bytes]:
            yield encode_event("first", b"1")
            await asyncio.Event().wait()

        return Stream(events(), media_type=MEDIA_TYPE, headers=HEADERS)

    @get("/poor")
    async def poor() -> None:
        raise TooPoor(account="a")

    @get("/broken")
    async def broken() -> None:
        msg = "the secret detail"
        raise RuntimeError(msg)

    @post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        return await read_json(request, _NUMBERS, name="the numbers")

    @post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    return Litestar(
        [slow, stream, poor, broken, echo, raw],
        exception_handlers=problem_handlers(limit_bytes=1000),
        request_max_body_size=1000,
        openapi_config=None,
        logging_config=None,
    )


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def server(gate: Gate) -> AsyncIterator[AsgiServer]:
    server = AsgiServer(make_app(gate), name="bank")
    await server.start()
    yield server
    gate.leave.set()
    await server.stop(1)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


async def test_port_zero_is_chosen_and_answers(
    server: AsgiServer, http: aiohttp.ClientSession
) -> None:
    """Port 0 becomes a real port, and requests are answered once `start` returned."""
    async with http.post(f"{server.url}/echo", json={"a": 1}) as answer:
        assert (answer.status, await answer.json()) == (201, {"a": 1})
    assert server.port > 0


async def test_taken_port(server: AsgiServer, gate: Gate) -> None:
    """A taken port is refused before anything is served, naming the port."""
    with pytest.raises(AddressInUse, match=f"127.0.0.1:{server.port} is in use"):
        await AsgiServer(make_app(gate), port=server.port).start()


@pytest.mark.parametrize(
    ("host", "port"), [("203.0.113.77", 0), ("no such host", 0), ("127.0.0.1", 70000)]
)
async def test_impossible_address(host: str, port: int) -> None:
    """An address that is not ours, unknown or out of range is a clear configuration error."""
    with pytest.raises(ConfigurationError, match=f"{host}:{port}"):
        await AsgiServer(make_app(Gate()), host, port).start()


async def test_failing_lifespan() -> None:
    """An app whose own start fails raises at start and leaves the port free."""

    async def fail() -> None:
        msg = "no database"
        raise OSError(msg)

    app = Litestar([], on_startup=[fail], openapi_config=None, logging_config=None)
    with HeldPort() as port:
        with pytest.raises(StartupError):
            await AsgiServer(app, port=port, lifespan=True).start()
        async with AsgiServer(make_app(Gate()), port=port):
            pass


async def test_stop_lets_requests_finish(gate: Gate, http: aiohttp.ClientSession) -> None:
    """A request in progress is answered in full although the server is stopping."""
    server = AsgiServer(make_app(gate))
    await server.start()
    request = asyncio.create_task(http.get(f"{server.url}/slow").__aenter__())
    await gate.entered.wait()
    stop = asyncio.create_task(server.stop(10))
    async with asyncio.timeout(30):
        while True:  # until the port no longer accepts: the drain has begun
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            except ConnectionRefusedError:
                break
            writer.close()
            await asyncio.sleep(0.01)
    assert not request.done()
    gate.leave.set()
    answer = await request
    assert await answer.json() == {"done": True}
    await stop


async def test_stop_is_bounded(gate: Gate, http: aiohttp.ClientSession) -> None:
    """A request that outlives the grace is cancelled and told to retry elsewhere."""
    server = AsgiServer(make_app(gate), name="bank")
    await server.start()
    request = asyncio.create_task(http.get(f"{server.url}/slow").__aenter__())
    await gate.entered.wait()
    async with asyncio.timeout(30):
        await server.stop(0.1)
    answer = await request
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert (await answer.json(content_type=None))["code"] == "draining"


async def test_stop_ends_event_streams(gate: Gate, http: aiohttp.ClientSession) -> None:
    """An open event stream ends cleanly when the server stops, long before the grace is over."""
    server = AsgiServer(make_app(gate))
    await server.start()
    async with http.get(f"{server.url}/stream") as answer:
        assert await answer.content.readuntil(b"\n\n") == b"event: first\ndata: 1\n\n"
        async with asyncio.timeout(30):
            await server.stop(60)
            assert await answer.content.read() == b""
    await server.stop()


async def test_own_error_keeps_its_fields(server: AsgiServer, http: aiohttp.ClientSession) -> None:
    """One of our errors is answered with its status, code, message and fields."""
    async with http.get(f"{server.url}/poor") as answer:
        assert answer.status == 422
        assert answer.content_type == "application/problem+json"
        problem = await answer.json(content_type=None)
    assert problem["code"] == "too-poor"
    assert problem["fields"] == {"account": "a"}
    assert problem["detail"] == "account 'a' has too little"


async def test_unexpected_error_hides_details(
    server: AsgiServer, http: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault is answered with a reference; the details are in the log under it."""
    async with http.get(f"{server.url}/broken") as answer:
        assert answer.status == 500
        text = await answer.text()
        problem = await answer.json(content_type=None)
    assert "secret" not in text
    log = capsys.readouterr().out
    assert "the secret detail" in log
    assert problem["fields"]["reference"] in log


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "route-not-found"),
        ("DELETE", "/poor", None, 405, "method-not-allowed"),
        ("POST", "/echo", b"{", 400, "malformed-message"),
        ("POST", "/echo", b'{"a": "x"}', 400, "malformed-message"),
        ("POST", "/echo", b"\xff\xfe", 400, "malformed-message"),
        ("POST", "/echo", b"", 400, "malformed-message"),
        ("POST", "/raw", b"x" * 2000, 413, "too-large"),
    ],
)
async def test_framework_errors_become_problems(
    server: AsgiServer,
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    body: bytes | None,
    status: int,
    code: str,
) -> None:
    """What the framework refuses is a problem document too."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    async with http.request(method, server.url + path, data=body, headers=headers) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
        assert answer.content_type == "application/problem+json"
        assert problem["detail"]
        assert status != 405 or "GET" in answer.headers["Allow"]
