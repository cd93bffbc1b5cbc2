"""A service whose events derive from one another, and whose handlers are overridden."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest

from headwater.errors import DeclarationError, UnknownMessage
from headwater.messages import Command, Event, Query, Tag
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Effects,
    EventHandlers,
    Projection,
    Saga,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
    saga_handler,
)
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View
from tests.postgres_server import POSTGRES

Settings = Mapping[str, Any]


class Move(Command):
    id: str
    by: int = 1


class Brake(Command):
    id: str


class Moved(Event):
    id: Annotated[str, Tag("cart")]
    by: int = 1


class MovedFast(Moved):
    pass


class Braked(Event):
    id: str


class Cart(Aggregate):
    at: int = 0
    brakes: int = 0

    @command_handler(creates="if_missing")
    def move(self, command: Move) -> Moved:
        return (
            MovedFast(command.id, command.by) if command.by > 5 else Moved(command.id, command.by)
        )

    @command_handler
    def brake(self, command: Brake) -> Braked:
        return Braked(command.id)

    @event_sourcing_handler
    def moved(self, event: Moved) -> None:
        self.at += event.by

    @event_sourcing_handler
    def braked(self, event: Braked) -> None:
        self.brakes += 1


class HeavyCart(Cart):
    stream_name = "Cart"

    def moved(self, event: Moved) -> None:
        self.at += event.by


class Journey(View):
    id: Annotated[str, Key]
    total: int = 0
    moves: int = 0


class GetJourney(Query[Journey]):
    id: str


class Journeys(Projection):
    @event_handler(Journey, key="id")
    def moved(self, view: Journey, event: Moved) -> None:
        view.total += event.by
        view.moves += 1

    @query_handler
    async def journey(self, query: GetJourney) -> Journey | None:
        return await self.views.get(Journey, query.id)


class MoreJourneys(Journeys):
    name = "journeys"

    def moved(self, view: Journey, event: Moved) -> None:
        super().moved(view, event)

    async def journey(self, query: GetJourney) -> Journey | None:
        return await super().journey(query)


class Braking(Saga):
    @saga_handler(key=lambda event: event.id if event.by > 5 else "", starts=True)
    def moved(self, event: Moved) -> Effects:
        return Brake(event.id)


class MoreBraking(Braking):
    saga_name = "Braking"

    def moved(self, event: Moved) -> Effects:
        return Brake(event.id)


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Return settings of a service in each kind of database."""
    if request.param == "memory":
        return {"data": str(tmp_path), "store": "memory:", "views": "memory:"}
    if request.param == "sqlite":
        return {"data": str(tmp_path)}
    url: str = request.getfixturevalue("postgres_url")
    return {"data": str(tmp_path), "store": url, "views": url}


async def brakes(running: Runtime, id: str) -> int:
    """Return how often the saga had the cart braked, once it has seen everything."""
    from tests.integration.processing.conftest import until

    repository = running.repositories["Cart"]

    async def braked() -> bool:
        return (await repository.state(id)).state.brakes > 0

    await until(braked, timeout_s=60)
    return int((await repository.state(id)).state.brakes)


@pytest.mark.parametrize(
    ("aggregate", "projection", "saga"),
    [(Cart, Journeys, Braking), (HeavyCart, MoreJourneys, MoreBraking)],
    ids=["derived events", "overridden handlers"],
)
async def test_nothing_vanishes(
    settings: Settings,
    aggregate: type[Aggregate],
    projection: type[Projection],
    saga: type[Saga],
) -> None:
    """Aggregate, projection, query and saga see derived events, and after a restart as well."""
    service = Service("carts", aggregates=[aggregate], projections=[projection], sagas=[saga])
    async with Runtime(service, settings) as running:
        await running.commands.send(Move("c", 2))
        last = await running.commands.send(Move("c", 9))
        journey = await running.queries.ask(GetJourney("c"), token=last.token)
        assert (journey.total, journey.moves) == (11, 2)
        assert await brakes(running, "c") == 1
        assert (await running.repositories["Cart"].state("c")).state.at == 11
    if settings.get("store") != "memory:":
        async with Runtime(service, settings) as again:
            assert (await again.repositories["Cart"].state("c")).state.at == 11
            last = await again.commands.send(Move("c", 1))
            journey = await again.queries.ask(GetJourney("c"), token=last.token)
            assert (journey.total, journey.moves) == (12, 3)


