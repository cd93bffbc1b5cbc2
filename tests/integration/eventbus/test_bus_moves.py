"""A system moves to a bus with more partitions: nothing is lost, repeated, or out of order."""

from pathlib import Path
from typing import Annotated, ClassVar

import pytest

from headwater.eventbus import EventBus, partition_of
from headwater.eventbus.kafka import KafkaEventBus
from headwater.eventbus.rabbitmq import RabbitMQEventBus
from headwater.modelling import EventHandlers, Projection, event_handler
from headwater.processing import BusSource, move_processor, move_relay
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View
from headwater.views.sqlite import SQLiteViewStore
from tests.integration.eventbus.bus_system import WAIT_S_MAX
from tests.integration.processing.conftest import until
from tests.integration.service.shop import AddItem, Item, ItemAdded, ItemSold, SellItem

pytestmark = pytest.mark.timeout(600)
BEFORE, AFTER = 2, 7
ITEMS = [f"i{n}" for n in range(12)]


class Sold(View):
    id: Annotated[str, Key]
    counts: tuple[int, ...] = ()


class Sales(Projection):
    """Shows what was sold, in the order in which it was heard of."""

    source = "bus"

    @event_handler(Sold, key="item_id")
    def added(self, event: ItemAdded) -> Sold:
        return Sold(id=event.item_id)

    @event_handler(Sold, key="item_id")
    def sold(self, view: Sold, event: ItemSold) -> None:
        view.counts = (*view.counts, event.count)


class Parcels(EventHandlers):
    """Acts on each event: what it does cannot be undone."""

    source = "bus"
    start = "beginning"
    sent: ClassVar[list[tuple[str, int]]] = []

    @event_handler
    async def sold(self, event: ItemSold) -> None:
        self.sent.append((event.item_id, event.count))


def shop() -> Service:
    return Service("shop", aggregates=[Item])


def stall() -> Service:
    return Service("stall", projections=[Sales], handlers=[Parcels])


class Market:
    """Two services on a bus: one publishes, the other one follows."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.sold = 0

    async def trade(self, url: str, partitions: int, *, opens: bool, sales: int) -> None:
        """Run both, sell, and wait until the follower has all of it, and has noted that."""
        given = {"bus": url, "partitions": partitions}
        async with (
            Runtime(shop(), {**given, "data": str(self.data / "shop")}) as running,
            Runtime(stall(), {**given, "data": str(self.data / "stall")}) as following,
        ):
            for item in ITEMS if opens else ():
                await running.commands.send(AddItem(item, "Bach", 10_000))
            for _ in range(sales):
                self.sold += 1
                for item in ITEMS:
                    await running.commands.send(SellItem(item, self.sold))
            views, bus = following.views, following.bus
            assert views is not None
            assert bus is not None

            async def all_shown() -> bool:
                shown = [await views.get(Sold, item) for item in ITEMS]
                return all(one is not None and len(one.counts) == self.sold for one in shown)

            async def all_read() -> bool:
                head = await BusSource(bus).head()
                states = await following.processors.statuses()
                return (
                    len(Parcels.sent) == self.sold * len(ITEMS)
                    and all(
                        group.position == group.head
                        for s in states
                        for group in s.groups  # type: ignore[union-attr]  # no relay here
                    )
                    and bool(head.offsets)
                )

            await until(all_shown, timeout_s=WAIT_S_MAX)
            await until(all_read, timeout_s=WAIT_S_MAX)
            for item in ITEMS:
                view = await views.get(Sold, item)
                assert view is not None
                assert view.counts == tuple(range(1, self.sold + 1))

    async def move(self, former: EventBus, following: EventBus) -> None:
        views = await SQLiteViewStore.open(self.data / "stall" / "stall" / "views.db")
        try:
            for name in ("sales", "parcels"):
                sources = {"former": BusSource(former), "following": BusSource(following)}
                assert await move_processor(name, views, **sources)
        finally:
            await views.close()
        views = await SQLiteViewStore.open(self.data / "shop" / "shop" / "views.db")
        try:
            await move_relay("relay-shop", views)
        finally:
            await views.close()


async def check_move(
    bus: type[RabbitMQEventBus | KafkaEventBus], urls: tuple[str, str], data: Path
) -> None:
    """Trade on one bus, move, and trade on."""
    Parcels.sent.clear()
    market = Market(data)
    assert any(partition_of(i, BEFORE) != partition_of(i, AFTER) for i in ITEMS)
    await market.trade(urls[0], BEFORE, opens=True, sales=8)
    former = await bus.open(urls[0], partitions=BEFORE)
    following = await bus.open(urls[1], partitions=AFTER)
    try:
        await market.move(former, following)
    finally:
        await former.close()
        await following.close()
    await market.trade(urls[1], AFTER, opens=False, sales=8)
    assert len(Parcels.sent) == len(set(Parcels.sent)) == 16 * len(ITEMS)


async def test_more_partitions_in_rabbitmq(rabbitmq_url: str, tmp_path: Path) -> None:
    """Every effect is there once, in order, on both sides of the move."""
    await check_move(RabbitMQEventBus, (rabbitmq_url, f"{rabbitmq_url}-2"), tmp_path)


async def test_more_partitions_in_kafka(kafka_url: str, tmp_path: Path) -> None:
    """Every effect is there once, in order, on both sides of the move."""
    await check_move(KafkaEventBus, (kafka_url, f"{kafka_url}-2"), tmp_path)
