"""What cannot be stored or read holds up nobody but its own sequence, and says why."""

from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pytest

from headwater.dispatch import CommandResult
from headwater.errors import Rejection, Unstorable
from headwater.eventbus import BusEvent
from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import Command, Event, wire
from headwater.modelling import (
    Deadline,
    Effects,
    EventHandlers,
    Projection,
    Saga,
    deadline_handler,
    event_handler,
    rejection_handler,
    saga_handler,
)
from headwater.processing import BusSource, DeadLetter, Processor, ProcessorAdmin, SagaProcessor
from headwater.processing.running.projector import applier_of
from headwater.processing.sagas.processor import saga_applier
from headwater.processing.sagas.views import PendingCommand, SagaState
from headwater.views import Index, Key, View, ViewTransaction
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import stored

METADATA = b'{"id":"1"}'


class Measured(Event):
    gauge: str
    value: float


@wire("Measured")
class MeasuredAnyhow(Event):
    """How a corrected program reads what the other could not."""

    gauge: str
    value: float | str | None = None


class Counted(Event):
    gauge: str
    count: int


class Gauge(View):
    id: Annotated[str, Key]
    total: Annotated[float, Index] = 0.0
    ratio: float | None = None
    count: int = 0


class Gauges(Projection):
    @event_handler(Gauge, key="gauge")
    def measured(self, view: Gauge, event: Measured) -> None:
        view.total += event.value

    @event_handler(Gauge, key="gauge")
    def counted(self, view: Gauge, event: Counted) -> None:
        view.count += event.count


class GaugesAnyhow(Projection):
    name = "gauges"

    @event_handler(Gauge, key="gauge")
    def measured(self, view: Gauge, event: MeasuredAnyhow) -> None:
        view.total += event.value if isinstance(event.value, float) else 0.0


class Watching(EventHandlers):
    """Handles events beside the transactions."""

    start = "beginning"
    name = "watching"

    def __init__(self) -> None:
        self.seen: list[str] = []

    @event_handler
    async def measured(self, event: Measured) -> None:
        self.seen.append(event.gauge)


class Noting(Projection):
    """Handles events freely within the transactions."""

    name = "noting"
    view_types = (Gauge,)

    @event_handler
    async def measured(self, event: Measured, transaction: ViewTransaction) -> None:
        await transaction.save([Gauge(event.gauge, event.value)])


def processor_of(stores: Stores, handlers: Any) -> Processor:
    return Processor(handlers, source=stores.source, views=stores.views, owner="me", settings=QUICK)


def admin_of(stores: Stores, handlers: Any, source: Any = None) -> ProcessorAdmin:
    return ProcessorAdmin(
        handlers, source=source or stores.source, views=stores.views, settings=QUICK
    )


async def put(stores: Stores, *events: Event) -> None:
    for event in events:
        stream = f"Gauge/{event.gauge}"  # type: ignore[attr-defined]  # all have it
        await stores.store.append([StreamWrite(stream, [stored(event)])])


async def put_raw(
    stores: Stores, gauge: str, data: bytes, metadata: bytes = METADATA, version: int = 1
) -> None:
    event = NewEvent("Measured", version, data, metadata)
    await stores.store.append([StreamWrite(f"Gauge/{gauge}", [event])])


async def letters(admin: ProcessorAdmin) -> list[DeadLetter]:
    return [letter async for letter in admin.letters("")]


async def totals(stores: Stores) -> dict[str, float]:
    found = (await stores.views.find(Gauge, order_by="total")).items
    return {gauge.id: gauge.total for gauge in found}


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([Measured("a", 1.5e308)] * 2, "its total is inf, which has no form in JSON"),
        ([Counted("a", 2**63 - 1)] * 2, "its count is 18446744073709551614, which has more than"),
    ],
)
async def test_a_view_that_cannot_be_stored(stores: Stores, events: list[Event], told: str) -> None:
    """The event that would make it is parked with the reason; lists and all else go on."""
    processor = await stores.start(processor_of(stores, Gauges))
    await put(stores, *events, Measured("a", 1.0), Measured("b", 2.0))
    await stores.caught_up(processor)
    admin = admin_of(stores, Gauges)
    parked = await letters(admin)
    assert [(p.sequence, p.event and p.event.version) for p in parked] == [
        ("Gauge/a", 2),
        ("Gauge/a", 3),
    ]
    assert parked[0].code == "unstorable"
    assert parked[0].error.startswith(f"view 'Gauge' cannot be stored: {told}")
    assert set(await totals(stores)) == {"a", "b"}
    await admin.drop("Gauge/a", letter=parked[0].id)
    await admin.retry("Gauge/a")
    assert (await totals(stores))["b"] == 2.0
    assert await letters(admin) == []


