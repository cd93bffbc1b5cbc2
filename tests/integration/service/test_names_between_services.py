"""Services that mean different things by one name, on one bus and towards one another."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest

from headwater.errors import ConfigurationError, DeclarationError
from headwater.messages import Command, Event, Query, wire
from headwater.modelling import (
    Aggregate,
    Projection,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
)
from headwater.processing.handling.dead_letters import DeadLetter
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View
from tests.postgres_server import POSTGRES

WAIT_S_MAX = 60.0
Settings = Mapping[str, Any]


class Create(Command):
    id: str
    amount: int = 0


class OrderPlaced(Event):
    """As the orders mean it."""

    id: str
    total: int


@wire("OrderPlaced")
class StockOrderPlaced(Event):
    """As the stock means it: what it orders from a supplier."""

    id: str
    supplier: str


class Order(Aggregate):
    @command_handler(creates=True)
    def create(self, command: Create) -> OrderPlaced:
        return OrderPlaced(command.id, command.amount)

    @event_sourcing_handler
    def placed(self, event: OrderPlaced) -> None: ...


class StockOrder(Aggregate):
    @command_handler(creates=True)
    def create(self, command: Create) -> StockOrderPlaced:
        return StockOrderPlaced(command.id, "Schott")

    @event_sourcing_handler
    def placed(self, event: StockOrderPlaced) -> None: ...


@wire("Placed", source="orders")
class Placed(Event):
    """As the orders publish it."""

    id: str
    total: int


@wire("Placed", source="stock")
class StockPlaced(Event):
    """As the stock publishes it."""

    id: str
    total: str


class Placing(Aggregate):
    @command_handler(creates=True)
    def create(self, command: Create) -> Placed:
        return Placed(command.id, command.amount)


class StockPlacing(Aggregate):
    @command_handler(creates=True)
    def create(self, command: Create) -> StockPlaced:
        return StockPlaced(command.id, "many")


class Turnover(View):
    id: Annotated[str, Key]
    total: int = 0
    told: str = ""


class GetTurnover(Query[Turnover | None]):
    id: str


class Turnovers(Projection):
    source = "bus"

    @event_handler(Turnover, key="id")
    def placed(self, view: Turnover, event: Placed) -> None:
        view.total += event.total

    @query_handler
    async def turnover(self, query: GetTurnover) -> Turnover | None:
        return await self.views.get(Turnover, query.id)


@pytest.fixture(params=["sqlite", POSTGRES])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Return settings of services that share a bus."""
    if request.param == "postgres":
        return {"data": str(tmp_path), "bus": request.getfixturevalue("postgres_url")}
    return {"data": str(tmp_path), "bus": f"sqlite:{tmp_path}/bus.db"}


async def until(what: str, condition: Any) -> Any:
    """Return the first true result of an asynchronous condition."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not (found := await condition()):  # noqa: ASYNC110 - it is in other services
            await asyncio.sleep(0.01)
    assert found, what
    return found


async def test_two_types_of_one_name_on_one_bus(settings: Settings) -> None:
    """The second service that publishes another event under a name is refused at its start."""
    async with Runtime(Service("orders", aggregates=[Order]), settings) as orders:
        stock = Service("stock", aggregates=[StockOrder])
        with pytest.raises(ConfigurationError) as refused:
            await Runtime(stock, settings).start()
        text = str(refused.value)
        assert text.startswith(f"{__name__}.StockOrderPlaced: service 'orders' publishes")
        assert f"{__name__}.OrderPlaced" in text
        assert "@wire('OrderPlaced', source='stock')" in text
        await orders.commands.send(Create("o1", 5))
    async with Runtime(Service("orders", aggregates=[Order]), settings):
        pass  # who was there first starts again
    async with Runtime(stock, {**settings, "bus": ""}):
        pass  # and who publishes nothing is in nobody's way


async def test_events_of_one_name_are_told_apart(settings: Settings) -> None:
    """A class that says which service its events are of gets those of that service alone."""
    reading = Service("insights", projections=[Turnovers])
    async with (
        Runtime(Service("orders", aggregates=[Placing]), settings) as orders,
        Runtime(Service("stock", aggregates=[StockPlacing]), settings) as stock,
        Runtime(reading, settings) as insights,
    ):
        await stock.commands.send(Create("a", 1))
        await stock.commands.send(Create("b", 1))
        await orders.commands.send(Create("a", 7))

        async def total() -> bool:
            found = await insights.queries.ask(GetTurnover("a"))
            return found is not None and found.total == 7

        await until("the order is counted", total)
        assert await insights.queries.ask(GetTurnover("b")) is None
        assert insights.views is not None
        assert (await insights.views.find(DeadLetter)).items == []


async def test_an_event_of_another_service_is_not_handled_in_the_store(tmp_path: Path) -> None:
    """Whoever follows the service's own store, or decides, has no events of other services."""

    class Following(Projection):
        @event_handler(Turnover, key="id")
        def placed(self, view: Turnover, event: Placed) -> None: ...

    with pytest.raises(DeclarationError, match=r"Placed: is of service 'orders'.*source = \"bus\""):
        Service("insights", aggregates=[Order], projections=[Following])
    with pytest.raises(DeclarationError, match="is not in the event store of service 'stock'"):
        Service("stock", aggregates=[Placing])


async def test_what_does_not_fit_is_parked_visibly(settings: Settings) -> None:
    """Where nothing tells two events of one name apart, the one that does not fit is parked."""

    @wire("StockPlaced2")
    class Ours(Event):
        id: str
        total: int

    @wire("StockPlaced2")
    class Theirs(Event):
        id: str
        total: str

    class Publishing(Aggregate):
        @command_handler(creates=True)
        def create(self, command: Create) -> Theirs:
            return Theirs(command.id, "many")

    class Subscribing(Projection):
        source = "bus"

        @event_handler(Turnover, key="id")
        def placed(self, view: Turnover, event: Ours) -> None:
            view.total += event.total

    async with (
        Runtime(Service("stock", aggregates=[Publishing]), settings) as stock,
        Runtime(Service("insights", projections=[Subscribing]), settings) as insights,
    ):
        await stock.commands.send(Create("a"))
        views = insights.views
        assert views is not None

        async def letters() -> list[DeadLetter]:
            return list((await views.find(DeadLetter)).items)

        (letter,) = await until("it is parked", letters)
        assert letter.type == "StockPlaced2"
        assert "total" in letter.error
        assert (await views.find(Turnover)).items == []
