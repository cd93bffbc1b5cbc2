"""Rules of older events in aggregates and decision models, for every event store."""

from typing import Annotated, Any, ClassVar

import msgspec
import pytest

from headwater.dispatch.local import LocalCommandBus
from headwater.errors import Rejection
from headwater.eventstore import EventStore, NewEvent, StreamWrite
from headwater.messages import Command, Event, Tag, Upcast, upcaster, wire
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Repository,
    command_handler,
    event_sourcing_handler,
)
from headwater.modelling.models import DecisionHandlers


class Rename(Command):
    user_id: str
    name: str


class Reserve(Command):
    name: str


@wire("old.Named", version=3)
class Named(Event):
    user_id: str
    name: Annotated[str, Tag("name")]
    by_level: dict[int, float]


@upcaster(Named, from_version=1)
def _strip(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "name": content["name"].strip()}


@upcaster(Named, from_version=2)
def _same(content: dict[str, Any]) -> dict[str, Any]:
    return content


@wire("old.Aged")
class Aged(Event):
    user_id: str
    age: int


@wire("old.Registered", version=2, aliases=["old.Enrolled"])
class Registered(Event):
    """Nobody stores it any more."""


@upcaster(Registered, from_version=1, into=[Named, Aged])
def _split(content: dict[str, Any]) -> list[Upcast]:
    if content.get("test"):
        return []
    named = {"user_id": content["id"], "name": content["name"], "by_level": {"1": 0.5}}
    return [Upcast(Named, 1, named), Upcast(Aged, 1, {"user_id": content["id"], "age": 7})]


class NameTaken(Rejection):
    name: str


class NameOwner(DecisionModel):
    name: Annotated[str, Tag("name")] = ""
    owner: str = ""

    @command_handler
    def reserve(self, command: Reserve) -> Named:
        if self.owner:
            raise NameTaken(name=self.owner)
        return Named("reserved", command.name, {})

    @event_sourcing_handler
    def named(self, event: Named) -> None:
        self.owner = event.user_id


class User(Aggregate):
    snapshot_every: ClassVar[int] = 3

    name: str = ""
    age: int = 0
    levels: dict[int, float] = msgspec.field(default_factory=dict)
    names: int = 0

    @command_handler(creates="if_missing")
    def rename(self, command: Rename) -> Named:
        return Named(self.id, command.name, {1: 1.5})

    @event_sourcing_handler
    def named(self, event: Named) -> None:
        self.name = event.name
        self.levels = {**self.levels, **event.by_level}
        self.names += 1

    @event_sourcing_handler
    def aged(self, event: Aged) -> None:
        self.age = event.age


def old(type: str, content: dict[str, Any], *tags: str, version: int = 1) -> NewEvent:
    """Return an event as a program of yesterday stored it."""
    return NewEvent(type, version, msgspec.json.encode(content), b'{"id":"1"}', tags)


async def put(store: EventStore, user: str, *events: NewEvent) -> None:
    await store.append([StreamWrite(f"User/{user}", events)])


class OlderEventRules:
    """Decisions are made on events of any age as on those of today."""

    async def test_an_aggregate_of_older_events(self, store: EventStore) -> None:
        """An aggregate replays what its older events have become: one, several, or none."""
        await put(
            store,
            "u",
            old("old.Registered", {"id": "u", "name": " Ada "}),
            old("old.Enrolled", {"id": "u", "test": True}),
            old("old.Named", {"user_id": "u", "name": " Eve ", "by_level": {"2": 1.10}}),
            old("old.Named", {"user_id": "u", "name": "Bob", "by_level": {"3": 2}}, version=2),
        )
        repository = Repository(User, store, source="users")
        at = {v: (await repository.state("u", at_version=v)).state for v in (1, 2, 3, 4)}
        assert [at[v].name for v in at] == ["Ada", "Ada", "Eve", "Bob"]
        assert at[2] == at[1]
        assert at[4] == User("u", "Bob", 7, {1: 0.5, 2: 1.1, 3: 2.0}, 3)
        result = await LocalCommandBus([repository.handlers()]).send(Rename("u", "Zoe"))
        assert result.version == 5
        await repository.close()
        snapshot = await store.load_snapshot("User/u")
        assert snapshot is not None
        now = await Repository(User, store, source="users").state("u")
        assert now.state == User("u", "Zoe", 7, {1: 1.5, 2: 1.1, 3: 2.0}, 4)

    async def test_a_boundary_has_the_older_events(self, store: EventStore) -> None:
        """A decision model sees what has become one of its events, and its condition guards it."""
        await put(store, "u", old("old.Enrolled", {"id": "u", "name": "Ada"}, "name:Ada"))
        decisions = DecisionHandlers(NameOwner, store, source="users")
        bus = LocalCommandBus([decisions.handlers()])
        with pytest.raises(NameTaken):
            await bus.send(Reserve("Ada"))
        assert (await bus.send(Reserve("Eve"))).version == 1

    async def test_a_condition_excludes_older_forms(self, store: EventStore) -> None:
        """A program of yesterday that stores its event meanwhile is seen by those of today."""

        class Beside:
            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

            async def append(self, writes: Any, **options: Any) -> Any:
                event = old("old.Registered", {"id": "x", "name": "Ada"}, "name:Ada")
                await put(store, "x", event)
                return await store.append(writes, **options)

        beside: Any = Beside()
        decisions = DecisionHandlers(NameOwner, beside, source="users")
        with pytest.raises(NameTaken):
            await LocalCommandBus([decisions.handlers()]).send(Reserve("Ada"))
        assert await store.version("Named/reserved") == 0
