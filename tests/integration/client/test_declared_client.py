"""A declared client against a real server: requests, answers, errors, fallback, streams."""

import asyncio
import datetime as dt
from typing import Annotated, Protocol

import msgspec
import pytest
from aiohttp import web

from headwater.client import (
    HeaderParam,
    Next,
    Reply,
    Request,
    client,
    connect,
    disconnect,
    get,
)
from headwater.discovery import LocalDiscovery
from headwater.errors import (
    AggregateNotFound,
    ConcurrencyConflict,
    ConnectionLost,
    HeadwaterError,
    InvalidInput,
    NoInstance,
    RemoteError,
    RouteNotFound,
    Unexpected,
)
from tests.integration.client.conftest import Backend, MakeBackend, MakeCaller, cut, status
from tests.integration.client.customers import (
    Customer,
    Customers,
    Guarded,
    Level,
    Register,
    TooPoor,
    answering,
    failing,
    json,
)


async def test_get(server: Backend, customers: Customers) -> None:
    """A path parameter is percent-encoded whole, a header is sent, the answer decoded."""
    server.handler = answering(b'{"id":"a/b","name":"Ann"}')
    assert await customers.customer("a/b ü?", tenant="north") == Customer("a/b", "Ann")
    seen = server.seen[0]
    assert seen.raw_path == "/customers/a%2Fb%20%C3%BC%3F"
    assert seen.headers["x-tenant"] == "north"
    assert seen.headers["accept"] == "application/json"


async def test_optional_credential(server: Backend, caller: MakeCaller) -> None:
    """A header that may be None arrives as a header, never in the URL or the body."""

    @client("shop")
    class Private(Protocol):
        @get("/orders")
        async def orders(
            self,
            key: Annotated[str, HeaderParam("authorization")] | None = None,
            page: int | None = 1,
        ) -> None: ...

    private = connect(Private, caller=caller())
    await private.orders("Bearer hush-7")
    await private.orders()
    assert [seen.raw_path for seen in server.seen] == ["/orders?page=1", "/orders?page=1"]
    assert [seen.headers.get("authorization") for seen in server.seen] == ["Bearer hush-7", None]
    assert server.bodies == [b"", b""]


async def test_empty_header(server: Backend, customers: Customers) -> None:
    """An empty header is left out."""
    server.handler = answering(b'{"id":"a"}')
    await customers.customer("a")
    assert "x-tenant" not in server.seen[0].headers


@pytest.mark.parametrize("customer_id", ["", ".", "..", None])
async def test_path_traversal(customer_id: str, server: Backend, customers: Customers) -> None:
    """A path parameter that would name another resource is refused before anything is sent."""
    with pytest.raises(InvalidInput, match="'customer_id'"):
        await customers.customer(customer_id)
    assert server.seen == []


async def test_header_control_characters(server: Backend, customers: Customers) -> None:
    """A header cannot smuggle another one in."""
    with pytest.raises(InvalidInput, match="'x-tenant' has control characters"):
        await customers.customer("a", "north\r\nx-admin: 1")
    assert server.seen == []


async def test_query(server: Backend, customers: Customers) -> None:
    """Sequences are repeated, None is left out, names are mapped, values written as in JSON."""
    server.handler = answering(b"[]")
    assert await customers.search() == []
    await customers.search(
        ["a&b", "ü"], 10, active=True, since=dt.date(2026, 1, 31), level=Level.GOLD
    )
    assert server.seen[0].raw_path == "/customers"
    assert server.seen[1].raw_path == (
        "/customers?names=a%26b&names=%C3%BC&page-size=10&active=true&since=2026-01-31&level=gold"
    )


async def test_post(server: Backend, customers: Customers) -> None:
    """A Struct is the JSON body; Response shows status and headers."""

    async def created(_: web.Request) -> web.StreamResponse:
        return json(b'{"id":"7","name":"Ann"}', 201, Location="/customers/7")

    server.handler = created
    response = await customers.register(Register("Ann"), key="k1")
    assert response.status == 201
    assert response.headers["location"] == "/customers/7"
    assert response.body == Customer("7", "Ann")
    assert server.bodies == [b'{"name":"Ann"}']
    assert server.seen[0].content_type == "application/json"
    assert server.seen[0].headers["idempotency-key"] == "k1"


async def test_other_verbs(server: Backend, customers: Customers) -> None:
    """PUT, PATCH, DELETE and HEAD; bytes, dict, str and nothing."""
    await customers.photo(7, b"\x89PNG")
    assert server.bodies[-1] == b"\x89PNG"
    assert server.seen[-1].content_type == "application/octet-stream"
    server.handler = answering(b'{"name":"Bob"}')
    assert await customers.rename("7", {"name": "Bob"}) == {"name": "Bob"}
    assert server.bodies[-1] == b'{"name":"Bob"}'
    assert await customers.remove("7") == '{"name":"Bob"}'
    assert await customers.image("7") == b'{"name":"Bob"}'
    assert (await customers.exists("7")).status == 200
    assert [seen.method for seen in server.seen] == ["PUT", "PATCH", "DELETE", "GET", "HEAD"]


