"""Names and values of fields between own services, over the wire."""

import datetime as dt
import decimal
import enum
import re
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.client import HttpCaller
from headwater.discovery import Instance, StaticDiscovery
from headwater.dispatch.http import HttpForm
from headwater.dispatch.remote import RemoteCommandBus, RemoteQueryBus
from headwater.errors import MalformedMessage
from headwater.messages import Command, Event, Query, Target, route
from headwater.modelling import Aggregate, Projection, command_handler, event_handler, query_handler
from headwater.service import Service
from headwater.service.endpoints import _parameters
from headwater.service.router import Router
from headwater.service.runtime import Runtime
from headwater.views import Index, Key, View

TOKEN = "headwater-consistency-token"


class Color(enum.Enum):
    RED = "red/1"
    BLUE = "blue ü"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@route("PUT /parts/{part_no}/{colour}/{level}/{wait}/{mark}/{day}/{at}/{price}/{flag}/{size}")
class Paint(Command, rename="camel"):
    """Paint a part; everything but the note is in the path."""

    part_no: Annotated[uuid.UUID, Target()]
    colour: Color
    level: Level
    wait: dt.timedelta
    mark: bytes
    day: dt.date
    at: dt.datetime
    price: decimal.Decimal
    flag: bool
    size: int | float
    extra_note: str = ""


class Painted(Event, rename="kebab"):
    """It was painted."""

    part_no: str
    colour_name: Color
    price_paid: decimal.Decimal
    extra_note: str


class Part(Aggregate, rename="camel"):
    """A part."""

    paint_count: int = 0

    @command_handler(creates="if_missing")
    def paint(self, command: Paint) -> Painted:
        """Paint it."""
        return Painted(self.id, command.colour, command.price, command.extra_note)


class PartView(View, rename="camel"):
    """A part as it looks."""

    part_no: Annotated[str, Key]
    colour_name: Annotated[str, Index] = ""
    times_painted: int = 0


@route("GET /parts/{partNo}")
class GetPart(Query[PartView], rename="camel"):
    """One part."""

    part_no: uuid.UUID


class FindParts(Query[list[PartView]], rename="camel"):
    """Parts of some colours."""

    any_of: frozenset[Color]
    not_after: dt.timedelta | int | None = None
    marks_seen: tuple[bytes, ...] = ()


class Parts(Projection):
    """All parts."""

    @event_handler(PartView, key="part_no")
    def painted(self, view: PartView, event: Painted) -> None:
        """Note the colour."""
        view.colour_name = event.colour_name.value
        view.times_painted += 1

    @query_handler
    async def one(self, query: GetPart) -> PartView | None:
        """Answer."""
        return await self.views.get(PartView, str(query.part_no))

    @query_handler
    async def some(self, query: FindParts) -> list[PartView]:
        """Answer."""
        found: list[PartView] = []
        for colour in query.any_of:
            where = {"colour_name": colour.value}
            found += (await self.views.find(PartView, where=where, order_by="colour_name")).items
        return found


PAINTS = st.builds(
    Paint,
    part_no=st.uuids(),
    colour=st.sampled_from(Color),
    level=st.sampled_from(Level),
    wait=st.timedeltas(dt.timedelta(days=-999), dt.timedelta(days=999)),
    mark=st.binary(min_size=1),
    day=st.dates(),
    at=st.datetimes(timezones=st.just(dt.UTC)),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    size=st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    extra_note=st.text(),
)
FINDS = st.builds(
    FindParts,
    any_of=st.frozensets(st.sampled_from(Color), min_size=1),
    not_after=st.none() | st.integers() | st.timedeltas(dt.timedelta(0), dt.timedelta(days=9)),
    marks_seen=st.lists(st.binary()).map(tuple),
)


def arrived(message: Any) -> Any:
    """Return what the edge makes of the request of a message."""
    form = HttpForm(type(message))
    request = form.request(message)
    path, _, query = request.path.partition("?")
    router = Router()
    router.add(request.method, form.route.path, None)
    where = {"path": "", "raw_path": path.encode()} if "%" in path else {"path": path}
    match = router.find({**where, "method": request.method})
    assert match is not None
    assert match.entry is not None
    values = dict(zip(match.entry.parameters, match.values, strict=True))
    if isinstance(message, Command):
        return form.command(values, request.body)
    return form.query(values, _parameters(query.encode()))


@given(PAINTS | FINDS)
def test_what_is_sent_arrives(message: Any) -> None:
    """A message arrives at another service's edge as it was sent, whatever its fields are."""
    assert arrived(message) == message


class Ids(Query[int]):
    """One text in the path, and one in the query string."""

    of: str
    text: str = ""
    several: tuple[str, ...] = ()
    either: int | str | None = None


