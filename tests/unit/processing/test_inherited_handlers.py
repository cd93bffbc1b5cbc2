"""Events and handlers that derive from others: projections, event handlers, the event bus."""

from typing import Annotated, Any

import pytest

from headwater.errors import DeclarationError
from headwater.eventbus import BusEvent
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages import Event, encode_event, message_type, new_metadata, wire
from headwater.messages.codec import encode_metadata
from headwater.modelling import (
    Effects,
    EventHandlers,
    Projection,
    Saga,
    event_handler,
    saga_handler,
)
from headwater.processing import BusSource, StoreSource
from headwater.processing.handling.applier import EventFailed
from headwater.processing.running.projector import ProjectionApplier
from headwater.processing.sagas.processor import saga_applier
from headwater.testing import given
from headwater.views import Key, View, ViewTransaction
from headwater.views.memory import MemoryViewStore


class Moved(Event):
    id: str


class MovedFast(Moved):
    speed: int = 1


class MovedVeryFast(MovedFast):
    pass


class Place(View):
    id: Annotated[str, Key]
    count: int = 0
    fast: int = 0


class Record(View):
    id: Annotated[str, Key]
    top: int = 0


class Places(Projection):
    @event_handler(Place, key="id")
    def moved(self, view: Place, event: Moved) -> None:
        view.count += 1

    @event_handler(Record, key="id")
    def fast(self, view: Record, event: MovedFast) -> None:
        view.top = max(view.top, event.speed)


EVENTS = (Moved("a"), MovedFast("a", 3), MovedVeryFast("a", 5))


async def test_each_view_has_its_nearest_handler() -> None:
    """A handler takes what derives from its event, unless its view has a nearer one."""
    scenario = given(Places, *EVENTS)
    await scenario.then(Place("a", count=3), Record("a", top=5))


async def test_a_nearer_handler_of_the_same_view() -> None:
    """For one view the nearest handler alone is called."""

    class Finer(Places):
        @event_handler(Place, key="id")
        def moved_fast(self, view: Place, event: MovedFast) -> None:
            view.fast += 1

    await given(Finer, *EVENTS).then(Place("a", count=1, fast=2), Record("a", top=5))


async def test_free_handlers_take_derived_events() -> None:
    """A free-form handler is called for derived events, and gives way to a nearer one."""
    seen: list[str] = []

    class Free(EventHandlers):
        @event_handler
        async def moved(self, event: Moved) -> None:
            seen.append(f"moved {type(event).__name__}")

        @event_handler
        async def fast(self, event: MovedVeryFast) -> None:
            seen.append("fast")

    await given(Free, *EVENTS).views()
    assert seen == ["moved Moved", "moved MovedFast", "fast"]


async def test_overrides_are_handlers() -> None:
    """Overrides inherit view, key, deletion, and what they do not annotate."""

    class Double(Places):
        def moved(self, view, event):
            view.count += 2

    await given(Double, *EVENTS).then(Place("a", count=6), Record("a", top=5))

    class Free(EventHandlers):
        @event_handler
        async def moved(self, event: Moved, transaction: ViewTransaction) -> None: ...

    calls: list[str] = []

    class Freer(Free):
        async def moved(self, event: Moved, transaction: ViewTransaction) -> None:
            calls.append(event.id)

    await given(Freer, *EVENTS).views()
    assert calls == ["a", "a", "a"]


def test_an_override_that_would_let_a_handler_vanish() -> None:
    """An override that takes another event is refused at the class statement, naming both."""

    def other(self: Any, view: Place, event: MovedFast) -> None: ...

    async def later(self: Any, view: Place, event: Moved) -> None: ...

    for override in (other, later, 7):
        with pytest.raises(DeclarationError, match=rf"overrides the handler {__name__}\.Places\.m"):
            type("Wrong", (Places,), {"moved": override})


def test_two_handlers_that_are_equally_near() -> None:
    """An event of two bases is refused before anything runs, if their handlers differ."""

    class Left(Event):
        id: str

    class Right(Event):
        pass

    class Both(Left, Right):
        pass

    class Turning(EventHandlers):
        @event_handler
        async def left(self, event: Left) -> None: ...

        @event_handler
        async def right(self, event: Right) -> None: ...

    with pytest.raises(DeclarationError, match=r"Turning: .*Both could go to the handler of"):
        ProjectionApplier(Turning(), StoreSource(MemoryEventStore(), "s"))


def test_two_derived_events_of_one_name() -> None:
    """Classes of one wire name that only derive from what is handled are refused, naming both."""
    one = type("One", (Moved,), {"__module__": __name__, "__qualname__": "One"})
    two = type("Two", (Moved,), {"__module__": __name__, "__qualname__": "Two"})
    try:
        for cls in (one, two):
            wire("moved-somehow")(cls)
        with pytest.raises(DeclarationError, match=r"\.Two: wire name 'moved-somehow' .*\.One"):
            ProjectionApplier(Places(), StoreSource(MemoryEventStore(), "s"))
    finally:
        wire("moved-otherwise")(two)