async def test_wrong_arguments(customers: Customers) -> None:
    """Arguments that do not fit are Python's TypeError, as for any method."""
    with pytest.raises(TypeError, match="missing a required argument: 'customer_id'"):
        await customers.customer()  # type: ignore[call-arg]  # the point of the test
    with pytest.raises(TypeError, match="unexpected keyword argument 'b'"):
        await customers.customer("a", b=1)  # type: ignore[call-arg]  # the point of the test
    with pytest.raises(TypeError, match="missing a required argument: 'customer_id'"):
        await customers.customer(b=1)  # type: ignore[call-arg]  # as many as it takes
    with pytest.raises(TypeError, match="multiple values"):
        await customers.customer("a", customer_id="b")  # type: ignore[misc]  # the point
    with pytest.raises(TypeError, match="too many positional"):
        await customers.search([], 1, True)  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError, match="unexpected keyword argument 'b'"):
        customers.events(b=1)  # type: ignore[call-arg]  # the point of the test


@pytest.mark.parametrize(
    "error",
    [
        AggregateNotFound(aggregate="Customer", id="7"),
        ConcurrencyConflict(stream="Customer/7", expected=1, actual=2),
        TooPoor(balance=5),
        Unexpected(reference="abc"),
        NoInstance(service="stock", retry_after_s=3.0),
    ],
)
async def test_typed_errors(error: HeadwaterError, server: Backend, customers: Customers) -> None:
    """A problem document comes out as the same error with the same fields."""
    server.handler = failing(error)
    with pytest.raises(type(error)) as caught:
        await customers.remove("7")
    assert caught.value.fields() == error.fields()


@pytest.mark.parametrize(
    ("body", "detail"),
    [(b'{"title":"Gone fishing"}', "Gone fishing"), (b"<h1>no</h1>", "<h1>no</h1>"), (b"", "")],
)
async def test_other_errors(
    body: bytes, detail: str, server: Backend, customers: Customers
) -> None:
    """Any other error answer is a RemoteError with its status and text."""
    server.handler = answering(body, 418)
    with pytest.raises(RemoteError) as caught:
        await customers.remove("7")
    assert (caught.value.source, caught.value.remote_status) == ("shop", 418)
    assert detail in caught.value.detail


async def test_absent(server: Backend, customers: Customers) -> None:
    """A 404 is None where the type allows it, and an error where it does not."""
    server.handler = failing(AggregateNotFound(aggregate="Customer", id="7"))
    assert await customers.customer("7") is None
    server.handler = status(404)
    assert await customers.customer("7") is None
    with pytest.raises(RemoteError, match="404"):
        await customers.remove("7")


async def test_wrong_route_is_no_absence(server: Backend, customers: Customers) -> None:
    """A 404 that says that the service has no such route is a fault, not an absent customer."""
    server.handler = failing(RouteNotFound(method="GET", path="/customers/7"))
    with pytest.raises(RouteNotFound):
        await customers.customer("7")


@pytest.mark.parametrize("body", [b"{", b'{"id":7}', b"[]", b'{"id":"\xff"}', b"<html>"])
async def test_bad_json(body: bytes, server: Backend, customers: Customers) -> None:
    """A success that is not JSON of the declared type is a RemoteError that shows its start."""
    server.handler = answering(body)
    with pytest.raises(RemoteError, match="shop answered 200: something unexpected"):
        await customers.customer("7")


async def test_redirect_is_reported(server: Backend, customers: Customers) -> None:
    """A redirect that is not followed says where it pointed."""
    server.handler = status(302, Location="https://elsewhere.example/x")
    with pytest.raises(RemoteError, match=r"302: a redirect to https://elsewhere\.example/x"):
        await customers.remove("7")


@pytest.mark.parametrize(
    ("handler", "cause"),
    [
        (cut, "ConnectionLost"),
        (status(500), "RemoteError"),
        (status(503), "RemoteError"),
        (failing(Unexpected(reference="x")), "Unexpected"),
        (failing(NoInstance(service="stock")), "NoInstance"),
    ],
)
async def test_fallback(handler: object, cause: str, server: Backend, caller: MakeCaller) -> None:
    """When the service is away or broken the fallback answers, and knows why."""
    server.handler = handler
    assert await connect(Guarded, caller=caller()).one("k") == f"k: {cause}"


