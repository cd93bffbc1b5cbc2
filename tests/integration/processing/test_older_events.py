"""Older events that have become others: every reader sees them as they are today."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import pytest

from headwater.dispatch import CommandResult
from headwater.errors import DeclarationError
from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import Command, Event, Upcast, new_metadata, upcaster, wire
from headwater.messages.codec import encode_metadata
from headwater.modelling import (
    Effects,
    End,
    EventHandlers,
    EventMessage,
    Projection,
    Saga,
    event_handler,
    saga_handler,
)
from headwater.processing import (
    BusSource,
    DeadLetter,
    Processor,
    ProcessorAdmin,
    Relay,
    Retried,
    SagaProcessor,
    view_at,
)
from headwater.views import Key, View, ViewTransaction
from headwater.views.memory import MemoryViewStore
from tests.integration.processing.conftest import QUICK, Stores, until


@wire("older.AddressChanged", version=2)
class AddressChanged(Event):
    customer: str
    address: str
    country: str


@upcaster(AddressChanged, from_version=1)
def _country(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "country": "DE"}


@wire("older.PhoneChanged")
class PhoneChanged(Event):
    customer: str
    phone: str


@wire("older.Moved", version=2)
class Moved(Event):
    """Nobody stores it any more."""


@upcaster(Moved, from_version=1, into=[AddressChanged, PhoneChanged])
def _split(content: dict[str, Any]) -> Iterator[Upcast]:
    customer = content["customer"]
    for address in content["addresses"]:
        yield Upcast(AddressChanged, 1, {"customer": customer, "address": address})
    if content["phone"]:
        yield Upcast(PhoneChanged, 1, {"customer": customer, "phone": content["phone"]})


def moved(customer: str, *addresses: str, phone: str = "") -> NewEvent:
    """Return what a program of yesterday stored."""
    data = msgspec.json.encode({"customer": customer, "addresses": addresses, "phone": phone})
    return NewEvent("older.Moved", 1, data, encode_metadata(new_metadata()))


def new(event: Event) -> NewEvent:
    return NewEvent.of(event, new_metadata())


async def put(stores: Stores, stream: str, *events: NewEvent) -> int:
    return (await stores.store.append([StreamWrite(stream, events)])).last


class CustomerView(View):
    id: Annotated[str, Key]
    addresses: list[str] = msgspec.field(default_factory=list)
    parts: list[tuple[int, int]] = msgspec.field(default_factory=list)


class PhoneView(View):
    id: Annotated[str, Key]
    phone: str
    addresses_seen: int


class Customers(Projection):
    """Keyed and free-form handlers of the two events of today."""

    view_types = (PhoneView,)

    def __init__(self) -> None:
        self.poison = ""
        self.called: list[str] = []

    @event_handler(CustomerView, key="customer")
    def changed(
        self, view: CustomerView, event: AddressChanged, message: EventMessage[AddressChanged]
    ) -> None:
        if event.address == self.poison:
            msg = f"cannot take {event.address}"
            raise ValueError(msg)
        view.addresses.append(f"{event.country} {event.address}")
        view.parts.append((message.version, message.part))

    @event_handler
    async def phoned(
        self, event: PhoneChanged, message: EventMessage[PhoneChanged], transaction: ViewTransaction
    ) -> None:
        found = (await transaction.load(CustomerView, [event.customer])).get(event.customer)
        seen = len(found.addresses) if found else 0
        await transaction.save([PhoneView(event.customer, f"{event.phone} {message.part}", seen)])


def processor_of(
    stores: Stores, handlers: EventHandlers | type[EventHandlers], **options: Any
) -> Processor:
    options = {"source": stores.source, "views": stores.views, **options}
    return Processor(handlers, owner="me", settings=QUICK, **options)


async def customer(stores: Stores, id: str = "ada") -> CustomerView | None:
    return await stores.views.get(CustomerView, id)


async def test_handlers_get_what_an_event_has_become(stores: Stores) -> None:
    """Handlers of the events of today get their parts of an older one, in order."""
    await put(stores, "c/ada", moved("ada", "Kiel", "Köln", phone="1"))
    await put(stores, "c/ada", new(AddressChanged("ada", "Wien", "AT")), moved("ada", "Ulm"))
    await put(stores, "c/bob", moved("bob", phone="2"), new(PhoneChanged("bob", "3")))
    processor = await stores.start(processor_of(stores, Customers))
    await stores.caught_up(processor)
    assert await customer(stores) == CustomerView(
        "ada", ["DE Kiel", "DE Köln", "AT Wien", "DE Ulm"], [(1, 0), (1, 1), (2, 0), (3, 0)]
    )
    assert await stores.views.get(PhoneView, "ada") == PhoneView("ada", "1 2", 2)
    assert await stores.views.get(PhoneView, "bob") == PhoneView("bob", "3 0", 0)
    assert (await processor.status()).handled == 5  # of what is stored


async def test_a_reader_of_one_part_gets_it(stores: Stores) -> None:
    """Who handles only one of the events gets it, with its number among all of them."""
    seen: list[tuple[str, int]] = []

    class Phones(EventHandlers):
        start = "beginning"

        @event_handler
        async def phoned(self, event: PhoneChanged, message: EventMessage[PhoneChanged]) -> None:
            seen.append((event.phone, message.part))

    await put(stores, "c/ada", moved("ada", "Kiel", phone="1"), moved("ada", "Ulm"))
    await put(stores, "c/ada", new(PhoneChanged("ada", "2")), moved("ada", phone="3"))
    processor = await stores.start(processor_of(stores, Phones))
    await stores.caught_up(processor)
    assert seen == [("1", 1), ("2", 0), ("3", 0)]


async def test_an_event_that_became_none_is_passed(stores: Stores) -> None:
    """An older event that has become none has no effect, and nobody waits for it."""
    last = await put(stores, "c/ada", moved("ada"), moved("ada"))
    processor = await stores.start(processor_of(stores, Customers))
    await processor.wait_for(stores.at(last), timeout_s=10)
    assert await customer(stores) is None
    assert await stores.views.count(DeadLetter) == 0


async def test_parts_have_their_effect_together(stores: Stores) -> None:
    """When a part fails, the effect of those before it is undone; retried, each is there once."""
    handlers = Customers()
    handlers.poison = "Köln"
    await put(stores, "c/ada", moved("ada", "Kiel", "Köln", phone="1"), moved("ada", "Ulm"))
    await put(stores, "c/bob", moved("bob", "Bonn"))
    processor = await stores.start(processor_of(stores, handlers))
    await stores.caught_up(processor)
    assert await customer(stores) is None
    assert (await customer(stores, "bob")) is not None
    admin = ProcessorAdmin(handlers, source=stores.source, views=stores.views, settings=QUICK)
    parked = [letter async for letter in admin.letters()]
    assert [(letter.type, letter.sequence) for letter in parked] == [("older.Moved", "c/ada")] * 2
    handlers.poison = ""
    assert await admin.retry("c/ada") == Retried(2)
    found = await customer(stores)
    assert found is not None
    assert found.addresses == ["DE Kiel", "DE Köln", "DE Ulm"]
    assert await stores.views.get(PhoneView, "ada") == PhoneView("ada", "1 2", 2)


async def test_a_rebuild_and_the_past_show_the_same(stores: Stores) -> None:
    """A rebuilt view, and one as it was, are made of the events of today, too."""
    await put(stores, "c/ada", moved("ada", "Kiel"), moved("ada", "Ulm", "Bonn"))
    processor = await stores.start(processor_of(stores, Customers))
    await stores.caught_up(processor)
    before = await customer(stores)
    admin = ProcessorAdmin(Customers, source=stores.source, views=stores.views, settings=QUICK)
    await admin.rebuild()
    assert await customer(stores) == before
    then = await view_at(
        Customers, CustomerView, "ada", source=stores.source, scratch=MemoryViewStore(), position=1
    )
    assert then == CustomerView("ada", ["DE Kiel"], [(1, 0)])


async def test_other_services_get_them_too(stores: Stores) -> None:
    """On the bus an older event is as it was stored; each subscriber lifts it by itself."""
    last = await put(stores, "c/ada", moved("ada", "Kiel", "Ulm", phone="1"), moved("ada"))
    relay = Relay(
        stores.store, stores.bus, name="ledger", epoch=stores.store.epoch,
        views=stores.views, owner="me", settings=QUICK,
    )  # fmt: skip
    await relay.start()
    try:
        source = BusSource(stores.bus)
        processor = await stores.start(processor_of(stores, Customers, source=source))
        await processor.wait_for(stores.at(last), timeout_s=10)
    finally:
        await relay.stop()
    assert await customer(stores) == CustomerView("ada", ["DE Kiel", "DE Ulm"], [(1, 0), (1, 1)])
    assert await stores.views.get(PhoneView, "ada") == PhoneView("ada", "1 2", 2)


# parked events ---------------------------------------------------------------------------------


def prices(*, version: int) -> type[EventHandlers]:
    """Make a program of a version: from the second on it understands prices in cents."""

    @wire("older.Priced", version=version)
    class Priced(Event):
        article: str
        cents: int

    if version > 1:
        upcaster(Priced, from_version=1)(
            lambda content: {"article": content["article"], "cents": content["euros"] * 100}
        )

    class Prices(Projection):
        @event_handler(PriceView, key="article")
        def priced(self, view: PriceView, event: Priced) -> None:
            view.cents.append(event.cents)

    return Prices


class PriceView(View):
    article: Annotated[str, Key]
    cents: list[int] = msgspec.field(default_factory=list)


def priced(content: dict[str, Any], version: int) -> NewEvent:
    data = msgspec.json.encode(content)
    return NewEvent("older.Priced", version, data, encode_metadata(new_metadata()))


async def test_parked_events_are_lifted_when_they_are_retried(stores: Stores) -> None:
    """What an older program could not read, and parked, the program of today lifts at the retry."""
    old = priced({"article": "tea", "euros": 3}, 1)
    await put(stores, "a/tea", old, priced({"article": "tea", "cents": 250}, 2))
    before = processor_of(stores, prices(version=1))
    await before.start()
    await stores.caught_up(before)
    await before.stop()
    assert await stores.views.count(DeadLetter) == 2
    after = prices(version=2)
    admin = ProcessorAdmin(after, source=stores.source, views=stores.views, settings=QUICK)
    assert await admin.retry("a/tea") == Retried(2)
    assert await stores.views.get(PriceView, "tea") == PriceView("tea", [300, 250])


async def test_what_nobody_handles_any_more_stays_parked(stores: Stores) -> None:
    """A parked event whose handler has gone is not taken for handled; dropping it is a decision."""
    handlers = Customers()
    handlers.poison = "Kiel"
    await put(stores, "c/ada", new(AddressChanged("ada", "Kiel", "DE")))
    processor = processor_of(stores, handlers)
    await processor.start()
    await stores.caught_up(processor)
    await processor.stop()

    class Fewer(Projection):
        name = Customers.name

        @event_handler(CustomerView, key="customer")
        def phoned(self, view: CustomerView, event: PhoneChanged) -> None:
            view.addresses.append(event.phone)

    admin = ProcessorAdmin(Fewer, source=stores.source, views=stores.views, settings=QUICK)
    retried = await admin.retry("c/ada")
    assert retried.handled == 0
    assert retried.failed is not None
    assert retried.failed.code == "unknown-message"
    assert await stores.views.count(DeadLetter) == 1


def test_a_missing_step_is_refused_by_every_reader() -> None:
    """Projections, event handlers and sagas of an event that cannot be lifted do not start."""

    @wire("older.Gap", version=2)
    class Gap(Event):
        id: str

    class Gaps(Projection):
        @event_handler(CustomerView, key="id")
        def gap(self, view: CustomerView, event: Gap) -> None: ...

    class Gapping(Saga):
        saga_start = "beginning"

        @saga_handler(key="id", starts=True)
        def gap(self, event: Gap) -> Effects: ...

    from headwater.eventstore.memory import MemoryEventStore
    from headwater.processing import StoreSource
    from headwater.processing.sagas.processor import saga_applier

    source = StoreSource(MemoryEventStore(), "gaps")
    with pytest.raises(DeclarationError, match=r"add @upcaster\(Gap, from_version=1\)"):
        Processor(Gaps, source=source, views=MemoryViewStore(), owner="me")
    with pytest.raises(DeclarationError, match=r"add @upcaster\(Gap, from_version=1\)"):
        saga_applier(Gapping, source=source)


# sagas -----------------------------------------------------------------------------------------


class Welcome(Command):
    customer: str
    text: str


class Welcoming(Saga):
    """Begins with an address and ends at once, so that the next address begins another one."""

    saga_start = "beginning"

    greeted: int = 0

    @saga_handler(key="customer", starts=True)
    def changed(self, event: AddressChanged) -> Effects:
        self.greeted += 1
        return [Welcome(event.customer, f"{event.address} {self.greeted}"), End()]

    @saga_handler(key="customer", starts=True)
    def phoned(self, event: PhoneChanged) -> Effects:
        self.greeted += 1
        return Welcome(event.customer, f"{event.phone} {self.greeted}")


class Sent:
    """A command bus that notes what it is sent, once for each key."""

    def __init__(self) -> None:
        self.by_key: dict[str, Command] = {}

    async def send(
        self, command: Command, *, idempotency_key: str = "", **_: object
    ) -> CommandResult:
        self.by_key.setdefault(idempotency_key, command)
        return CommandResult("", 1, "")

    @property
    def texts(self) -> Sequence[str]:
        return sorted(c.text for c in self.by_key.values() if isinstance(c, Welcome))


async def test_sagas_get_each_part_once(stores: Stores) -> None:
    """Each part is a step of its saga; those that a part has begun anew have keys of their own."""
    sent = Sent()
    await put(stores, "c/ada", moved("ada", "Kiel", "Ulm", phone="1"), moved("ada"))
    await put(stores, "c/ada", new(PhoneChanged("ada", "2")))
    saga = SagaProcessor(
        Welcoming, source=stores.source, views=stores.views, owner="me",
        commands=sent, settings=QUICK,
    )  # fmt: skip
    await saga.start()
    try:
        await until(lambda: len(sent.by_key) == 4)
    finally:
        await saga.stop()
    assert sent.texts == ["1 1", "2 2", "Kiel 1", "Ulm 1"]
