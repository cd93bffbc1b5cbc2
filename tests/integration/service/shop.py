"""A small service for the tests of the service room."""

import asyncio
from typing import Annotated

import msgspec
from litestar import get, websocket
from litestar.connection import WebSocket
from litestar.response import ServerSentEvent

from headwater.errors import Forbidden, Rejection
from headwater.messages import Command, Event, Principal, Query, current, route
from headwater.modelling import (
    Aggregate,
    Projection,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
)
from headwater.service import Service
from headwater.views import Index, Key, View


@route("POST /items")
class AddItem(Command):
    """Add an item."""

    item_id: str
    title: Annotated[str, msgspec.Meta(max_length=40)]
    stock: Annotated[int, msgspec.Meta(ge=0)] = 0


@route("POST /items/{item_id}/sales")
class SellItem(Command):
    """Sell some."""

    item_id: str
    count: Annotated[int, msgspec.Meta(ge=1)]


class ItemAdded(Event):
    """An item was added."""

    item_id: str
    title: str
    stock: int


class ItemSold(Event):
    """Some were sold."""

    item_id: str
    count: int


class SoldOut(Rejection):
    """Fewer are in stock."""

    status = 409
    item_id: str
    stock: int
    template = "item {item_id!r} has {stock} in stock: order fewer"


class Item(Aggregate):
    """An item."""

    title: str = ""
    stock: int = 0

    @command_handler(creates=True)
    def add(self, command: AddItem) -> ItemAdded:
        return ItemAdded(command.item_id, command.title, command.stock)

    @command_handler
    def sell(self, command: SellItem) -> ItemSold:
        if command.count > self.stock:
            raise SoldOut(item_id=self.id, stock=self.stock)
        return ItemSold(command.item_id, command.count)

    @event_sourcing_handler
    def added(self, event: ItemAdded) -> None:
        self.title, self.stock = event.title, event.stock

    @event_sourcing_handler
    def sold(self, event: ItemSold) -> None:
        self.stock -= event.count


class ItemView(View):
    """An item."""

    id: Annotated[str, Key]
    title: Annotated[str, Index]
    stock: int


@route("GET /items/{item_id}")
class GetItem(Query[ItemView]):
    """One item."""

    item_id: str


@route("GET /items")
class FindItems(Query[list[ItemView]]):
    """Items by title."""

    title: str = ""
    limit: int = 10


@route("GET /slow/{item_id}")
class Slow(Query[str]):
    """Answered when the gate opens."""

    item_id: str


class Gate:
    """Lets slow queries through when it is opened."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Close it."""
        self.open = asyncio.Event()
        self.entered = asyncio.Semaphore(0)


gate = Gate()


class Items(Projection):
    """Items by id and title."""

    @event_handler(ItemView, key="item_id")
    def added(self, event: ItemAdded) -> ItemView:
        return ItemView(event.item_id, event.title, event.stock)

    @event_handler(ItemView, key="item_id")
    def sold(self, view: ItemView, event: ItemSold) -> None:
        view.stock -= event.count

    @query_handler
    async def one(self, query: GetItem) -> ItemView | None:
        return await self.views.get(ItemView, query.item_id)

    @query_handler
    async def find(self, query: FindItems) -> list[ItemView]:
        where = {"title": query.title} if query.title else None
        return (await self.views.find(ItemView, where=where, limit=query.limit)).items

    @query_handler
    async def slow(self, query: Slow) -> str:
        gate.entered.release()
        await gate.open.wait()
        return query.item_id


def authorize(message: Command | Query, _: Principal) -> None:
    """Nobody but its own tenant may touch a reserved item."""
    context = current()
    tenant = context.metadata.tenant if context is not None else ""
    if getattr(message, "item_id", "") == "reserved" and tenant != "owner":
        raise Forbidden(action="touching a reserved item")


@get("/ticks", opt={"stream": True})
async def ticks() -> ServerSentEvent:
    """Count to three."""

    async def count():
        for number in range(3):
            yield str(number)

    return ServerSentEvent(count())


@websocket("/echo")
async def echo(socket: WebSocket) -> None:
    """Say what is heard."""
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


def make_service() -> Service:
    """Return a new declaration, for one runtime."""
    gate.reset()
    return Service(
        "shop",
        aggregates=[Item],
        projections=[Items],
        authorize=authorize,
        routes=[ticks, echo],
        version="2.1",
    )
