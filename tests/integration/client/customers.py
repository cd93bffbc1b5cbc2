"""The declared client that several tests use, and the server that it talks to."""

import datetime as dt
import enum
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Protocol

import msgspec
from aiohttp import web

from headwater.client import (
    BodyParam,
    HeaderParam,
    QueryParam,
    Response,
    client,
    delete,
    get,
    head,
    patch,
    post,
    put,
)
from headwater.errors import (
    HeadwaterError,
    Rejection,
)


class Customer(msgspec.Struct):
    id: str
    name: str = ""


class Register(msgspec.Struct):
    name: str


class Level(enum.Enum):
    GOLD = "gold"


class TooPoor(Rejection):
    balance: int


@client("shop", path="/customers")
class Customers(Protocol):
    @get("/{customer_id}")
    async def customer(
        self, customer_id: str, tenant: Annotated[str, HeaderParam("x-tenant")] = ""
    ) -> Customer | None: ...

    @get("/")
    async def search(
        self,
        names: Sequence[str] = (),
        limit: Annotated[int | None, QueryParam("page-size")] = None,
        *,
        active: bool | None = None,
        since: dt.date | None = None,
        level: Level | None = None,
    ) -> list[Customer]: ...

    @post("/")
    async def register(
        self, body: Register, key: Annotated[str, HeaderParam("idempotency-key")] = ""
    ) -> Response[Customer]: ...

    @put("/{customer_id}/photo")
    async def photo(self, customer_id: int, image: Annotated[bytes, BodyParam()]) -> None: ...

    @patch("/{customer_id}")
    async def rename(
        self, customer_id: str, names: Annotated[dict[str, str], BodyParam()]
    ) -> dict[str, str]: ...

    @delete("/{customer_id}")
    async def remove(self, customer_id: str) -> str: ...

    @get("/{customer_id}/photo")
    async def image(self, customer_id: str) -> bytes: ...

    @head("/{customer_id}")
    async def exists(self, customer_id: str) -> Response[None]: ...

    @get("/events", timeout_s=5)
    def events(self, after: int = 0) -> AsyncGenerator[Customer, None]: ...


class Offline:
    """Answers from memory and keeps the cause."""

    def __init__(self, cause: HeadwaterError) -> None:
        self.cause = cause

    async def one(self, key: str) -> str:
        return f"{key}: {type(self.cause).__name__}"

    async def feed(self) -> AsyncIterator[Customer]:
        yield Customer("offline")


@client("shop", fallback=Offline)
class Guarded(Protocol):
    @get("/{key}")
    async def one(self, key: str) -> str: ...

    @get("/feed")
    def feed(self) -> AsyncIterator[Customer]: ...


def json(content: bytes, code: int = 200, **headers: str) -> web.Response:
    return web.Response(body=content, status=code, content_type="application/json", headers=headers)


def answering(content: bytes, code: int = 200):
    async def answer(_: web.Request) -> web.StreamResponse:
        return json(content, code)

    return answer


def failing(error: HeadwaterError):
    return answering(msgspec.json.encode(error.to_problem()), error.status)
