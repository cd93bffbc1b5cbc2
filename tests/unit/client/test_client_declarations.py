"""What is wrong with a declared client is told when it is declared."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Protocol

import msgspec
import pytest

from headwater.client import (
    BodyParam,
    HeaderParam,
    QueryParam,
    Response,
    client,
    connect,
    delete,
    disconnect,
    get,
    head,
    post,
)
from headwater.errors import DeclarationError


class Item(msgspec.Struct):
    name: str


@dataclasses.dataclass
class Line:
    item: str


class Opaque:
    pass


class Nested(msgspec.Struct):
    inner: list[dict[str, Opaque]]


def refused(*functions: Callable[..., Any], **options: Any) -> str:
    """Declare a client of these methods; return the reason for which it is refused."""
    cls = type("Shop", (Protocol,), {f.__name__: f for f in functions})
    with pytest.raises(DeclarationError) as caught:
        client(**{"service": "shop", **options})(cls)
    return caught.value.message


def test_template() -> None:
    """A name in the path that is no parameter is refused, with the names there are."""

    @get("/{id}/{part}")
    async def one(self, id: str) -> Item: ...

    assert "['part'], which are no parameters: they are ['id']" in refused(one)


def test_repeated_name() -> None:
    """A path names each parameter once."""

    @get("/{id}/{id}")
    async def one(self, id: str) -> Item: ...

    assert "twice" in refused(one)


@pytest.mark.parametrize("path", ["x", "/x?a=1", "/a b", "/ä", "/{", "/{a-b}", "/x#y"])
def test_bad_path(path: str) -> None:
    """A path is encoded, begins with a slash, and has no query string or stray brace."""

    @get(path)
    async def one(self) -> Item: ...

    assert "must start with / and be percent-encoded" in refused(one)


def test_unknown_mark() -> None:
    """A mark that means nothing to a client is refused rather than ignored."""

    @get("/")
    async def one(self, a: Annotated[str, "x-tenant"]) -> Item: ...

    assert "one(a)" in refused(one)
    assert "cannot stand here" in refused(one)


def test_unnamed_mark() -> None:
    """A mark given as a class, without its name, is refused."""

    @get("/")
    async def one(self, a: Annotated[str, HeaderParam]) -> Item: ...

    assert "cannot stand here" in refused(one)


def test_contradicting_marks() -> None:
    """A parameter goes to one place."""

    @get("/")
    async def one(self, a: Annotated[str, HeaderParam("x"), QueryParam("y")]) -> Item: ...

    @get("/{a}")
    async def two(self, a: Annotated[str, QueryParam("y")]) -> Item: ...

    assert "at most one of" in refused(one)
    assert "contradicts the path" in refused(two)


def test_missing_annotation() -> None:
    """Every parameter, and the return value, has a type."""

    @get("/")
    async def one(self, a) -> Item: ...

    @get("/")
    async def two(self, a: str): ...

    assert "one(a): needs a type annotation" in refused(one)
    assert "needs a return annotation" in refused(two)


def test_unresolvable_annotation() -> None:
    """An annotation that names nothing is refused."""

    @get("/")
    async def one(self, a: "Nowhere") -> Item: ...  # noqa: F821  # the point of the test

    assert "cannot be resolved: name 'Nowhere'" in refused(one)


def test_several_bodies() -> None:
    """There is one body."""

    @post("/")
    async def one(self, item: Item, line: Line) -> None: ...

    assert "['item', 'line'] would all be the body" in refused(one)


def test_body_of_get() -> None:
    """GET has no body."""

    @get("/")
    async def one(self, item: Item) -> None: ...

    assert "GET has no body" in refused(one)


@pytest.mark.parametrize("kind", [dict[str, str], Opaque, list[Item], dict[str, int] | None, Any])
def test_no_text_form(kind: Any) -> None:
    """What cannot be written into a URL is refused, unless it is marked as the body."""

    async def one(self, a) -> None: ...

    one.__annotations__["a"] = kind
    assert "has no text form" in refused(post("/")(one))


@pytest.mark.parametrize("kind", [Opaque, list[Opaque], dict[str, Opaque] | None, Nested])
@pytest.mark.parametrize("wrap", [lambda kind: kind, lambda kind: Response[kind]])
def test_undecodable(kind: Any, wrap: Callable[[Any], Any]) -> None:
    """A return type that msgspec cannot decode is refused."""

    async def one(self) -> None: ...

    one.__annotations__["return"] = wrap(kind)
    assert "msgspec cannot decode" in refused(get("/")(one))


def test_undecodable_items() -> None:
    """The items of a stream are checked too."""

    @get("/")
    def one(self) -> AsyncIterator[Opaque]: ...

    assert "msgspec cannot decode" in refused(one)


def test_sync() -> None:
    """A plain def is refused, except for a stream, which is one."""

    @get("/")
    def one(self) -> Item: ...

    @get("/")
    async def two(self) -> AsyncIterator[Item]: ...

    assert "must be async def" in refused(one)
    assert "declared with def, not async def" in refused(two)


def test_head() -> None:
    """HEAD answers have no body."""

    @head("/")
    async def one(self) -> Item: ...

    assert "HEAD has no body" in refused(one)


def test_variadic() -> None:
    """Variadic and positional-only parameters have no name to be sent under."""

    @get("/")
    async def one(self, *a: str) -> Item: ...

    @get("/")
    async def two(self, a: str, /) -> Item: ...

    assert "plain parameter" in refused(one)
    assert "plain parameter" in refused(two)


def test_options() -> None:
    """Options out of range, a routing key that is no parameter, a hedged POST are refused."""

    async def one(self, a: str) -> None: ...

    assert "timeout_s must be above 0" in refused(get("/", timeout_s=0)(one))
    assert "timeout_s must be above 0" in refused(get("/", retries=-1)(one))
    assert "routing_key='b' is not among" in refused(get("/", routing_key="b")(one))
    assert "only GET and HEAD are hedged" in refused(post("/", hedge_s=1)(one))


def test_method_without_verb() -> None:
    """A public method without a verb could not be implemented."""

    async def one(self) -> None: ...

    assert "Shop.one: has no verb" in refused(one)


def test_nothing_declared() -> None:
    """A client has a method, and a service or a URL."""

    @delete("/")
    async def one(self) -> None: ...

    assert "has no method" in refused()
    assert "either a service name or url" in refused(one, service="")
    assert "either a service name or url" in refused(one, url="http://x")
    assert "must start with /" in refused(one, path="shop")
    assert "not end with it" in refused(one, path="/shop/")


@get("/{id}")
async def fetch(self, id: str) -> Item: ...


@get("/events")
def events(self) -> AsyncIterator[Item]: ...


def test_fallback_lacks() -> None:
    """A fallback without one of the methods is refused."""
    assert "lacks the method 'fetch'" in refused(fetch, fallback=type("Down", (), {}))
    assert "must be a class" in refused(fetch, fallback=Opaque())


def test_fallback_parameters() -> None:
    """A fallback takes the same arguments, in the same way."""

    class Other:
        async def fetch(self, key: str) -> Item: ...

    class Sync:
        def fetch(self, id: str) -> Item: ...

    class Late:
        async def events(self) -> Item: ...

    assert "fetch takes ['key'], expected ['id']" in refused(fetch, fallback=Other)
    assert "fetch must be async def" in refused(fetch, fallback=Sync)
    assert "must be an async generator" in refused(events, fallback=Late)


def test_fallback_constructor() -> None:
    """A fallback is made from nothing or from the cause."""

    class Needy:
        def __init__(self, cause: Exception, store: str) -> None: ...
        async def fetch(self, id: str) -> Item: ...

    assert "its constructor needs ['cause', 'store']" in refused(fetch, fallback=Needy)


def test_connect_undeclared() -> None:
    """Only a decorated class can be connected, and only what was connected disconnected."""
    with pytest.raises(DeclarationError, match="decorate it with @client"):
        connect(Opaque)


async def test_disconnect_other() -> None:
    """Only what `connect` returned can be disconnected."""
    with pytest.raises(DeclarationError, match=r"not returned by connect"):
        await disconnect(Opaque())


def test_marked_body() -> None:
    """Any JSON type can be the body when it is marked so."""

    @post("/")
    async def one(self, lines: Annotated[list[Line], BodyParam()]) -> None: ...

    cls = type("Shop", (Protocol,), {"one": one})
    assert client("shop")(cls) is cls
