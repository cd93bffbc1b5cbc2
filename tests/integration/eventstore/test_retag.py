"""Tags that events got later, on events that were stored before."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from headwater.dispatch.local import LocalCommandBus
from headwater.errors import Rejection
from headwater.eventstore import (
    EventFilter,
    EventStore,
    FilterItem,
    NewEvent,
    StoredEvent,
    StreamWrite,
)
from headwater.eventstore.memory import MemoryEventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.retag import retag_store
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import Command, Event, Tag, Upcast, upcaster, wire
from headwater.messages.codec import EventCodec
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Repository,
    command_handler,
    event_sourcing_handler,
)
from tests.postgres_server import POSTGRES


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventStore]:
    if request.param == "memory":
        store: EventStore = MemoryEventStore()
    elif request.param == "sqlite":
        store = await SQLiteEventStore.open(tmp_path / "events.db")
    else:
        store = await PostgresEventStore.open(request.getfixturevalue("postgres_url"))
    yield store
    await store.close()


@wire("retag.Joined", version=2)
class Joined(Event):
    member_id: str
    email: Annotated[str, Tag("email")]


@upcaster(Joined, from_version=1)
def _lower(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "email": content["email"].lower()}


@wire("retag.Renamed")
class Renamed(Event):
    member_id: str
    nick: Annotated[str, Tag]
    former: Annotated[str | None, Tag("nick")] = None


@wire("retag.Moved", version=2)
class Moved(Event):
    member_id: str


@upcaster(Moved, from_version=1, into=[Joined, Renamed])
def _split(content: dict[str, Any]) -> list[Upcast]:
    if "nick" not in content:
        return []
    nick = {"member_id": content["member_id"], "nick": content["nick"]}
    email = {"member_id": content["member_id"], "email": content["email"]}
    return [Upcast(Renamed, 1, nick), Upcast(Joined, 1, email)]


CODEC = EventCodec([Joined, Renamed, Moved])


def old(type: str, data: str, *tags: str, version: int = 1) -> NewEvent:
    """Return an event as it was stored before its class had a tag, or with another."""
    return NewEvent(type, version, data.encode(), b'{"id":"1"}', tags)


async def put(store: EventStore, *events: NewEvent) -> None:
    await store.append([StreamWrite("s", events)])


async def log_of(store: EventStore, *tags: str) -> list[StoredEvent]:
    filter = EventFilter((FilterItem((), tags),))
    return [event async for page in store.read(filter=filter) for event in page.events]


OLD = (
    old("retag.Joined", '{"member_id":"1","email":"A@b"}'),
    old("retag.Joined", '{"member_id":"2","email":"c@d"}', "email:c@d", version=2),
    old("retag.Renamed", '{"member_id":"1","nick":"x","former":"y"}', "nick:y", "nick:x"),
    old("retag.Renamed", '{"member_id":"1","nick":"z"}', "gone:1"),
    old("retag.Moved", '{"member_id":"1","nick":"n","email":"N@b"}', "member:1"),
    old("retag.Moved", '{"member_id":"1"}', "member:1"),
    old("retag.Moved", '{"member_id":"1"}', "member:1", version=2),
    old("retag.Lost", "{}", "kept:1"),
    old("retag.Joined", '{"member_id":"1"}', "kept:2"),
    old("retag.Joined", '{"member_id":"1","email":5}', version=2),
    old("retag.Joined", "{}", version=3),
)
TAGS = [
    ("email:a@b",),
    ("email:c@d",),
    ("nick:y", "nick:x"),  # in another order, which says nothing
    ("nick:z",),
    ("nick:n", "email:n@b"),
    ("member:1",),
    (),
    ("kept:1",),
    ("kept:2",),
    (),
    (),
]


@pytest.mark.parametrize("page_size", [1, 3, 500])
async def test_events_get_the_tags_of_their_classes(store: EventStore, page_size: int) -> None:
    """Each event has the tags of what it is today, whatever it was stored as; the rest stays."""
    await put(store, *OLD)
    before = await log_of(store)
    found = await retag_store(store, CODEC, page_size=page_size)
    assert (found.began, found.position) == (0, 11)
    assert found.changed == {"retag.Joined": 1, "retag.Renamed": 1, "retag.Moved": 2}
    assert found.unknown == {"retag.Lost": 1}
    assert found.unread == 3
    assert [(each.position, each.stream, each.version) for each in found.examples] == [
        (9, "s", 9),
        (10, "s", 10),
        (11, "s", 11),
    ]
    assert "KeyError: 'email'" in found.examples[0].reason
    assert "this program knows 2: upgrade" in found.examples[2].reason
    after = await log_of(store)
    assert [event.tags for event in after] == TAGS
    assert [e.data for e in after] == [e.data for e in before]
    assert [e.position for e in await log_of(store, "email:a@b")] == [1]
    assert await log_of(store, "gone:1") == []


async def test_twice_changes_nothing(store: EventStore) -> None:
    """What is right already is only read, so that an interrupted run may begin anywhere again."""
    await put(store, *OLD)
    first = await retag_store(store, CODEC, after=1)
    assert first.changed == {"retag.Renamed": 1, "retag.Moved": 2}
    assert (await retag_store(store, CODEC)).changed == {"retag.Joined": 1}
    assert (await retag_store(store, CODEC)).changed == {}
    beyond = await retag_store(store, CODEC, after=50)
    assert (beyond.began, beyond.position, beyond.changed) == (50, 50, {})


async def test_a_check_changes_nothing(store: EventStore) -> None:
    """A check counts what would be changed."""
    await put(store, *OLD)
    before = await log_of(store)
    found = await retag_store(store, CODEC, check=True)
    assert found.changed == {"retag.Joined": 1, "retag.Renamed": 1, "retag.Moved": 2}
    assert await log_of(store) == before


async def test_progress_and_interruption(store: EventStore) -> None:
    """The position reached is told after each step, and all up to there is done."""
    await put(store, *(old("retag.Joined", '{"member_id":"1","email":"A@b"}') for _ in range(10)))
    told: list[tuple[int, int]] = []

    def progress(position: int, head: int) -> None:
        told.append((position, head))
        if position == 6:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await retag_store(store, CODEC, page_size=3, progress=progress)
    assert told == [(0, 10), (3, 10), (6, 10)]
    tagged = [event.position for event in await log_of(store, "email:a@b")]
    assert tagged == [1, 2, 3, 4, 5, 6]
    found = await retag_store(store, CODEC, after=6, progress=lambda *step: told.append(step))
    assert found.changed == {"retag.Joined": 4}
    assert told[-1] == (10, 10)
    assert len(await log_of(store, "email:a@b")) == 10


# uniqueness, which is what tags are added for -------------------------------------------------


class Join(Command):
    member_id: str
    email: str


class Taken(Rejection):
    email: str


class Address(DecisionModel):
    email: Annotated[str, Tag("email")] = ""
    owner: str = ""

    @event_sourcing_handler
    def joined(self, event: Joined) -> None:
        self.owner = event.member_id


class Member(Aggregate):
    email: str = ""

    @command_handler(creates=True)
    def join(self, command: Join, address: Address) -> Joined:
        if address.owner:
            raise Taken(email=command.email)
        return Joined(command.member_id, command.email)

    @event_sourcing_handler
    def joined(self, event: Joined) -> None:
        self.email = event.email


async def test_a_tag_that_was_added_guards_old_events(store: EventStore) -> None:
    """After retagging, what was stored before its class had the tag is unique, too."""
    joined = old("retag.Joined", '{"member_id":"m","email":"A@b"}')
    moved = old("retag.Moved", '{"member_id":"n","nick":"n","email":"N@b"}')
    await store.append([StreamWrite("Member/m", [joined]), StreamWrite("Member/n", [moved])])
    bus = LocalCommandBus([Repository(Member, store, source="members").handlers()])
    await bus.send(Join("early", "a@b"))  # nobody can know
    await retag_store(store, CODEC)
    for email in ("a@b", "n@b"):
        with pytest.raises(Taken):
            await bus.send(Join("late", email))
    await bus.send(Join("late", "l@b"))


async def test_commands_go_on_meanwhile(store: EventStore) -> None:
    """Commands are decided while a log is retagged, and none of their tags is lost."""
    await put(store, *(old("retag.Joined", '{"member_id":"1","email":"A@b"}') for _ in range(200)))
    bus = LocalCommandBus([Repository(Member, store, source="members").handlers()])
    joins = [bus.send(Join(f"m{n}", f"m{n}@b")) for n in range(50)]
    found, *_ = await asyncio.gather(retag_store(store, CODEC, page_size=10), *joins)
    assert found.changed == {"retag.Joined": 200}
    assert len(await log_of(store, "email:a@b")) == 200
    for n in range(50):
        assert len(await log_of(store, f"email:m{n}@b")) == 1
        with pytest.raises(Taken):
            await bus.send(Join(f"again{n}", f"m{n}@b"))
