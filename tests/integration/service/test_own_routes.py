"""Routes that a service brings itself: their context, their place among others, their document."""

import asyncio
import base64
from typing import Annotated, Any

import aiohttp
import msgspec
import pytest
from jsonschema import Draft202012Validator
from litestar import get, head, post, put, websocket
from litestar.connection import WebSocket
from litestar.params import FromPath, JSONBody
from litestar.response import ServerSentEvent

from headwater.errors import MalformedMessage
from headwater.eventstore import EVERYTHING
from headwater.messages import Command, ConsistencyToken, Event, route
from headwater.messages.codec import decode_metadata
from headwater.modelling import Aggregate, command_handler, event_sourcing_handler
from headwater.service import Service
from headwater.service.runtime import Runtime

CONTEXT = {
    "headwater-tenant": "acme",
    "headwater-correlation-id": "talk-1",
    "headwater-causation-id": "earlier",
    "traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
}


@route("POST /notes")
class TakeNote(Command):
    """Take a note."""

    note_id: str


@route("DELETE /notes/{note_id}/marks/first")
class DropMark(Command):
    """Drop one."""

    note_id: str


class NoteTaken(Event):
    note_id: str


class Note(Aggregate):
    taken: bool = False

    @command_handler(creates=True)
    def take(self, command: TakeNote) -> NoteTaken:
        return NoteTaken(command.note_id)

    @command_handler
    def drop(self, command: DropMark) -> None:
        """Nothing happens."""

    @event_sourcing_handler
    def on_taken(self, event: NoteTaken) -> None:
        self.taken = True


class Upload(msgspec.Struct):
    """What is uploaded."""

    name: str
    size: Annotated[int, msgspec.Meta(ge=0)] = 0


@post("/uploads/{upload_id:str}")
async def upload(upload_id: FromPath[str], data: JSONBody[Upload]) -> Upload:
    """Upload something."""
    await service.commands.send(TakeNote(upload_id))
    return data


@get("/notes/{note_id:str}/marks")
async def marks(note_id: FromPath[str]) -> list[str]:
    return [note_id]


@get("/notes/special/{what:str}")
async def special(what: FromPath[str]) -> str:
    return f"special {what}"


@put("/notes/{note_id:str}/marks/{mark:int}")
async def mark(note_id: FromPath[str], mark: FromPath[int]) -> str:
    return f"{note_id} {mark + 1}"


@get("/beats")
async def beats() -> ServerSentEvent:
    async def forever():
        while True:
            yield "beat"
            await asyncio.sleep(0.01)

    return ServerSentEvent(forever())


@head("/only-head")
async def only_head() -> None:
    """Nothing else."""


@websocket("/notes-by-socket")
async def by_socket(socket: WebSocket) -> None:
    await socket.accept()
    await service.commands.send(TakeNote(await socket.receive_text()))
    await socket.send_text("taken")
    await socket.close()


service = Service(
    "notes",
    aggregates=[Note],
    routes=[upload, marks, special, mark, beats, only_head, by_socket],
)


@pytest.fixture
async def runtime(tmp_path):
    async with Runtime(service, {"data": str(tmp_path), "drain_s": 5.0}) as running:
        yield running


@pytest.fixture
async def http(runtime):
    async with aiohttp.ClientSession(runtime.url) as session:
        yield session


async def contexts(runtime: Runtime) -> list[Any]:
    assert runtime.store is not None
    pages = runtime.store.shards[0].read(filter=EVERYTHING)
    return [decode_metadata(event.metadata) async for page in pages for event in page.events]


async def test_commands_carry_the_context_of_the_request(http, runtime):
    """What a handler sends carries tenant, trace, correlation and cause on, as of a message."""
    async with http.post("/uploads/u1", json={"name": "a"}, headers=CONTEXT) as answer:
        assert answer.status == 201, await answer.text()
    async with http.ws_connect("/notes-by-socket", headers=CONTEXT) as socket:
        await socket.send_str("u2")
        assert await socket.receive_str() == "taken"
    async with http.post("/uploads/u3", json={"name": "a"}) as answer:
        assert answer.status == 201
    first, second, third = await contexts(runtime)
    for metadata in (first, second):
        assert (metadata.tenant, metadata.correlation_id) == ("acme", "talk-1")
        assert metadata.traceparent.split("-")[1] == CONTEXT["traceparent"].split("-")[1]
    assert (third.tenant, third.correlation_id == "talk-1") == ("", False)


