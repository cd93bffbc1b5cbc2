"""Who asks: found out at the edge, told to `authorize`, and carried on to whoever is asked next."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from litestar import WebSocket, get, websocket
from litestar.params import FromPath
from yarl import URL

from headwater.client import Request
from headwater.dispatch import QueryMessage, QueryNext
from headwater.errors import Forbidden, Unauthenticated
from headwater.messages import ANONYMOUS, Command, Principal, Query, current
from headwater.service import EdgeRequest, Service
from headwater.service.runtime import Runtime
from tests.integration.service.shop import AddItem, Item, Items

EVE = Principal(
    subject="eve",
    issuer="https://id.example",
    scopes=frozenset({"items:write"}),
    roles=frozenset({"clerk"}),
    tenant="acme",
)


class Door:
    """Knows one bearer, and notes whom `authorize` was told about."""

    def __init__(self) -> None:
        self.arrived: list[EdgeRequest] = []
        self.asked: list[tuple[type, Principal]] = []

    async def authenticate(self, request: EdgeRequest) -> Principal:
        self.arrived.append(request)
        await asyncio.sleep(0)  # as if it asked somebody
        given = request.headers.get("authorization", "")
        if not given:
            return ANONYMOUS
        if given != "Bearer eve":
            raise Unauthenticated
        return EVE

    def authorize(self, message: Command | Query[Any], principal: Principal) -> None:
        self.asked.append((type(message), principal))
        if isinstance(message, Command) and not principal.scopes and principal.kind == "person":
            raise Forbidden(action="writing")


@get("/who")
async def who() -> dict[str, str]:
    """Say who asks."""
    context = current()
    assert context is not None
    assert context.principal is not None
    return {"name": context.principal.name, "told": context.metadata.principal}


@get("/rooms/{name:str}")
async def room(name: FromPath[str]) -> str:
    """Let somebody in."""
    return name


@websocket("/line")
async def line(socket: WebSocket[Any, Any, Any]) -> None:
    """Say who asks, in a WebSocket."""
    await socket.accept()
    context = current()
    assert context is not None
    await socket.send_text(context.metadata.principal)
    await socket.close()


def shop(door: Door, *, sockets: bool = True, **more: Any) -> Service:
    """Return a shop with that door."""
    return Service(
        "shop",
        aggregates=[Item],
        projections=[Items],
        routes=[who, room, line][: 3 if sockets else 2],
        authenticate=door.authenticate,
        authorize=door.authorize,
        **more,
    )


@pytest.fixture
def door() -> Door:
    """Return a door."""
    return Door()


@pytest.fixture
async def running(door: Door, tmp_path: Path) -> AsyncIterator[Runtime]:
    """Return a running shop."""
    async with Runtime(shop(door), {"data": str(tmp_path)}) as runtime:
        yield runtime


@pytest.fixture
async def http(running: Runtime) -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session on it."""
    async with aiohttp.ClientSession(running.url) as session:
        yield session


BEARER = {"authorization": "Bearer eve"}
ITEM = {"item_id": "i1", "title": "lamp", "stock": 1}


async def test_who_asks_reaches_authorize_and_the_event(
    http: aiohttp.ClientSession, door: Door, running: Runtime
):
    """The principal of the credentials is told to `authorize`, and the event says its name."""
    headers = {**BEARER, "headwater-tenant": "somebody-else"}
    async with http.post("/items", json=ITEM, headers=headers) as answer:
        assert answer.status == 200
    assert door.asked == [(AddItem, EVE)]
    (request,) = door.arrived
    assert (request.method, request.path, request.client) == ("POST", "/items", "127.0.0.1")
    assert running.store is not None
    (event,) = [e async for page in running.store.shards[0].read() for e in page.events]
    told = event.metadata.decode()
    assert '"principal":"https://id.example|eve"' in told
    assert '"tenant":"acme"' in told  # that of the credentials, whatever the caller says
    assert "somebody-else" not in told


async def test_credentials_that_are_wrong_or_missing(http: aiohttp.ClientSession, door: Door):
    """Wrong ones are refused before anything is looked at; without any somebody is anonymous."""
    wrong = {"authorization": "Bearer mallory"}
    for path in ("/items/i1", "/who"):
        async with http.get(path, headers=wrong) as answer:
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert (await answer.json())["code"] == "unauthenticated"
    assert door.asked == []
    async with http.post("/items", json=ITEM) as answer:
        assert answer.status == 403
    assert door.asked == [(AddItem, ANONYMOUS)]


async def test_routes_of_the_service(http: aiohttp.ClientSession):
    """A route and a WebSocket of the service's own know who asks, and refuse as messages do."""
    async with http.get("/who", headers=BEARER) as answer:
        assert await answer.json() == {"name": EVE.name, "told": EVE.name}
    async with http.get("/who") as answer:
        assert await answer.json() == {"name": "", "told": ""}
    async with http.ws_connect("/line", headers=BEARER) as socket:
        assert (await socket.receive()).data == EVE.name
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await http.ws_connect("/line", headers={"authorization": "Bearer mallory"})


