"""A system moves to a bus with more partitions: nothing is lost, repeated, or out of order."""

from pathlib import Path
from typing import Annotated, ClassVar

import pytest

from headwater.modelling import EventHandlers, Projection, event_handler
from headwater.operations.moving import move_to_bus
from headwater.processing import BusSource
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View
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


SHOP = Service("shop", aggregates=[Item])
STALL = Service("stall", projections=[Sales], handlers=[Parcels])
SYSTEM = """
[system]
name = "market"
data = "."
python_path = [{root!r}]
[bus]
url = {url!r}
partitions = {partitions}
[services.shop]
app = "tests.integration.eventbus.test_bus_moves:SHOP"
[services.stall]
app = "tests.integration.eventbus.test_bus_moves:STALL"
"""


class Market:
    """Two services on a bus: one publishes, the other one follows."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.sold = 0

    async def trade(self, url: str, partitions: int, *, opens: bool, sales: int) -> None:
        """Run both, sell, and wait until the follower has all of it, and has noted that."""
        given = {"bus": url, "partitions": partitions, "data": str(self.data)}
        async with (
            Runtime(SHOP, given) as running,
            Runtime(STALL, given) as following,
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

    async def move(self, urls: tuple[str, str]) -> list[str]:
        file = self.data / "headwater.toml"
        root = str(Path(__file__).parents[3])
        file.write_text(SYSTEM.format(root=root, url=urls[1], partitions=AFTER))
        steps = move_to_bus(file, former=urls[0], partitions=BEFORE)
        return [f"{one.service}/{one.name}" async for one in steps]


async def check_move(urls: tuple[str, str], data: Path) -> None:
    """Trade on one bus, move, and trade on."""
    Parcels.sent.clear()
    market = Market(data)
    await market.trade(urls[0], BEFORE, opens=True, sales=8)
    assert await market.move(urls) == ["stall/sales", "stall/parcels", "shop/relay-shop"]
    await market.trade(urls[1], AFTER, opens=False, sales=8)
    assert len(Parcels.sent) == len(set(Parcels.sent)) == 16 * len(ITEMS)


async def test_more_partitions_in_rabbitmq(rabbitmq_url: str, tmp_path: Path) -> None:
    """Every effect is there once, in order, on both sides of the move."""
    await check_move((rabbitmq_url, f"{rabbitmq_url}-2"), tmp_path)


async def test_more_partitions_in_kafka(kafka_url: str, tmp_path: Path) -> None:
    """Every effect is there once, in order, on both sides of the move."""
    await check_move((kafka_url, f"{kafka_url}-2"), tmp_path)
