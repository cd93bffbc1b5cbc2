"""Two small services: orders are paid and shipped, or time runs out."""

from datetime import datetime, timedelta
from typing import Annotated, Protocol

from headwater import (
    Aggregate,
    Command,
    Deadline,
    Effects,
    End,
    Event,
    EventHandlers,
    EventMessage,
    Key,
    Projection,
    Query,
    Saga,
    Service,
    View,
    command_handler,
    deadline_handler,
    event_handler,
    query_handler,
    route,
    saga_handler,
)
from headwater.client import client, post


@route("POST /orders")
class PlaceOrder(Command):
    order_id: str
    item: str = "book"


class RemindOrder(Command):
    order_id: str


class CancelOrder(Command):
    order_id: str


class ShipOrder(Command):
    """Handled by the service ``shipping``."""

    order_id: str


class OrderPlaced(Event):
    order_id: str
    item: str


class OrderReminded(Event):
    order_id: str


class OrderCancelled(Event):
    order_id: str


class OrderShipped(Event):
    order_id: str


class Order(Aggregate):
    @command_handler(creates=True)
    def place(self, command: PlaceOrder) -> OrderPlaced:
        return OrderPlaced(command.order_id, command.item)

    @command_handler
    def remind(self, command: RemindOrder) -> OrderReminded:
        return OrderReminded(command.order_id)

    @command_handler
    def cancel(self, command: CancelOrder) -> OrderCancelled:
        return OrderCancelled(command.order_id)


class Shipment(Aggregate):
    @command_handler(creates=True)
    def ship(self, command: ShipOrder) -> OrderShipped:
        return OrderShipped(command.order_id)


class OrderView(View):
    id: Annotated[str, Key]
    item: str
    state: str = "placed"
    times: list[datetime] = []  # noqa: RUF012  # msgspec copies it


@route("GET /orders/{order_id}")
class GetOrder(Query[OrderView]):
    order_id: str


class Orders(Projection):
    @event_handler(OrderView, key="order_id")
    def placed(self, event: OrderPlaced, message: EventMessage[OrderPlaced]) -> OrderView:
        if event.item == "dynamite":
            raise ValueError("nobody shows dynamite")
        return OrderView(event.order_id, event.item, times=[message.time])

    @event_handler(OrderView, key="order_id")
    def reminded(
        self, view: OrderView, _: OrderReminded, message: EventMessage[OrderReminded]
    ) -> None:
        view.state = "reminded"
        view.times.append(message.time)

    @event_handler(OrderView, key="order_id")
    def cancelled(
        self, view: OrderView, _: OrderCancelled, message: EventMessage[OrderCancelled]
    ) -> None:
        view.state = "cancelled"
        view.times.append(message.time)

    @query_handler
    async def order(self, query: GetOrder) -> OrderView | None:
        return await self.views.get(OrderView, query.order_id)


class Patience(Saga):
    """Reminds after a day, cancels a day and a half later."""

    @saga_handler(key="order_id", starts=True)
    def placed(self, event: OrderPlaced) -> Effects:
        if event.item == "letter":
            return ShipOrder(event.order_id)
        return Deadline("remind", after=timedelta(days=1))

    @deadline_handler("remind")
    def remind(self) -> Effects:
        return [RemindOrder(self.id), Deadline("cancel", after=timedelta(hours=36))]

    @deadline_handler("cancel")
    def cancel(self) -> Effects:
        return [CancelOrder(self.id), End()]


@client("mails")
class Mails(Protocol):
    @post("/mails")
    async def send(self, order_id: str) -> None: ...


class Notices(EventHandlers):
    @event_handler
    async def placed(self, event: OrderPlaced) -> None:
        await mails.send(event.order_id)


orders = Service("orders", aggregates=[Order], projections=[Orders], sagas=[Patience])
shipping = Service("shipping", aggregates=[Shipment])
noticing = Service("noticing", aggregates=[Order], handlers=[Notices])
mails = noticing.client(Mails)