@pytest.mark.parametrize(
    ("data", "metadata", "version", "told"),
    [
        (b'{"gauge":"a","value":null}', METADATA, 1, "Expected `float`, got `null`"),
        (b'{"gauge":"a"', METADATA, 1, "Input data was truncated"),
        (b'{"gauge":"\xff","value":1.0}', METADATA, 1, "UnicodeDecodeError"),
        (b'{"gauge":"a","value":1.0}', METADATA, 7, "stored at version 7, this program knows 1"),
        (b'{"gauge":"a","value":1.0}', b'{"id":5}', 1, "its metadata: Expected `str`, got `int`"),
        (b'{"gauge":"a","value":1.0}', b"", 1, "its metadata: Input data was truncated"),
    ],
)
@pytest.mark.parametrize("handlers", [Gauges, Noting, Watching])
async def test_an_event_that_cannot_be_read(
    stores: Stores, handlers: Any, data: bytes, metadata: bytes, version: int, told: str
) -> None:
    """Its stream is parked, telling which event it is and why; all other streams go on."""
    made = handlers()
    processor = await stores.start(processor_of(stores, made))
    await put(stores, Measured("a", 1.0))
    await put_raw(stores, "a", data, metadata, version)
    await put(stores, Measured("a", 2.0), *(Measured(gauge, 4.0) for gauge in "bcdefgh"))
    await stores.caught_up(processor)
    admin = admin_of(stores, made)
    parked = await letters(admin)
    assert [(p.sequence, p.event and p.event.version) for p in parked] == [
        ("Gauge/a", 2),
        ("Gauge/a", 3),
    ]
    assert parked[0].code == "event-unreadable"
    assert "at version 2 of stream 'Gauge/a' cannot be read" in parked[0].error
    assert told in parked[0].error
    if isinstance(made, Watching):
        assert sorted(made.seen) == list("abcdefgh")
    else:
        assert await totals(stores) == {"a": 1.0, **dict.fromkeys("bcdefgh", 4.0)}


async def test_a_letter_can_always_be_stored(stores: Stores) -> None:
    """Whatever a handler says in its error, the event is parked, and all else goes on."""

    class Rude(Projection):
        @event_handler(Gauge, key="gauge")
        def measured(self, view: Gauge, event: Measured) -> None:
            if event.gauge == "a":
                raise ValueError("no \udcff \0 text")
            view.total += event.value

    processor = await stores.start(processor_of(stores, Rude))
    await put(stores, Measured("a", 1.0), Measured("b", 2.0))
    await stores.caught_up(processor)
    (parked,) = await letters(admin_of(stores, Rude))
    assert parked.error == "ValueError: no \\udcff \0 text"
    assert await totals(stores) == {"b": 2.0}


async def test_a_corrected_program_goes_on_where_the_other_stopped(stores: Stores) -> None:
    """When the class has been corrected, a retry handles what could not be read."""
    processor = await stores.start(processor_of(stores, Gauges))
    await put(stores, Measured("a", 1.0))
    await put_raw(stores, "a", b'{"gauge":"a","value":null}')
    await put(stores, Measured("a", 2.0))
    await stores.caught_up(processor)
    assert await totals(stores) == {"a": 1.0}
    await processor.stop()
    assert (await admin_of(stores, GaugesAnyhow).retry("Gauge/a")).handled == 2
    assert await totals(stores) == {"a": 3.0}


async def test_an_unreadable_event_on_the_bus(stores: Stores) -> None:
    """Over the bus it is the same: its stream is parked, all others go on."""
    source = BusSource(stores.bus)
    processor = Processor(Gauges, source=source, views=stores.views, owner="me", settings=QUICK)
    await stores.start(processor)
    contents = [
        ("a", b'{"gauge":"a","value":1.0}', METADATA),
        ("a", b'{"gauge":"a","value":"much"}', METADATA),
        ("a", b'{"gauge":"a","value":2.0}', METADATA),
        ("b", b'{"gauge":"b","value":1.0}', b'{"id":5}'),
        ("c", b'{"gauge":"c","value":4.0}', METADATA),
    ]
    versions = {"a": 0, "b": 0, "c": 0}
    for position, (gauge, data, metadata) in enumerate(contents, 1):
        versions[gauge] += 1
        event = BusEvent(
            "far", "e", position, f"Gauge/{gauge}", versions[gauge], "Measured", 1, position, (),
            data, metadata,
        )  # fmt: skip
        await stores.bus.publish([event])
    admin = admin_of(stores, Gauges, source)

    async def handled() -> bool:
        return len(await letters(admin)) == 3 and len(await totals(stores)) == 2

    await until(handled)
    assert await totals(stores) == {"a": 1.0, "c": 4.0}
    errors = {p.sequence: p.error for p in await letters(admin) if p.error}
    assert "version 2 of stream 'Gauge/a' cannot be read: Expected" in errors["far:Gauge/a"]
    assert "version 1 of stream 'Gauge/b' cannot be read: its meta" in errors["far:Gauge/b"]


