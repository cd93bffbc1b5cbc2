"""Keys of views: any value with a canonical text, none, or several."""

import asyncio
import enum
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest

from headwater.errors import DeclarationError
from headwater.messages import Event, canonical_text
from headwater.modelling import Projection, event_handler
from headwater.processing import Processor, ProcessorAdmin
from headwater.processing.time_travel import view_at
from headwater.views import Key, View
from headwater.views.memory import MemoryViewStore
from tests.integration.processing.conftest import QUICK, Stores
from tests.integration.processing.domain import append

SMALL = msgspec.structs.replace(QUICK, page_size=3)  # so that there are many batches


class Place(enum.Enum):
    SHOP = "shop"
    HOME = "home"


class Sold(Event):
    number: int
    amount: int
    id: UUID = UUID(int=7)
    price: Decimal = Decimal(1)
    place: Place | None = None
    paid: bool = False
    seats: tuple[str | None, ...] = ()


class Opened(Event):
    seats: list[str]


class Closed(Event):
    seats: list[str] | None


class Total(View):
    id: Annotated[str, Key]
    amount: int = 0
    events: int = 0


class Numbered(View):
    number: Annotated[int, Key]
    amount: int = 0


def totals(key: Any) -> type[Projection]:
    """Return a projection that adds up amounts by a key."""

    class Totals(Projection):
        @event_handler(Total, key=key)
        def sold(self, view: Total, event: Sold) -> None:
            view.amount += event.amount
            view.events += 1

    return Totals


def running(stores: Stores, handlers: Any, **options: Any) -> Processor:
    return Processor(
        handlers,
        **{
            "source": stores.source,
            "views": stores.views,
            "owner": "me",
            "settings": SMALL,
            **options,
        },
    )


def sales(count: int) -> list[Sold]:
    return [
        Sold(
            number=n % 3,
            amount=n,
            id=UUID(int=n % 2),
            price=Decimal(n % 4) if n % 2 else Decimal(f"{n % 4}.00"),
            place=(None, Place.SHOP, Place.HOME)[n % 3],
            paid=n % 2 > 0,
            seats=(str(n % 3), None, str(n % 5), str(n % 3)),
        )
        for n in range(1, count + 1)
    ]


async def folded(stores: Stores) -> dict[str, int]:
    return {view.id: view.amount for view in (await stores.views.find(Total)).items}


@pytest.mark.parametrize("by_function", [False, True])
@pytest.mark.parametrize("field", ["number", "id", "price", "place", "paid", "seats"])
async def test_a_key_of_any_type_finds_its_views_in_every_batch(
    stores: Stores, field: str, by_function: bool
) -> None:
    """Views are the sums over their events, whatever their keys are, over any number of batches."""
    events = sales(24)
    for event in events:
        await append(stores.store, f"stream-{event.amount % 4}", event)
    key = (lambda event: getattr(event, field)) if by_function else field
    await stores.caught_up(await stores.start(running(stores, totals(key))))
    expected: Counter[str] = Counter()
    for event in events:
        value = getattr(event, field)
        for one in {v for v in (value if isinstance(value, tuple) else (value,)) if v is not None}:
            expected[canonical_text(one)] += event.amount
    assert await folded(stores) == expected
    found = {one.id for one in (await stores.views.find(Total)).items}
    assert found == set(expected)


@pytest.mark.parametrize(
    "key",
    [
        lambda event: (seat for seat in event.seats),
        lambda event: frozenset(event.seats),
        lambda event: [[event.seats[0]], event.seats],
        lambda event: dict.fromkeys(event.seats).keys(),
    ],
)
async def test_any_series_of_keys_means_several_views(stores: Stores, key: Any) -> None:
    """A function may return any series of keys; each view gets the event once."""
    await append(stores.store, "s", Sold(1, 5, seats=("b", None, "a", "b")), Sold(1, 7))
    await stores.caught_up(await stores.start(running(stores, totals(key))))
    found = (await stores.views.find(Total)).items
    assert found == [Total("a", 5, 1), Total("b", 5, 1)]


class Seats(Projection):
    """Inserts, changes and removes several views with one event."""

    def __init__(self) -> None:
        self.closings: list[Any] = []

    @event_handler(Total, key="seats")
    def opened(self, event: Opened) -> list[Total]:
        return [Total(seat) for seat in reversed(dict.fromkeys(event.seats))]

    @event_handler(Total, key="seats")
    def sold(self, view: Total, event: Sold) -> None:
        view.amount += event.amount
        view.events += 1

    @event_handler(Total, key="seats", deletes=True)
    def closed(self, event: Closed) -> None:
        self.closings.append(event.seats)


async def test_inserting_and_deleting_several_views(stores: Stores) -> None:
    """One event inserts or removes several views; one without keys does neither."""
    handlers = Seats()
    await append(stores.store, "s", Opened(["a", "b", "c", "a"]), Sold(1, 5, seats=("b", "c")))
    await append(stores.store, "s", Opened([]), Closed(None), Closed([]), Closed(["a", "b", "b"]))
    await append(stores.store, "s", Sold(1, 2, seats=("b", "c")), Opened(["d"]))
    await stores.caught_up(await stores.start(running(stores, handlers)))
    found = (await stores.views.find(Total)).items
    assert found == [Total("b", 2, 1), Total("c", 7, 2), Total("d")]
    assert handlers.closings == [["a", "b", "b"]]