@pytest.mark.parametrize("sockets", [False, True])
@pytest.mark.parametrize("path", ["/rooms%2Fkey", "/rooms/key", "//rooms//key/", "/rooms/%6bey"])
async def test_no_way_around(door: Door, tmp_path: Path, path: str, *, sockets: bool):
    """However a path is written, nothing is answered to who is not let in."""
    async with (
        Runtime(shop(door, sockets=sockets), {"data": str(tmp_path)}) as running,
        aiohttp.ClientSession() as http,
    ):
        url = URL(running.url + path, encoded=True)
        async with http.get(url, headers={"authorization": "Bearer mallory"}) as answer:
            assert answer.status in {401, 404}


async def test_nobody_is_asked_about_health(http: aiohttp.ClientSession, door: Door):
    """Health, metrics and documentation need no credentials."""
    for path in ("/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"):
        async with http.get(path, headers={"authorization": "Bearer mallory"}) as answer:
            assert answer.status == 200
    assert door.arrived == []


async def test_what_no_request_has_led_to(running: Runtime, door: Door):
    """What the service does by itself, it asks as itself."""
    await running.commands.send(AddItem("i2", "chair"))
    assert door.asked == [(AddItem, Principal(subject="shop", kind="service"))]


NO_PRINCIPAL = SimpleNamespace(name="eve", tenant="", scopes={"items:write"}, kind="service")


@pytest.mark.parametrize("answer", [None, "eve", NO_PRINCIPAL])
async def test_an_answer_that_is_none(door: Door, tmp_path: Path, answer: Any):
    """A hook that returns anything else lets nobody in: its fault is told as a fault."""
    service = shop(door)
    service.authenticate = lambda _: answer
    async with (
        Runtime(service, {"data": str(tmp_path)}) as runtime,
        aiohttp.ClientSession(runtime.url) as http,
    ):
        for path in ("/items/i1", "/who"):
            async with http.get(path, headers=BEARER) as got:
                assert got.status == 500
    assert door.asked == []


async def test_a_hook_that_does_not_answer(door: Door, tmp_path: Path):
    """A request waits no longer for the hook than it may take altogether."""

    async def authenticate(_: EdgeRequest) -> Principal:
        await asyncio.Event().wait()
        raise AssertionError

    service = shop(door)
    service.authenticate = authenticate
    given = {"data": str(tmp_path), "request_timeout_s": 0.05}
    async with Runtime(service, given) as runtime, aiohttp.ClientSession(runtime.url) as http:
        for path in ("/items/i1", "/who"):
            async with http.get(path) as answer:
                assert answer.status == 504


async def test_credentials_go_along(tmp_path: Path, door: Door):
    """A service proves who it is with each call, and what its caller may do stays behind."""
    given: list[tuple[str, Principal | None]] = []

    async def credentials(request: Request) -> dict[str, str]:
        await asyncio.sleep(0)
        context = current()
        given.append((request.path, context.principal if context else None))
        return {"Authorization": "Bearer eve"}

    async def forward(message: QueryMessage, proceed: QueryNext) -> Any:
        reply = await front.caller.call(Request("GET", "/who", url=back.url))
        heard.append(reply.body)
        return await proceed(message)

    heard: list[bytes] = []
    asking = Door()
    service = Service(
        "front",
        aggregates=[Item],
        projections=[Items],
        query_interceptors=[forward],
        authenticate=asking.authenticate,
        credentials=credentials,
    )
    async with (
        Runtime(shop(door), {"data": str(tmp_path / "back")}) as back,
        Runtime(service, {"data": str(tmp_path / "front")}) as front,
        aiohttp.ClientSession(front.url) as http,
        http.get("/items/i1") as answer,
    ):
        assert answer.status == 404
    assert given == [("/who", ANONYMOUS)]
    assert heard == [b'{"name":"https://id.example|eve","told":"https://id.example|eve"}']


async def test_headers_of_a_call_go_before_credentials(tmp_path: Path, door: Door):
    """Who names credentials in a call is taken at the word, in whatever case."""

    def credentials(_: Request) -> dict[str, str] | Awaitable[dict[str, str]]:
        return {"authorization": "Bearer eve"}

    async with Runtime(shop(door, credentials=credentials), {"data": str(tmp_path)}) as one:
        own = {"Authorization": "Bearer mallory"}
        reply = await one.caller.call(Request("GET", "/who", url=one.url, headers=own))
        assert reply.status == 401
        assert door.arrived[-1].headers["authorization"] == "Bearer mallory"