# the bus -------------------------------------------------------------------------------------


@wire("Placed", source="orders")
class Placed(Event):
    id: str


@wire("Placed", source="tables")
class PlacedTable(Event):
    seats: int


class PlacedAnyhow(Event):
    id: str = ""


wire("Placed")(PlacedAnyhow)


def sent(event: Event, source: str, *, epoch: str = "e") -> BusEvent:
    kind = message_type(type(event))
    return BusEvent(
        source=source,
        epoch=epoch,
        position=1,
        stream="s",
        version=1,
        type=kind.name,
        type_version=kind.version,
        time=0,
        tags=(),
        data=encode_event(event),
        metadata=encode_metadata(new_metadata()),
    )


def handling(*events: type[Event]) -> tuple[ProjectionApplier, list[Event]]:
    """Return an applier of these events that follows a bus, and what its handlers get."""
    got: list[Event] = []

    def handler(cls: Any) -> Any:
        async def handle(self: Any, event: cls, transaction: ViewTransaction) -> None:
            got.append(event)

        return event_handler(handle)

    made = {f"on_{n}": handler(cls) for n, cls in enumerate(events)}
    cls = type("Made", (EventHandlers,), {"source": "bus", **made})
    return ProjectionApplier(cls(), BusSource(MemoryEventBus(partitions=1))), got


async def apply(applier: ProjectionApplier, *events: BusEvent) -> None:
    async with MemoryViewStore().transaction() as transaction:
        await applier.apply(transaction, events)


async def test_events_are_told_apart_by_their_service() -> None:
    """Of one wire name each class takes the events of its own service, of any shard."""
    applier, got = handling(Placed, PlacedTable)
    await apply(
        applier,
        sent(Placed("7"), "orders"),
        sent(PlacedTable(4), "tables"),
        sent(Placed("8"), "orders/1"),
        sent(Placed("9"), "somebody"),
    )
    assert got == [Placed("7"), PlacedTable(4), Placed("8")]
    assert applier.types.count("Placed") == 1


async def test_a_class_of_no_service_takes_the_rest() -> None:
    """A class that names no service takes the events that no other class is for."""
    applier, got = handling(Placed, PlacedAnyhow)
    await apply(applier, sent(Placed("7"), "orders"), sent(Placed("9"), "somebody"))
    assert got == [Placed("7"), PlacedAnyhow("9")]


class PlacedLate(Placed):
    """It says no service, and is of that of its base."""


async def test_a_derived_event_is_of_the_service_of_its_base() -> None:
    """An event that derives from another service's is that service's, unless it says otherwise."""
    assert message_type(PlacedLate).source == "orders"
    applier, got = handling(Placed)
    await apply(applier, sent(PlacedLate("7"), "orders"), sent(PlacedLate("8"), "somebody"))
    assert got == [PlacedLate("7")]


async def test_scenarios_send_events_as_their_service() -> None:
    """In a test of a projection on the bus each event comes from the service that it is of."""

    class Rows(Projection):
        source = "bus"

        @event_handler(Place, key="id")
        def placed(self, view: Place, event: Placed) -> None:
            view.count += 1

        @event_handler(Place, key=lambda event: f"table {event.seats}")
        def table(self, view: Place, event: PlacedTable) -> None:
            view.fast += 1

    scenario = given(Rows, Placed("7"), PlacedTable(4), PlacedLate("7"))
    await scenario.then(Place("7", count=2), Place("table 4", fast=1))


def test_classes_that_cannot_be_told_apart() -> None:
    """Two classes of one wire name for the same events are refused, naming both."""
    again = type("Again", (Event,), {"__annotations__": {"id": str}, "__module__": __name__})
    for source in ("", "orders"):
        other = wire("Placed", source=source)(again)
        with pytest.raises(
            DeclarationError, match=r"Again: wire name 'Placed' belongs to .*Placed"
        ):
            handling(Placed if source else PlacedAnyhow, other)


async def test_content_of_another_service_does_not_pass_for_ours() -> None:
    """Without a service, content that does not fit fails, which parks it; it is never guessed."""
    applier, got = handling(PlacedTable)
    foreign = sent(Placed("7"), "tables")
    with pytest.raises(EventFailed, match="seats"):
        await apply(applier, foreign)
    assert got == []


async def test_sagas_are_told_apart_alike() -> None:
    """A saga takes the events of the service that their class names."""

    class Trip(Saga):
        saga_source = "bus"

        @saga_handler(key="id", starts=True)
        def placed(self, event: Placed) -> Effects: ...

        @saga_handler(key=lambda event: f"table {event.seats}", starts=True)
        def table(self, event: PlacedTable) -> Effects: ...

    applier = saga_applier(Trip, source=BusSource(MemoryEventBus(partitions=1)))
    events = sent(Placed("7"), "orders"), sent(PlacedTable(4), "tables"), sent(Placed("9"), "x")
    assert [applier.sequence_of(event) for event in events] == ["7", "table 4", ""]