async def test_many_streams_share_views_across_segments_and_processes(stores: Stores) -> None:
    """Events of all segments, worked on by two processes, add up in the views that they share."""
    chosen = [(str(n % 5), str((n * 3 + 1) % 5), f"own-{n % 16}") for n in range(160)]
    for n, seats in enumerate(chosen[:80]):
        await append(stores.store, f"stream-{n % 16}", Sold(n, n, seats=seats))
    first = await stores.start(running(stores, Seats(), owner="one"))
    other = running(stores, Seats(), owner="two", views=await stores.another())
    second = await stores.start(other)
    for n, seats in enumerate(chosen[80:], 80):
        await append(stores.store, f"stream-{n % 16}", Sold(n, n, seats=seats))
        if n % 8 == 0:
            await asyncio.sleep(0)
    await stores.caught_up(first)
    await stores.caught_up(second)
    expected: dict[str, tuple[int, int]] = {}
    for n, seats in enumerate(chosen):
        for seat in set(seats):
            amount, events = expected.get(seat, (0, 0))
            expected[seat] = (amount + n, events + 1)
    found = (await stores.views.find(Total)).items
    assert {view.id: (view.amount, view.events) for view in found} == expected


def _no_key(event: Sold) -> Any:
    return {"seats": event.seats} if event.amount == 666 else event.seats


class Wrong(Projection):
    """Handlers whose keys are wrong for some events."""

    @event_handler(Total, key=_no_key)
    def sold(self, view: Total, event: Sold) -> None:
        view.amount += event.amount

    @event_handler(Numbered, key=lambda event: str(event.price))
    def priced(self, view: Numbered, event: Sold) -> None:
        view.amount += event.amount

    @event_handler(Total, key=lambda event: event.seats)
    def opened(self, event: Opened) -> Total:
        return Total(event.seats[0])


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Sold(1, 666, seats=("a",)), r"Wrong\.sold: its key of Sold is {'seats': \('a',\)}"),
        (
            Sold(1, 1, price=Decimal("1.50")),
            r"Wrong\.priced: its key is '1\.50', which is none of ",
        ),
        (Sold(1, 1, price=Decimal("1.0")), r"Wrong\.priced: its key is '1\.0', which is none of "),
        (Opened(["x", "y"]), r"Wrong\.opened: must return the Total 'x' and 'y', got"),
    ],
)
async def test_what_is_no_key_parks_its_stream_only(
    stores: Stores, event: Event, said: str
) -> None:
    """An event with a wrong key is parked, naming handler, event and value; the others go on."""
    await append(stores.store, "bad", event)
    await append(stores.store, "good", Sold(1, 5, seats=("a",)))
    processor = await stores.start(running(stores, Wrong()))
    await stores.caught_up(processor)
    assert await stores.views.get(Total, "a") == Total("a", 5)
    admin = ProcessorAdmin(Wrong, source=stores.source, views=stores.views, settings=SMALL)
    (letter,) = [letter async for letter in admin.letters()]
    assert letter.sequence == "bad"
    with pytest.raises(DeclarationError, match=said):
        raise DeclarationError(subject="", reason=letter.error)


async def test_views_of_the_past_are_asked_for_alike(stores: Stores) -> None:
    """A view of the past is found by any value of its key."""
    await append(stores.store, "s", *sales(4))
    scratch, key = MemoryViewStore(), UUID(int=1)
    past = await view_at(
        totals("id"), Total, key, source=stores.source, scratch=scratch, position=2
    )
    assert past == Total(str(UUID(int=1)), 1, 1)


def keyed(hint: Any, view: type[View] = Total, returns: Any = None) -> None:
    """Declare a projection whose key is a field of a type."""
    happened: Any = type(Event)("Happened", (Event,), {"__annotations__": {"it": hint}})

    def handler(self: Any, event: Any) -> Any: ...

    handler.__annotations__ = {"event": happened, "return": returns or list[view]}  # type: ignore[valid-type]  # a view
    type("Keyed", (Projection,), {"handler": event_handler(view, key="it")(handler)})


@pytest.mark.parametrize(
    ("hint", "options", "said"),
    [
        (Total, {}, "key='it' is <class .*Total'>, and .* has no canonical text"),
        (dict[str, int], {}, "has no canonical text"),
        (list[Total] | None, {}, "has no canonical text"),
        (msgspec.Raw, {}, "has no canonical text"),
        (list[str], {"returns": Total}, r"names several views: declare it -> list\[Total\]"),
        (UUID, {"view": Numbered}, "is a UUID, and Numbered.number a number"),
        (list[Decimal] | bool, {"view": Numbered}, "is a number or truth value, and"),
    ],
)
def test_what_can_be_no_key_is_refused(hint: Any, options: dict[str, Any], said: str) -> None:
    """A field whose values have no text, or never that of the view's key, is refused at once."""
    with pytest.raises(DeclarationError, match=said):
        keyed(hint, **options)


def test_what_can_be_a_key() -> None:
    """Fields of text, numbers and so on, optional ones, and lists of them are keys."""
    hints: Iterable[Any] = (str | None, int, UUID | None, Place, list[int], set[UUID], Any)
    for hint in hints:
        keyed(hint)
    for hint in (int, str, list[Decimal] | None):
        keyed(hint, Numbered)