route("GET /ids/{of}")(Ids)
TEXTS = st.text() | st.sampled_from(
    ["a/b", "%2F", "a+b", " ", "null", "true", "5", "..", ".", "", "é", "a%zz", "?#&=;", "//"]
)


@given(st.builds(Ids, TEXTS, TEXTS, st.lists(TEXTS).map(tuple), st.none() | TEXTS | st.integers()))
def test_any_text_arrives_or_is_refused(query: Ids) -> None:
    """A text arrives as it is, in path and query string, or its sender is told."""
    number = isinstance(query.either, str) and re.fullmatch(r"-?(0|[1-9][0-9]*)", query.either)
    if query.of in {"", ".", ".."} or number:
        with pytest.raises(
            MalformedMessage, match=r"would name another|would be read as"
        ) as refused:
            arrived(query)
        assert refused.value.outcome == "not stored"
    else:
        assert arrived(query) == query


@pytest.fixture
async def running(tmp_path: Any) -> AsyncIterator[Runtime]:
    """A service whose messages, events, views and state have other names over HTTP."""
    service = Service("parts", aggregates=[Part], projections=[Parts])
    async with Runtime(service, {"data": str(tmp_path)}) as runtime:
        yield runtime


@pytest.fixture
async def buses(running: Runtime) -> AsyncIterator[tuple[RemoteCommandBus, RemoteQueryBus]]:
    """The buses of another service."""
    port = int(running.url.rpartition(":")[2])
    instance = Instance("parts", "p1", "127.0.0.1", port, routes=tuple(running.edge.routes()))
    discovery = StaticDiscovery({"parts": [instance]})
    caller = HttpCaller(discovery)
    yield RemoteCommandBus(caller, discovery), RemoteQueryBus(caller, discovery)
    await caller.close()


PAINT = Paint(
    uuid.UUID(int=7), Color.RED, Level.HIGH, dt.timedelta(minutes=1, seconds=30), b"ab?/",
    dt.date(2026, 2, 1), dt.datetime(2026, 2, 1, tzinfo=dt.UTC), decimal.Decimal("1.10"), True, 5,
    extra_note="ü",
)  # fmt: skip


async def test_renamed_messages_between_services(buses: Any) -> None:
    """Commands and queries with renamed fields of any plain type reach another service."""
    commands, queries = buses
    first = await commands.send(PAINT)
    second = await commands.send(PAINT)
    assert (first.id, second.version) == (str(PAINT.part_no), 2)
    part = PartView(str(PAINT.part_no), "red/1", 2)
    assert await queries.ask(GetPart(PAINT.part_no), token=second.token) == part
    wanted = FindParts(frozenset(Color), 5, (b"x", b"/"))
    assert await queries.ask(wanted, token=second.token) == [part]


async def test_one_name_over_http(running: Runtime) -> None:
    """Whoever reads the OpenAPI document can send what it says, and sees the same names back."""
    async with aiohttp.ClientSession(running.url) as http:
        async with http.get("/openapi.json") as answer:
            document = await answer.json()
        (path,) = (path for path in document["paths"] if path.startswith("/parts/{partNo}/"))
        parameters = document["paths"][path]["put"]["parameters"]
        in_path = [p["name"] for p in parameters if p["in"] == "path"]
        assert in_path == [part.strip("{}") for part in path.split("/")[2:]]
        schema = document["paths"][path]["put"]["requestBody"]["content"]["application/json"]
        assert list(schema["schema"]["properties"]) == ["extraNote"]
        at = "/parts/00000000-0000-0000-0000-000000000007/red%2F1/2/PT90S/YWI%2FLw==/2026-02-01"
        at += "/2026-02-01T00:00:00Z/1.10/true/5"
        async with http.put(at, json={"extraNote": "ü"}) as answer:
            assert answer.status == 200, await answer.text()
            token = (await answer.json())["token"]
        async with http.put(at, json={"extra_note": "ü"}) as answer:
            problem = await answer.json()
            assert answer.status == 400
            assert "'extra_note'" in problem["detail"]
            assert "'extraNote'" in problem["detail"]
        one = {"partNo": str(PAINT.part_no), "colourName": "red/1", "timesPainted": 1}
        async with http.get(f"/parts/{PAINT.part_no}", headers={TOKEN: token}) as answer:
            assert await answer.json() == one
        found = "/queries/FindParts?anyOf=red/1&notAfter=PT1M"
        async with http.get(found, headers={TOKEN: token}) as answer:
            assert await answer.json() == [one]
        async with http.get("/queries/FindParts?any_of=red/1") as answer:
            assert answer.status == 400
