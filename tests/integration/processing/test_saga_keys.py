"""Keys of sagas: any value with a canonical text, none, or several."""

import contextlib
import enum
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from headwater.dispatch import CommandResult
from headwater.errors import DeclarationError, EventParked
from headwater.messages import Command, ConsistencyToken, Event
from headwater.modelling import Effects, Retry, Saga, saga_handler
from headwater.processing import BusSource, DeadLetter, ProcessorAdmin, Relay, SagaProcessor
from headwater.processing.sagas.processor import saga_applier
from headwater.processing.sagas.views import PendingCommand, SagaState
from headwater.testing import given
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import append

SMALL = msgspec.structs.replace(QUICK, page_size=3)
POISON = 666


class Place(enum.Enum):
    SHOP = "shop"
    HOME = "home"


class Booked(Event):
    number: int
    seats: list[str | None]
    poisoned: tuple[str, ...] = ()


class Moved(Event):
    id: UUID | None
    place: Place | None = None


class Note(Command):
    note_id: str
    seat: str
    total: int


class Seat(Saga):
    """Counts the bookings of one seat, and notes each."""

    saga_start = "beginning"

    saga_segments = 4
    poison: bool = True
    total: int = 0

    @saga_handler(key="seats", starts=True)
    def booked(self, event: Booked) -> Effects:
        if self.id in event.poisoned and HEALTH["ill"]:
            msg = f"{self.id} is poisoned"
            raise ValueError(msg)
        self.total += event.number
        return Note(f"{self.id}-{event.number}", self.id, self.total)


class Tour(Saga):
    """Is found by a UUID, and by the member of an enumeration."""

    saga_start = "beginning"

    saga_segments = 3
    moves: int = 0

    @saga_handler(key=lambda event: [event.id, event.place], starts=True)
    def moved(self, event: Moved) -> Effects:
        self.moves += 1
        return None


HEALTH = {"ill": True}