async def test_an_event_that_is_defined_after_the_start(tmp_path: Path) -> None:
    """An event that running handlers could not see is refused when it is decided, unstored."""

    class Creep(Command):
        id: str

    made: list[type[Moved]] = []

    class Snail(Aggregate):
        @command_handler(creates="if_missing")
        def creep(self, command: Creep) -> Moved:
            return made[-1](command.id)

    settings = {"data": str(tmp_path), "store": "memory:", "views": "memory:"}
    alone = Service("snails", aggregates=[Snail])
    followed = Service("snails", aggregates=[Snail], projections=[Journeys])
    async with Runtime(alone, settings) as running, Runtime(followed, settings) as watched:

        class Crept(Moved):
            pass

        made.append(Crept)
        assert (await running.commands.send(Creep("s"))).version == 1
        with pytest.raises(DeclarationError, match=r"Crept: was defined after service 'snails'"):
            await watched.commands.send(Creep("s"))
        assert watched.store is not None
        assert await watched.store.version("Snail/s") == 0
    async with Runtime(followed, settings) as again:
        crept = await again.commands.send(Creep("s"))
        assert (await again.queries.ask(GetJourney("s"), token=crept.token)).moves == 1


async def test_an_event_of_another_class_of_the_name(tmp_path: Path) -> None:
    """An event that handlers would take for another class's is refused, and not stored."""

    def other() -> type[Event]:
        class Moved(Event):
            id: str

        return Moved

    Foreign = other()  # noqa: N806 - a class

    class Creep(Command):
        id: str

    class Snail(Aggregate):
        @command_handler(creates=True)
        def creep(self, command: Creep):  # it does not say what it returns
            return Foreign(command.id)

    service = Service("snails", aggregates=[Snail], projections=[Journeys])
    settings = {"data": str(tmp_path), "store": "memory:", "views": "memory:"}
    async with Runtime(service, settings) as running:
        with pytest.raises(
            DeclarationError, match=r"Moved: wire name 'Moved' belongs to .*\.Moved"
        ):
            await running.commands.send(Creep("s"))
        assert running.store is not None
        assert await running.store.version("Snail/s") == 0


async def test_a_decision_excludes_derived_events(tmp_path: Path) -> None:
    """A boundary guards against events that derive from those that the model handles."""

    class Park(Command):
        id: Annotated[str, Tag("cart")]

    class Parked(Event):
        id: Annotated[str, Tag("cart")]

    class Motion(DecisionModel):
        id: Annotated[str, Tag("cart")] = ""
        moving: bool = False

        @command_handler
        def park(self, command: Park) -> Parked | None:
            return None if self.moving else Parked(command.id)

        @event_sourcing_handler
        def moved(self, event: Moved) -> None:
            self.moving = True

    service = Service("carts", aggregates=[Cart], decisions=[Motion])
    async with Runtime(service, {"data": str(tmp_path)}) as running:
        await running.commands.send(Move("c", 9))
        assert (await running.commands.send(Park("c"))).version == 0
        assert (await running.commands.send(Park("d"))).version == 1


async def test_commands_are_not_inherited(tmp_path: Path) -> None:
    """A command has its own handler: one that derives from another is not handled by it."""

    class MoveTwice(Move):
        pass

    async with Runtime(Service("carts", aggregates=[Cart]), {"data": str(tmp_path)}) as running:
        with pytest.raises(UnknownMessage, match="MoveTwice"):
            await running.commands.send(MoveTwice("c"))


async def test_names_are_checked_again_at_the_start(tmp_path: Path) -> None:
    """What was defined between the declaration of a service and its start counts."""

    class Seen(Event):
        id: str

    class Heard(Event):
        pass

    class Sensing(EventHandlers):
        @event_handler
        async def seen(self, event: Seen) -> None: ...

        @event_handler
        async def heard(self, event: Heard) -> None: ...

    service = Service("senses", aggregates=[Cart], handlers=[Sensing])

    class Both(Seen, Heard):
        pass

    with pytest.raises(DeclarationError, match=r"Both could go to the handler of"):
        await Runtime(service, {"data": str(tmp_path)}).start()
    assert not (tmp_path / "senses").exists()