async def test_fallback_late(server: Backend, caller: MakeCaller) -> None:
    """When the service is too late the fallback answers."""

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    server.handler = never
    guarded = connect(Guarded, caller=caller(), timeout_s=0.1)
    assert await guarded.one("k") == "k: DeadlineExceeded"


@pytest.mark.parametrize("handler", [status(404), status(429), failing(TooPoor(balance=1))])
async def test_no_fallback(handler: object, server: Backend, caller: MakeCaller) -> None:
    """A refusal is an answer: the fallback must not hide it."""
    server.handler = handler
    with pytest.raises(HeadwaterError) as caught:
        await connect(Guarded, caller=caller()).one("k")
    assert isinstance(caught.value, RemoteError | TooPoor)


async def test_fallback_without_cause(caller: MakeCaller) -> None:
    """A fallback whose constructor takes nothing is made once and serves every failure."""
    made = []

    class Counting:
        def __init__(self) -> None:
            made.append(self)

        async def one(self, key: str) -> str:
            return key

    @client("shop", fallback=Counting)
    class Simple(Protocol):
        @get("/{key}")
        async def one(self, key: str) -> str: ...

    simple = connect(Simple, caller=caller(patience_s=0.01))
    assert [await simple.one("a"), await simple.one("b")] == ["a", "b"]
    assert len(made) == 1


async def test_interceptors(server: Backend, caller: MakeCaller) -> None:
    """Interceptors wrap the call in order, change requests, see replies, also of streams."""
    order: list[str] = []

    async def outer(request: Request, following: Next) -> Reply:
        order.append("outer in")
        reply = await following(request)
        order.append(f"outer out {reply.status}")
        return reply

    async def signing(request: Request, following: Next) -> Reply:
        order.append("signing")
        headers = {**request.headers, "authorization": "Bearer t"}
        return await following(msgspec.structs.replace(request, headers=headers))

    customers = connect(Customers, caller=caller(), interceptors=[outer, signing])
    await customers.image("7")
    assert order == ["outer in", "signing", "outer out 200"]
    with pytest.raises(RemoteError, match="no event stream"):
        await anext(customers.events())
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer t"] * 2


async def test_answer_without_network() -> None:
    """An interceptor may answer itself, such as from a cache."""

    async def cached(request: Request, _: Next) -> Reply:
        return Reply(200, {}, request.path.encode(), "cache")

    customers = connect(Customers, interceptors=[cached])
    assert await customers.remove("7") == "/customers/7"


async def test_observer(server: Backend, caller: MakeCaller) -> None:
    """Each call is told with service, verb, template, status and seconds; 0 is no answer."""
    told: list[tuple[str, str, str, int]] = []

    def observe(service: str, verb: str, template: str, code: int, seconds: float) -> None:
        assert 0 < seconds < 60
        told.append((service, verb, template, code))

    customers = connect(Customers, caller=caller(), observe=observe)
    await customers.image("7")
    server.handler = status(404)
    await customers.customer("7")
    server.handler = cut
    with pytest.raises(ConnectionLost):
        await customers.register(Register("Ann"))
    assert told == [
        ("shop", "GET", "/customers/{customer_id}/photo", 200),
        ("shop", "GET", "/customers/{customer_id}", 404),
        ("shop", "POST", "/customers", 0),
    ]


async def test_roles(discovery: LocalDiscovery, backend: MakeBackend, caller: MakeCaller) -> None:
    """Reads go to the query side and writes to the command side, without being told."""
    reader, writer = await backend(register=False), await backend(register=False)
    await discovery.register(reader.instance(id="reader", role="query"))
    await discovery.register(writer.instance(id="writer", role="command"))
    customers = connect(Customers, caller=caller())
    await customers.image("7")
    await customers.photo(7, b"x")
    assert [seen.method for seen in reader.seen] == ["GET"]
    assert [seen.method for seen in writer.seen] == ["PUT"]


async def test_plain_url(backend: MakeBackend) -> None:
    """With a URL any REST server can be called, without discovery; its path comes first."""
    server = await backend(register=False)

    @client(url=f"{server.url}/v1/")
    class Plain(Protocol):
        @get("/{name}")
        async def one(self, name: str) -> str: ...

    plain = connect(Plain)
    elsewhere = connect(Plain, url=f"{server.url}/v2")
    await plain.one("x")
    await elsewhere.one("x")
    assert [seen.path for seen in server.seen] == ["/v1/x", "/v2/x"]
    for connected in (plain, elsewhere, plain):
        await disconnect(connected)


async def test_overrides(server: Backend, caller: MakeCaller) -> None:
    """Time-out and retries can be set for one connection."""
    server.handler = status(502)
    with pytest.raises(RemoteError):
        await connect(Customers, caller=caller(), retries=2).image("7")
    assert len(server.seen) == 3