class Desk:
    """Stands for the command bus: keeps each command once, by its key."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.noted: dict[str, Note] = {}
        self.started: list[SagaProcessor] = []

    async def send(
        self, command: Command, *, idempotency_key: str = "", **_: object
    ) -> CommandResult:
        assert isinstance(command, Note)
        assert self.noted.setdefault(idempotency_key, command) == command
        return CommandResult(command.note_id, 1, "")

    async def start(
        self, kind: type[Saga] = Seat, owner: str = "me", **options: Any
    ) -> SagaProcessor:
        values = {"source": self.stores.source, "views": self.stores.views, "settings": SMALL}
        processor = SagaProcessor(kind, owner=owner, commands=self, **{**values, **options})
        await processor.start()
        self.started.append(processor)
        return processor

    def admin(self) -> ProcessorAdmin:
        applier = saga_applier(Seat, source=self.stores.source, settings=SMALL)
        return ProcessorAdmin(
            applier, source=self.stores.source, views=self.stores.views, settings=SMALL
        )

    async def letters(self) -> list[DeadLetter]:
        return [letter async for letter in self.admin().letters()]

    async def totals(self) -> dict[str, int]:
        rows = (await self.stores.views.find(SagaState, limit=1000)).items
        decoded = [msgspec.json.decode(bytes(row.state), type=Seat) for row in rows]
        return {state.id: state.total for state in decoded}

    async def sent(self) -> bool:
        return not await self.stores.views.count(PendingCommand)


@pytest.fixture
async def desk(stores: Stores) -> AsyncIterator[Desk]:
    """A desk on every backend; poisoned events fail until a test heals them."""
    HEALTH["ill"] = True
    made = Desk(stores)
    yield made
    for processor in made.started:
        await processor.stop()


def bookings(count: int) -> list[Booked]:
    return [Booked(n, [f"s{n % 7}", None, f"s{n % 4}", f"s{n % 7}"]) for n in range(1, count + 1)]


def expected(events: list[Booked]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for event in events:
        for seat in {seat for seat in event.seats if seat}:
            found[seat] += event.number
    return dict(found)


async def test_one_event_for_several_sagas_of_all_segments(desk: Desk) -> None:
    """Each saga named by an event handles it once, whoever works on its segment."""
    events = bookings(30)
    for event in events[:15]:
        await append(desk.stores.store, f"stream-{event.number % 5}", event)
    first = await desk.start(owner="one")
    second = await desk.start(owner="two", views=await desk.stores.another())
    for event in events[15:]:
        await append(desk.stores.store, f"stream-{event.number % 5}", event)
    for processor in (first, second):
        await desk.stores.caught_up(processor)
    await until(desk.sent)
    assert await desk.totals() == expected(events)
    seats = Counter(note.seat for note in desk.noted.values())
    assert seats == Counter(seat for event in events for seat in set(event.seats) if seat)
    assert {note.total for note in desk.noted.values() if note.seat == "s6"} == {
        6, 19, 39, 66
    }  # fmt: skip


async def test_only_the_saga_that_fails_is_parked(desk: Desk) -> None:
    """Of an event for several sagas, the one that fails is parked with what follows for it."""
    store = desk.stores.store
    await append(store, "x", Booked(1, ["a", "b", "c"]))
    await append(store, "y", Booked(10, ["a", "b", "c"], ("b",)))
    await append(store, "z", Booked(100, ["b", "c"]))
    processor = await desk.start()
    await desk.stores.caught_up(processor)
    assert await desk.totals() == {"a": 11, "b": 1, "c": 111}
    parked = await desk.letters()
    assert [(one.sequence, one.event and one.event.stream) for one in parked] == [
        ("b", "y"),
        ("b", "z"),
    ]
    assert (parked[0].attempts, parked[1].attempts) == (QUICK.retry.attempts, 0)
    assert "b is poisoned" in parked[0].error
    HEALTH["ill"] = False
    assert (await desk.admin().retry("b")).handled == 2
    assert await desk.totals() == {"a": 11, "b": 111, "c": 111}
    await append(store, "x", Booked(1000, ["b"]))
    await desk.stores.caught_up(processor)
    assert await desk.totals() == {"a": 11, "b": 1111, "c": 111}


async def test_a_segment_that_fell_behind_catches_up_with_its_sagas_only(desk: Desk) -> None:
    """While one saga fails again and again, the others go on; its segment then follows alone."""
    events = [Booked(1, ["s1", "s2"], ("s1",)), *bookings(40)]
    for event in events:
        await append(desk.stores.store, f"stream-{event.number % 5}", event)
    patient = msgspec.structs.replace(
        SMALL, retry=Retry(attempts=1000, pause_s=0.005, pause_max_s=0.05)
    )
    processor = await desk.start(settings=patient)

    async def others_are_there() -> bool:
        found = await desk.totals()
        return found.get("s2") == expected(events)["s2"] and found.get("s1", 0) == 0

    await until(others_are_there)
    HEALTH["ill"] = False
    await desk.stores.caught_up(processor)
    assert await desk.totals() == expected(events)
    await until(desk.sent)
    assert len(desk.noted) == sum(len({s for s in event.seats if s}) for event in events)


async def test_two_sagas_of_one_event_fail_each_by_itself(desk: Desk) -> None:
    """Each of several sagas that fail for one event has its own attempts and its own letters."""
    await append(desk.stores.store, "x", Booked(1, ["a", "b", "c", "d"], ("a", "c", "d")))
    await append(desk.stores.store, "x", Booked(2, ["d", "b"]))
    await desk.stores.caught_up(await desk.start())
    parked = await desk.letters()
    assert sorted((one.sequence, one.attempts) for one in parked) == [
        ("a", QUICK.retry.attempts),
        ("c", QUICK.retry.attempts),
        ("d", 0),
        ("d", QUICK.retry.attempts),
    ]
    HEALTH["ill"] = False
    for saga_id in ("d", "a", "c"):
        await desk.admin().retry(saga_id)
    assert await desk.totals() == {"a": 1, "b": 3, "c": 1, "d": 3}
    assert await desk.letters() == []


async def test_resizes_keep_the_shares_apart(desk: Desk) -> None:
    """Splits and merges while events are for sagas of several segments lose and double nothing."""
    events = bookings(60)
    processor = await desk.start()
    for event, count in zip(events, [1, 5, 2, 7, 3, 4] * 10, strict=True):
        await append(desk.stores.store, f"stream-{event.number % 5}", event)
        if event.number % 6 == 0:
            await desk.admin().resize(count)
    await desk.stores.caught_up(processor)
    assert await desk.totals() == expected(events)
    await until(desk.sent)
    assert len(desk.noted) == sum(len({s for s in event.seats if s}) for event in events)


async def test_over_the_bus_too(desk: Desk) -> None:
    """An event of another service is for several sagas, once each, and parked for one of them."""
    stores, events = desk.stores, bookings(12)
    relay = Relay(
        stores.store,
        stores.bus,
        name="ledger",
        epoch=stores.store.epoch,
        views=stores.views,
        owner="relay",
        settings=QUICK,
    )
    await relay.start()
    processor = await desk.start(source=BusSource(stores.bus))
    for event in (*events, Booked(100, ["s1", "s2"], ("s2",))):
        last = await append(stores.store, f"stream-{event.number % 5}", event)
        head = ConsistencyToken.at("ledger", stores.store.epoch, last)
        with contextlib.suppress(EventParked):  # the last one
            await processor.wait_for(head, timeout_s=10)
    before = expected(events)
    assert await desk.totals() == {**before, "s1": before["s1"] + 100}
    (letter,) = await desk.letters()
    assert (letter.sequence, letter.event and letter.event.epoch) == ("s2", stores.store.epoch)
    HEALTH["ill"] = False
    applier = saga_applier(Seat, source=BusSource(stores.bus), settings=SMALL)
    admin = ProcessorAdmin(
        applier, source=BusSource(stores.bus), views=stores.views, settings=SMALL
    )
    assert (await admin.retry("s2")).handled == 1
    assert await desk.totals() == {**before, "s1": before["s1"] + 100, "s2": before["s2"] + 100}
    await relay.stop()


async def test_keys_of_other_types_and_none(desk: Desk) -> None:
    """A saga is found by any value of its key; for None there is none."""
    for event in (
        Moved(UUID(int=1), Place.HOME),
        Moved(UUID(int=1)),
        Moved(None),
        Moved(None, Place.HOME),
    ):
        await append(desk.stores.store, "s", event)
    await desk.stores.caught_up(await desk.start(Tour))
    rows = (await desk.stores.views.find(SagaState)).items
    states = {s.id: s.moves for row in rows if (s := msgspec.json.decode(row.state, type=Tour))}
    assert states == {str(UUID(int=1)): 2, "home": 2}


def test_a_scenario_of_one_of_several_sagas() -> None:
    """A scenario says which of the sagas of an event it is about."""
    one = given(Seat, id="b").when(Booked(5, ["a", "b"])).then(Note("b-5", "b", 5))
    one.when(Booked(2, ["b", "c"])).then(Note("b-2", "b", 7))
    with pytest.raises(AssertionError, match=r"the saga is 'b', the event is for \('c',\)"):
        one.when(Booked(2, ["c"]))
    with pytest.raises(AssertionError, match=r"say for which of \('a', 'b'\)"):
        given(Seat).when(Booked(5, ["a", "b"]))
    assert given(Seat).when(Booked(5, [])).then().state is None


def test_what_can_be_no_key_is_refused() -> None:
    """A field that has no canonical text is refused where the saga is declared."""

    class Filed(Event):
        content: dict[str, int]

    def filed(self: Any, event: Filed) -> Effects: ...

    handler = saga_handler(key="content", starts=True)(filed)
    with pytest.raises(DeclarationError, match=r"key='content' is dict.* no canonical text"):
        type(Saga)("Wrong", (Saga,), {"handler": handler})
