"""One table of odd values, through command, event, view and query, with one answer everywhere."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs

from headwater.errors import MalformedMessage, Unstorable
from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import BigInt, Command, Event, Query, route
from headwater.messages.headers import CONSISTENCY_TOKEN
from headwater.modelling import (
    Aggregate,
    Projection,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
)
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Index, Key, Range, View
from tests.postgres_server import POSTGRES

LEAST, MOST = -(2**63), 2**63 - 1


class Content(msgspec.Struct, frozen=True, kw_only=True):
    text: str = ""
    whole: int = 0
    real: float = 0.0
    maybe: float | None = None
    numbers: list[int] = msgspec.field(default_factory=list)
    named: dict[str, int] = msgspec.field(default_factory=dict)
    counted: dict[int, int] = msgspec.field(default_factory=dict)
    optional: int | None = None
    large: BigInt = 0
    free: Any = None
    price: Decimal | None = None
    took: timedelta | None = None
    at: datetime | None = None


@route("PUT /samples/{sample}")
class PutSample(Command):
    sample: str
    content: Content = Content()


@route("POST /samples/{sample}/sums")
class AddUp(Command):
    sample: str
    real: float = 0.0
    whole: int = 0


@route("PUT /numbers/{number}")
class PutNumber(Command):
    number: int
    limit: Annotated[int, msgspec.Meta(ge=0)] = 0


class SamplePut(Event):
    sample: str
    content: Content


class AddedUp(Event):
    sample: str
    real: float | None
    whole: int


class NumberPut(Event):
    number: int


class Sample(Aggregate):
    real: float = 0.0
    whole: int = 0

    @command_handler(creates="if_missing")
    def put(self, command: PutSample) -> SamplePut:
        return SamplePut(self.id, command.content)

    @command_handler(creates="if_missing")
    def add(self, command: AddUp) -> AddedUp:
        return AddedUp(self.id, self.real + command.real, self.whole + command.whole)

    @command_handler(creates="if_missing")
    def number(self, command: PutNumber) -> NumberPut:
        return NumberPut(command.number)

    @event_sourcing_handler
    def on_added(self, event: AddedUp) -> None:
        self.real, self.whole = event.real or 0.0, event.whole


class SampleView(View):
    id: Annotated[str, Key]
    text: Annotated[str, Index]
    whole: Annotated[int, Index]
    real: Annotated[float, Index]
    content: Content


@route("GET /samples/{sample}")
class GetSample(Query[SampleView]):
    sample: str


@route("GET /samples")
class FindSamples(Query[list[str]]):
    order_by: str = ""
    text: str | None = None
    whole: int | None = None
    real: float | None = None
    at_least: BigInt | None = None


class Samples(Projection):
    @event_handler(SampleView, key="sample")
    def put(self, event: SamplePut) -> SampleView:
        content = event.content
        return SampleView(event.sample, content.text, content.whole, content.real, content)

    @query_handler
    async def one(self, query: GetSample) -> SampleView | None:
        return await self.views.get(SampleView, query.sample)

    @query_handler
    async def find(self, query: FindSamples) -> list[str]:
        asked = {"text": query.text, "whole": query.whole, "real": query.real}
        where: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if query.at_least is not None:
            where["whole"] = Range(least=query.at_least)
        page = await self.views.find(SampleView, where=where, order_by=query.order_by)
        return [view.id for view in page.items]


class Lab:
    """A running service, spoken to in raw JSON."""

    def __init__(self, runtime: Runtime, http: aiohttp.ClientSession) -> None:
        self.runtime = runtime
        self.http = http
        self.token = ""

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers[CONSISTENCY_TOKEN] = self.token
        async with self.http.request(method, path, data=body, headers=headers) as answer:
            self.token = answer.headers.get(CONSISTENCY_TOKEN, self.token)
            return answer.status, await answer.json(content_type=None)

    async def put(self, sample: str, **fields: str) -> tuple[int, Any]:
        """Put a sample whose fields are given as JSON text."""
        inner = ",".join(f'"{name}":{text}' for name, text in fields.items())
        return await self.request(
            "PUT", f"/samples/{sample}", f'{{"content":{{{inner}}}}}'.encode()
        )

    async def find(self, **parameters: str) -> list[str]:
        status, found = await self.request(
            "GET", "/samples?" + "&".join(f"{k}={v}" for k, v in parameters.items())
        )
        assert status == 200, found
        ids: list[str] = found
        return ids


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    """The service, on each engine."""
    urls = {"memory": "memory:", "sqlite": "", "postgres": ""}
    if request.param == "postgres":
        urls["postgres"] = request.getfixturevalue("postgres_url")
    url = urls[request.param]
    stores = {"store": url, "views": url} if url else {}
    service = Service("lab", aggregates=[Sample], projections=[Samples])
    async with (
        Runtime(service, {"data": str(tmp_path), **stores}) as runtime,
        aiohttp.ClientSession(runtime.url) as http,
    ):
        yield Lab(runtime, http)


REFUSED = [  # a field, and JSON for which the answer is 400
    ("whole", "9223372036854775808"),
    ("whole", "-9223372036854775809"),
    ("whole", "1" * 400),
    ("whole", "1" * 5000),
    ("whole", "1.0"),
    ("whole", "-0.0"),
    ("whole", "1e3"),
    ("whole", '"1"'),
    ("whole", "NaN"),
    ("numbers", "[1,9223372036854775808]"),
    ("named", '{"a":9223372036854775808}'),
    ("counted", '{"9223372036854775808":1}'),
    ("counted", '{"1":9223372036854775808}'),
    ("optional", "9223372036854775808"),
    ("free", "[[18446744073709551616]]"),
    ("large", "1" * 5000),
    ("real", "1e400"),
    ("real", "-1e400"),
    ("real", "NaN"),
    ("real", "Infinity"),
    ("real", "-Infinity"),
    ("real", '"inf"'),
    ("maybe", "1e309"),
    ("maybe", "NaN"),
    ("text", r'"\ud800"'),
    ("text", r'"\udc00x"'),
    ("text", '"\x00"'),
    ("text", "null"),
    ("text", "5"),
    ("free", r'"\ud800"'),
    ("free", r'{"\udfff":1}'),
    ("free", "[" * 20_000),
    ("took", '"P9999999999D"'),
    ("took", "1e20"),
    ("at", '"10000-01-01T00:00:00Z"'),
    ("price", '"1e"'),
]


async def test_refused_before_anything_is_stored(lab: Lab) -> None:
    """What cannot be a value of the declared type is answered 400; nothing is stored."""
    assert lab.runtime.store is not None
    for field, text in REFUSED:
        status, problem = await lab.put("x", **{field: text})
        assert (status, problem["code"]) == (400, "malformed-message"), (field, text, problem)
        assert problem["outcome"] == "not stored"
    assert await lab.runtime.store.shards[0].head() == 0
    assert (await lab.put("x"))[0] == 200


KEPT = [  # a field, its JSON, and the JSON that is answered
    ("whole", f"{MOST}", f"{MOST}"),
    ("whole", f"{LEAST}", f"{LEAST}"),
    ("whole", "9007199254740993", "9007199254740993"),
    ("whole", "-0", "0"),
    ("numbers", f"[{LEAST},{MOST}]", f"[{LEAST},{MOST}]"),
    ("counted", f'{{"{MOST}":1}}', f'{{"{MOST}":1}}'),
    ("large", "1" * 400, "1" * 400),
    ("large", "-" + "9" * 30, "-" + "9" * 30),
    ("real", "1.7976931348623157e308", "1.7976931348623157e308"),
    ("real", "5e-324", "5e-324"),
    ("real", "1e-400", "0.0"),
    ("real", "-0.0", "-0.0"),
    ("real", "12345678901234567890", "12345678901234567000.0"),
    ("real", "0.1234567890123456789", "0.12345678901234568"),
    ("maybe", "1", "1.0"),
    ("text", r'"\u0000"', r'"\u0000"'),
    ("text", r'"a\u0000b\u0001"', r'"a\u0000b\u0001"'),
    ("text", r'"\ud83d\ude00"', '"\U0001f600"'),
    ("text", '"' + "1" * 40 + '"', '"' + "1" * 40 + '"'),
    ("text", '"' + "x" * 1000 + '"', '"' + "x" * 1000 + '"'),
    ("text", r'"\uffff\u2028\ufeff"', r'"\uffff\u2028\ufeff"'),
    ("free", '"' + "y" * 100_000 + '"', '"' + "y" * 100_000 + '"'),
    ("free", '{"a":[1.5,null,true,"9223372036854775808"]}',
     '{"a":[1.5,null,true,"9223372036854775808"]}'),
    ("price", '"1e999999999"', '"1E+999999999"'),
    ("price", '"1E-999999999"', '"1E-999999999"'),
    ("price", "1.10", '"1.10"'),
    ("took", '"P999999999D"', '"P999999999D"'),
    ("at", '"9999-12-31T23:59:59.999999Z"', '"9999-12-31T23:59:59.999999Z"'),
    ("at", '"0001-01-01T00:00:00+14:00"', '"0001-01-01T00:00:00+14:00"'),
]  # fmt: skip


async def test_kept_as_it_is(lab: Lab) -> None:
    """Everything else is stored, comes back from a view as it was sent, and can be listed."""
    for number, (field, text, expected) in enumerate(KEPT):
        assert (await lab.put(f"s{number:02}", **{field: text}))[0] == 200, (field, text)
        status, found = await lab.request("GET", f"/samples/s{number:02}")
        assert status == 200
        answer = found["content"][field]
        assert repr(answer) == repr(json.loads(expected)), (field, text)
    names = [f"s{number:02}" for number in range(len(KEPT))]
    contents = [
        msgspec.json.decode(f'{{"{field}":{text}}}', type=Content) for field, text, _ in KEPT
    ]
    for order in ("text", "whole", "real"):
        by_value = sorted(zip(names, contents, strict=True), key=lambda s: getattr(s[1], order))
        assert await lab.find(order_by=order) == [name for name, _ in by_value]
    for value, name in ((MOST, "s00"), (LEAST, "s01"), (9007199254740993, "s02")):
        assert await lab.find(whole=f"{value}") == [name]
    assert await lab.find(text="%00") == ["s15"]
    assert await lab.find(text="x" * 1000) == ["s19"]
    assert await lab.find(real="5e-324") == ["s09"]
    assert await lab.find(real="1.7976931348623157e308") == ["s08"]
    assert set(await lab.find(real="0")) == {
        name for name, content in zip(names, contents, strict=True) if content.real == 0
    }
    assert await lab.find(at_least="1" + "0" * 400) == []
    assert len(await lab.find(at_least="-1" + "0" * 400)) == len(KEPT)


async def test_numbers_in_paths_and_queries(lab: Lab) -> None:
    """Numbers in a path or a query string have 64 bits, too; names may be as odd as they like."""
    for number in (MOST + 1, LEAST - 1, 10**30):
        for method, path in (("PUT", f"/numbers/{number}"), ("GET", f"/samples?whole={number}")):
            status, problem = await lab.request(method, path, b"{}" if method == "PUT" else b"")
            assert (status, problem["code"]) == (400, "malformed-message"), problem
            assert "more than 64 bits" in problem["detail"]
    status, problem = await lab.request("PUT", "/numbers/5", b'{"limit":9223372036854775808}')
    assert (status, "limit is 9223372036854775808" in problem["detail"]) == (400, True)
    assert (await lab.request("PUT", f"/numbers/{MOST}", b"{}"))[0] == 200
    assert await lab.find(whole=f"{MOST}") == []
    for real in ("inf", "nan", "1e400"):
        status, problem = await lab.request("GET", f"/samples?real={real}")
        assert status in {200, 400}
    for sample in ("%F0%9F%98%80", "a%22b", "1" * 30, "null"):
        assert (await lab.put(sample, text='"t"'))[0] == 200
        assert (await lab.request("GET", f"/samples/{sample}"))[0] == 200


async def test_in_the_process_it_is_the_same(lab: Lab) -> None:
    """A command made by the program itself is held to the same, before anything is stored."""
    assert lab.runtime.store is not None
    for content in (
        Content(whole=MOST + 1),
        Content(numbers=[LEAST - 1]),
        Content(named={"a": MOST + 1}),
        Content(counted={MOST + 1: 1}),
        Content(optional=MOST + 1),
        Content(free=({"a": MOST + 1},)),
        Content(text="\ud800"),
        Content(real=float("nan")),
        Content(large=10**5000),
        Content(free=object()),
    ):
        with pytest.raises(MalformedMessage, match="command 'PutSample' is malformed"):
            await lab.runtime.commands.send(PutSample("x", content))
        with pytest.raises(MalformedMessage, match="command 'PutSample' is malformed"):
            await lab.runtime.commands.send(PutSample("x", content), idempotency_key="k")
    assert await lab.runtime.store.shards[0].head() == 0
    await lab.runtime.commands.send(PutSample("x", Content(large=2**200)))


async def test_what_a_handler_makes_of_good_numbers(lab: Lab) -> None:
    """An event that cannot be stored is a fault of the service: 500, with type, field and value."""
    for body, told in (
        (b'{"real":1e308}', "event 'AddedUp' cannot be stored: its real is inf, which has no form"),
        (b'{"whole":9223372036854775807}', "its whole is 18446744073709551614, which has more"),
    ):
        sample = f"s{len(body)}"
        assert (await lab.request("POST", f"/samples/{sample}/sums", body))[0] == 200
        status, problem = await lab.request("POST", f"/samples/{sample}/sums", body)
        assert (status, problem["code"], problem["outcome"]) == (500, "unstorable", "not stored")
        assert told in problem["detail"]
        assert set(problem["fields"]) == {"name", "field", "value", "reason"}
        assert (await lab.request("POST", f"/samples/{sample}/sums", b"{}"))[0] == 200
    with pytest.raises(Unstorable, match="its real is inf"):
        await lab.runtime.commands.send(AddUp("s14", 1e308))


async def test_stored_data_that_cannot_be_read(lab: Lab) -> None:
    """It is a fault of ours: 500 with stream, version and type; the reason is in the log."""
    assert lab.runtime.store is not None
    assert (await lab.request("POST", "/samples/a/sums", b'{"real":1.0}'))[0] == 200
    bad = NewEvent("AddedUp", 1, b'{"sample":"a","secret":"s3"}', b'{"id":"1"}')
    await lab.runtime.store.append([StreamWrite("Sample/b", [bad])])
    with capture_logs() as logs:
        status, problem = await lab.request("POST", "/samples/b/sums", b'{"real":1.0}')
    assert (status, problem["code"], problem["outcome"]) == (500, "event-unreadable", "not stored")
    fields = problem["fields"]
    assert (fields["stream"], fields["version"], fields["type"]) == ("Sample/b", 1, "AddedUp")
    assert "register an @upcaster" in problem["detail"]
    assert "missing" not in json.dumps(problem)
    assert any("missing required field `real`" in str(entry.get("error")) for entry in logs)
    assert (await lab.request("POST", "/samples/a/sums", b'{"real":1.0}'))[0] == 200


async def test_the_page_says_so(lab: Lab) -> None:
    """OpenAPI states the range of whole numbers, but not of those that may be larger."""
    _, document = await lab.request("GET", "/openapi.json")
    content = document["components"]["schemas"]["Content"]["properties"]
    whole = {"type": "integer", "format": "int64", "minimum": LEAST, "maximum": MOST}
    assert {**content["whole"], "default": None} == {**whole, "default": None}
    assert content["numbers"]["items"] == whole
    assert content["named"]["additionalProperties"] == whole
    assert content["optional"]["anyOf"][0] == whole
    assert content["large"] == {"type": "integer", "format": "bigint", "default": 0}
    numbers = document["paths"]["/numbers/{number}"]["put"]
    assert numbers["parameters"][0]["schema"] == whole
    limit = numbers["requestBody"]["content"]["application/json"]["schema"]["properties"]["limit"]
    assert (limit["minimum"], limit["maximum"]) == (0, MOST)
    query = document["paths"]["/samples"]["get"]["parameters"]
    named = {parameter["name"]: parameter["schema"] for parameter in query}
    assert named["whole"]["anyOf"][0] == whole