async def test_the_deadline_of_the_caller(http, runtime):
    """A deadline that has passed holds for what a handler sends, too."""
    late = {"headwater-timeout-ms": "0"}
    async with http.post("/uploads/u1", json={"name": "a"}, headers=late) as answer:
        assert answer.status == 504, await answer.text()
    assert await contexts(runtime) == []


async def test_a_context_that_cannot_be_understood(http):
    """A tenant that cannot be understood is refused, as for messages."""
    wrong = {"headwater-tenant": "%FF"}
    async with http.post("/uploads/u1", json={"name": "a"}, headers=wrong) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "malformed-message")
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await http.ws_connect("/notes-by-socket", headers=wrong)


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/notes/7/marks", 200, '["7"]'),
        ("GET", "/notes/special/marks", 200, "special marks"),
        ("GET", "/notes/special/other", 200, "special other"),
        ("PUT", "/notes/special/marks/3", 200, "special 4"),
        ("PUT", "/notes/7/marks/first", 404, "route-not-found"),
        ("DELETE", "/notes/7/marks/first", 404, "aggregate-not-found"),
        ("GET", "/notes/7/other", 404, "route-not-found"),
    ],
)
async def test_overlapping_templates(http, method, path, status, text):
    """The most specific template that matches and has the method decides, whoever declares it."""
    async with http.request(method, path) as answer:
        assert (answer.status, text in await answer.text()) == (status, True), await answer.text()


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/notes", "OPTIONS, POST"),
        ("/notes/7/marks/first", "DELETE, OPTIONS, PUT"),
        ("/notes/7/marks", "GET, HEAD, OPTIONS"),
        ("/notes/special/marks", "GET, HEAD, OPTIONS"),
        ("/uploads/7", "OPTIONS, POST"),
        ("/health/ready", "GET, HEAD, OPTIONS"),
        ("/only-head", "HEAD, OPTIONS"),
    ],
)
async def test_other_methods(http, path, allow):
    """OPTIONS is 204, any other 405, both with all methods of all templates that match."""
    async with http.options(path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (204, allow)
        assert await answer.read() == b""
    async with http.patch(path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, allow)
        assert (await answer.json())["code"] == "method-not-allowed"


@pytest.mark.parametrize(
    "path",
    ["/notes/7/marks", "/health/ready", "/metrics", "/openapi.json", "/docs", "/only-head"],
)
async def test_head(http, path):
    """HEAD is answered wherever GET is, with the same headers and without content."""
    async with http.head(path) as answer:
        assert answer.status == 200
        assert await answer.read() == b""
        length = answer.headers.get("Content-Length")
    if path != "/only-head":
        async with http.get(path) as answer:
            assert (answer.status, answer.headers.get("Content-Length")) == (200, length)


async def test_head_of_an_endless_stream(http):
    """HEAD of a stream ends, and the connection can be used again."""
    async with asyncio.timeout(30):
        async with http.head("/beats") as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
        async with http.head("/notes/none/marks") as answer:
            assert answer.status == 200


async def test_the_document(http):
    """Own routes are in the OpenAPI document, with their schemas, and errors as they are."""
    async with http.get("/openapi.json") as answer:
        document = await answer.json()
    operation = document["paths"]["/uploads/{upload_id}"]["post"]
    assert operation["summary"] == "Upload"
    assert [p["name"] for p in operation["parameters"]] == ["upload_id"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    name = body["$ref"].removeprefix("#/components/schemas/")
    assert document["components"]["schemas"][name]["properties"]["size"]["minimum"] == 0
    assert set(operation["responses"]) == {"201", "4XX", "5XX"}
    assert set(document["paths"]["/notes/{note_id}/marks/{mark}"]) == {"put"}
    assert "/notes-by-socket" not in document["paths"]
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


async def test_a_body_nested_without_end(http, runtime):
    """JSON that is nested deeper than can be read is the caller's fault, here, too."""
    body = b'{"name":' + b"[" * 100_000
    kind = {"Content-Type": "application/json"}
    async with http.post("/uploads/u1", data=body, headers=kind) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["code"]) == (400, "malformed-message"), problem
    assert await contexts(runtime) == []


async def test_a_token_nested_without_end(http):
    """So is what is hidden in a header."""
    token = base64.urlsafe_b64encode(b'[1,{"a":["",' + b'{"":' * 20_000).decode()
    async with http.get("/notes/7/marks", headers={"headwater-consistency-token": token}) as answer:
        assert answer.status < 500
    with pytest.raises(MalformedMessage):
        ConsistencyToken.decode(token)