async def test_a_view_that_cannot_be_read(stores: Stores) -> None:
    """An event for a stored document that does not fit its class is parked; others go on."""
    applier = applier_of(Gauges, source=stores.source, views=stores.views)
    applier.code = ""  # as an earlier release has left it
    await stores.start(first := processor_of(stores, applier))
    await put(stores, Measured("a", 1.0), Measured("b", 1.0))
    await stores.caught_up(first)
    await first.stop()

    changed = msgspec.defstruct(
        "Gauge",
        [
            ("id", Annotated[str, Key]),
            ("total", Annotated[float, Index], 0.0),
            ("count", Annotated[int, msgspec.Meta(ge=1)], 1),
        ],
        bases=(View,),
        module=__name__,
    )

    class Now(Projection):
        name = "gauges"

        @event_handler(changed, key="gauge")
        def measured(self, view: changed, event: Measured) -> None:  # type: ignore[valid-type]  # made above
            view.total += event.value

    await put(stores, Measured("a", 1.0), Measured("new", 1.0))
    await stores.start(second := processor_of(stores, Now))
    await stores.caught_up(second)
    (parked,) = await letters(admin_of(stores, Now))
    assert (parked.sequence, parked.code) == ("Gauge/a", "view-unreadable")
    assert "the stored Gauge 'a' does not fit the class" in parked.error
    assert "rebuild the projection" in parked.error
    assert (await stores.views.get(changed, "new")).total == 1.0


# sagas ------------------------------------------------------------------------------------------


class Began(Event):
    id: str
    level: float = 0.0
    count: int = 0


class Store(Command):
    id: str
    level: float | None
    count: int = 0


class Refused(Rejection):
    template = "no"


class Pumping(Saga):
    saga_start = "beginning"
    level: float | None = None
    free: Any = None

    @saga_handler(key="id", starts=True)
    def began(self, event: Began) -> Effects:
        if event.count == -1:
            self.free = {1.0, float("inf")}
        return [
            Store(event.id, event.level * 10, event.count * 10),
            Deadline("late", after=timedelta(minutes=5)),
        ]

    @rejection_handler
    def refused(self, command: Store, rejection: Refused) -> Effects:
        self.level = float("inf")
        return None

    @deadline_handler("late")
    def late(self) -> Effects:
        return Store(self.id, float("-inf"))


