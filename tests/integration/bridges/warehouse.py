"""A service that follows a queue, and one whose events leave to an exchange."""

import asyncio
from typing import Annotated, Any

from headwater import (
    Aggregate,
    Command,
    Event,
    EventHandlers,
    EventMessage,
    Index,
    Key,
    Projection,
    Query,
    Rejection,
    Retry,
    Service,
    View,
    command_handler,
    event_handler,
    query_handler,
    route,
)
from headwater.bridges import AmqpPublisher, AmqpQueue


class Shipped(Event):
    order_id: str
    parcels: int


class Shipment(View):
    order_id: Annotated[str, Key]
    parcels: Annotated[int, Index] = 0
    events: int = 0


@route("GET /shipments/{order_id}")
class GetShipment(Query[Shipment]):
    order_id: str


class NoSuchOrder(Rejection):
    order_id: str
    template = "order {order_id!r} is not known"


def shipments(queue: AmqpQueue) -> type[Projection]:
    """Return a projection that counts what comes, so that a second effect shows."""

    class Shipments(Projection):
        source = queue
        retry = Retry(attempts=3, pause_s=0.01, pause_max_s=0.02)

        @event_handler(Shipment, key="order_id")
        def shipped(self, view: Shipment, event: Shipped) -> None:
            if event.parcels < 0:
                raise NoSuchOrder(order_id=event.order_id)
            if event.parcels == 0:
                raise ValueError("nothing was shipped")
            view.parcels += event.parcels
            view.events += 1

        @query_handler
        async def shipment(self, query: GetShipment) -> Shipment | None:
            return await self.views.get(Shipment, query.order_id)

    return Shipments


def carrier(queue: AmqpQueue, calls: list[str], ills: dict[str, list[Exception]]) -> Any:
    """Return handlers that call somebody else; ``ills`` are what happens first, by order."""

    class Carrier(EventHandlers):
        source = queue
        retry = Retry(attempts=3, pause_s=0.01, pause_max_s=0.02)

        @event_handler
        async def shipped(self, event: Shipped, message: EventMessage[Shipped]) -> None:
            await asyncio.sleep(0)
            if ills.get(event.order_id):
                raise ills[event.order_id].pop(0)
            calls.append(f"{message.source} {event.order_id} {event.parcels}")

    return Carrier


def warehouse(queue: AmqpQueue) -> Service:
    return Service("warehouse", projections=[shipments(queue)])


@route("POST /orders/{order_id}")
class PlaceOrder(Command):
    order_id: str
    cents: int


class OrderPlaced(Event):
    order_id: str
    cents: int


class OrderChecked(Event):
    order_id: str


class Order(Aggregate):
    @command_handler(creates="if_missing")
    def place(self, command: PlaceOrder) -> list[OrderPlaced | OrderChecked]:
        return [OrderPlaced(command.order_id, command.cents), OrderChecked(command.order_id)]


def orders(*publishers: AmqpPublisher) -> Service:
    return Service("orders", aggregates=[Order], publishers=publishers)