class Pumps:
    """A saga over the stores; `answer` is what the command bus does with a command."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.sent: list[str] = []
        self.settings = QUICK
        self.wrong: dict[str, Exception] = {}

    async def send(self, command: Any, *, idempotency_key: str = "", **_: object) -> CommandResult:
        if command.id in self.wrong:
            raise self.wrong[command.id]
        self.sent.append(command.id)
        return CommandResult(command.id, 1, "")

    async def start(self) -> SagaProcessor:
        saga = SagaProcessor(
            Pumping,
            source=self.stores.source,
            views=self.stores.views,
            owner="me",
            commands=self,  # type: ignore[arg-type]  # it is a command bus
            settings=self.settings,
        )
        await self.stores.start(saga)
        return saga

    async def letters(self) -> list[DeadLetter]:
        applier = saga_applier(Pumping, source=self.stores.source, settings=self.settings)
        return await letters(admin_of(self.stores, applier))

    async def began(self, *events: Began) -> None:
        for event in events:
            write = StreamWrite(f"Pump/{event.id}", [stored(event)])
            await self.stores.store.append([write])


@pytest.fixture
def pumps(stores: Stores) -> Pumps:
    """A saga on all backends."""
    return Pumps(stores)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Began("bad", 1e308), "command 'Store' cannot be stored: its level is inf"),
        (Began("bad", count=2**62), "command 'Store' cannot be stored: its count is 46116860184"),
        (Began("bad", count=-1), "saga 'Pumping' cannot be stored: its free["),
    ],
)
async def test_what_a_saga_decides_must_be_storable(pumps: Pumps, event: Began, told: str) -> None:
    """A command or state that could not be read again parks its event; other sagas go on."""
    await pumps.start()
    await pumps.began(Began("a"), event, Began("b"))
    await until(lambda: sorted(pumps.sent) == ["a", "b"])
    await until(pumps.letters)
    (parked,) = await pumps.letters()
    assert (parked.sequence, parked.code) == ("bad", "unstorable")
    assert parked.error.startswith(told)
    waiting = (await pumps.stores.views.find(PendingCommand)).items
    assert "bad" not in {row.saga for row in waiting}


async def test_after_a_refusal_and_a_deadline_too(pumps: Pumps) -> None:
    """What handlers of refusals and deadlines decide is a letter when it cannot be stored."""
    pumps.wrong["a"] = Refused()
    await pumps.start()
    await pumps.began(Began("a"), Began("b"))
    await until(pumps.letters)
    (refused,) = await pumps.letters()
    assert (refused.kind, refused.sequence) == ("command", "a#commands")
    assert refused.error.startswith("saga 'Pumping' cannot be stored: its level is inf")
    pumps.stores.clock.skip(301)

    async def all_late() -> bool:
        return len(await pumps.letters()) == 3

    await until(all_late)
    late = [letter for letter in await pumps.letters() if letter.kind == "deadline"]
    assert {letter.sequence for letter in late} == {"a#commands", "b#commands"}
    assert all("command 'Store' cannot be stored: its level is -inf" in one.error for one in late)
    await pumps.began(Began("c"))
    await until(lambda: "c" in pumps.sent)


async def test_a_refusal_of_ours_is_tried_again(pumps: Pumps) -> None:
    """That a command's event cannot be stored or read is our fault: it is tried until it can be."""
    pumps.wrong["a"] = Unstorable(name="event 'X'", field="y", value="inf", reason="which is bad")
    saga = await pumps.start()
    await pumps.began(Began("a"), Began("b"))
    await until(lambda: any(tries > 2 for _, tries, _ in saga.saga_status().retrying))
    assert "event 'X' cannot be stored" in saga.saga_status().retrying[0][2]
    assert await pumps.letters() == []
    pumps.wrong.clear()
    await until(lambda: sorted(pumps.sent) == ["a", "b"])


async def test_a_state_that_cannot_be_read(pumps: Pumps) -> None:
    """The saga of an unreadable state waits as a letter, also at its deadline; others go on."""
    first = await pumps.start()
    await pumps.began(Began("a"), Began("b"))
    await until(lambda: sorted(pumps.sent) == ["a", "b"])
    await first.stop()
    views = pumps.stores.views
    async with views.transaction() as work:
        (row,) = (await work.load(SagaState, ["Pumping/a"])).values()
        await work.save([msgspec.structs.replace(row, state=msgspec.Raw(b'{"level":"high"}'))])
    await pumps.start()
    await pumps.began(Began("a"), Began("c"))
    await until(lambda: "c" in pumps.sent)
    await until(pumps.letters)
    (parked,) = await pumps.letters()
    assert (parked.sequence, parked.code) == ("a", "view-unreadable")
    assert "the stored state of Pumping 'a' does not fit the class" in parked.error
    pumps.stores.clock.skip(301)

    async def all_late() -> bool:
        return len([one for one in await pumps.letters() if one.kind == "deadline"]) == 3

    await until(all_late)


async def test_a_command_that_cannot_be_read(pumps: Pumps) -> None:
    """A stored command that does not fit its class waits, visibly; the others are sent."""
    first = await pumps.start()
    pumps.wrong["a"] = Unstorable(name="x", field="y", value="z", reason="away")
    await pumps.began(Began("a"))
    await until(lambda: first.saga_status().retrying)
    await first.stop()
    views = pumps.stores.views
    async with views.transaction() as work:
        (row,) = (await work.find(PendingCommand)).items
        await work.save([msgspec.structs.replace(row, content='{"id":"a","level":"high"}')])
    pumps.wrong.clear()
    saga = await pumps.start()
    await pumps.began(Began("b"))
    await until(lambda: pumps.sent == ["b"])
    await until(lambda: any(tries > 1 for _, tries, _ in saga.saga_status().retrying))
    assert "the stored command 'Store'" in saga.saga_status().retrying[0][2]


async def test_an_unreadable_event_of_a_saga(pumps: Pumps) -> None:
    """An event for a saga that cannot be read is parked; all other sagas go on."""
    await pumps.start()
    bad = NewEvent("Began", 1, b'{"id":"bad","level":null}', METADATA)
    await pumps.stores.store.append([StreamWrite("Pump/bad", [bad])])
    await pumps.began(Began("a"), Began("b"))
    await until(lambda: sorted(pumps.sent) == ["a", "b"])
    await until(pumps.letters)
    (parked,) = await pumps.letters()
    assert "version 1 of stream 'Pump/bad' cannot be read: Expected `float`" in parked.error
