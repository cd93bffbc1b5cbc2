"""Rules of uniqueness over tags that are optional, several, or of other types than text."""

import asyncio
import datetime as dt
import uuid
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from headwater.dispatch.local import LocalCommandBus
from headwater.errors import Rejection
from headwater.eventstore import EventFilter, EventStore, FilterItem
from headwater.messages import Command, Event, Tag
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Repository,
    command_handler,
    event_sourcing_handler,
)


class Guest(msgspec.Struct, frozen=True):
    passport: Annotated[str, Tag("passport")]


class Book(Command):
    booking_id: str
    seats: tuple[str, ...] = ()
    email: str | None = None
    device: str | None = None
    price: Decimal | None = None
    at: dt.datetime | None = None
    guests: tuple[Guest, ...] = ()


class Booked(Event):
    booking_id: str
    seats: Annotated[tuple[str, ...], Tag("seat")]
    email: Annotated[str, Tag("email")] | None
    device: Annotated[uuid.UUID, Tag("device")] | None
    price: Annotated[Decimal | None, Tag("price")]
    at: Annotated[dt.datetime, Tag("at")] | None
    guests: tuple[Guest, ...]


class Taken(Rejection):
    by: str


class Places(DecisionModel):
    """Who has any of what a booking asks for."""

    seats: Annotated[tuple[str, ...], Tag("seat")] = ()
    email: Annotated[str, Tag("email")] | None = None
    device: Annotated[str | None, Tag("device")] = None
    price: Annotated[Decimal, Tag("price")] | None = None
    at: Annotated[dt.datetime | None, Tag("at")] = None
    guests: tuple[Guest, ...] = ()
    by: str = ""

    @event_sourcing_handler
    def booked(self, event: Booked) -> None:
        self.by = event.booking_id


class Booking(Aggregate):
    seen: str = ""

    @command_handler(creates=True)
    def book(self, command: Book, places: Places) -> Booked:
        if places.by:
            raise Taken(by=places.by)
        return Booked(
            command.booking_id,
            command.seats,
            command.email,
            uuid.UUID(command.device) if command.device else None,
            command.price,
            command.at,
            command.guests,
        )


def bookings(store: EventStore) -> LocalCommandBus:
    """Return a bus as a process of its own would have."""
    return LocalCommandBus([Repository(Booking, store, source="bookings").handlers()])


NOON = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC)
ID = "ABCDEF00-0000-0000-0000-00000000000A"


class TagRules:
    """Uniqueness over tags."""

    @pytest.mark.parametrize(
        ("first", "same", "other"),
        [
            ({"email": "a@b"}, {"email": "a@b"}, {"email": "b@b"}),
            ({"seats": ("1", "2")}, {"seats": ("3", "2")}, {"seats": ("3", "4")}),
            ({"device": ID}, {"device": ID.lower()}, {"device": str(uuid.UUID(int=1))}),
            ({"device": ID.lower()}, {"device": ID}, {"device": str(uuid.UUID(int=1))}),
            ({"price": Decimal("1.0")}, {"price": Decimal("1.00")}, {"price": Decimal("1.01")}),
            (
                {"at": NOON},
                {"at": NOON.astimezone(dt.timezone(dt.timedelta(hours=5)))},
                {"at": NOON + dt.timedelta(microseconds=1)},
            ),
            (
                {"guests": (Guest("x"), Guest("y"))},
                {"guests": (Guest("z"), Guest("x"))},
                {"guests": (Guest("z"),)},
            ),
        ],
    )
    async def test_equal_values_are_found(
        self, store: EventStore, first: dict[str, Any], same: dict[str, Any], other: dict[str, Any]
    ) -> None:
        """What has an equal value is inside the boundary, whatever it looks like; nothing else."""
        await bookings(store).send(Book("1", **first))
        with pytest.raises(Taken) as raised:
            await bookings(store).send(Book("2", **same))
        assert raised.value.by == "1"
        await bookings(store).send(Book("3", **other))

    async def test_what_is_not_there_collides_with_nothing(self, store: EventStore) -> None:
        """None and an empty list depend on no event at all, and on no other of their kind."""
        bus = bookings(store)
        await bus.send(Book("1", email="None", seats=("None", "()")))
        results = await asyncio.gather(*(bus.send(Book(f"n{n}")) for n in range(20)))
        assert [result.version for result in results] == [1] * 20
        with pytest.raises(Taken):
            await bus.send(Book("2", email="None"))

    async def test_each_item_is_given_once_under_contention(self, store: EventStore) -> None:
        """Of many bookings at once, in two processes, no two get the same seat."""
        buses = [bookings(store), bookings(store)]
        wanted = [(f"{n % 7}", f"{n * 3 % 7}", f"{n * 5 % 7}") for n in range(30)]
        outcomes = await asyncio.gather(
            *(buses[n % 2].send(Book(str(n), seats)) for n, seats in enumerate(wanted)),
            return_exceptions=True,
        )
        given = [seat for n, o in enumerate(outcomes) if not isinstance(o, BaseException)
                 for seat in set(wanted[n])]  # fmt: skip
        assert given
        assert len(given) == len(set(given))
        assert all(isinstance(o, Taken) for o in outcomes if isinstance(o, BaseException))

    async def test_thousands_of_items(self, store: EventStore) -> None:
        """A boundary of thousands of tags is read and guarded like one of a few."""
        many = tuple(map(str, range(3000)))
        await bookings(store).send(Book("1", many))
        with pytest.raises(Taken):
            await bookings(store).send(Book("2", ("x", *many[:0:-1])))
        await bookings(store).send(Book("3", tuple(f"y{n}" for n in range(3000))))

    async def test_events_are_read_by_the_same_tag(self, store: EventStore) -> None:
        """`Tag.of` selects what was stored with an equal value."""
        await bookings(store).send(Book("1", price=Decimal("2.50"), device=ID, at=NOON))
        for tag in (
            Tag("price").of(Decimal("2.5")),
            Tag("device").of(uuid.UUID(ID)),
            Tag("at").of(NOON.astimezone(dt.timezone(dt.timedelta(hours=-3)))),
        ):
            pages = store.read(filter=EventFilter((FilterItem(tags=(tag,)),)))
            assert [event.stream async for page in pages for event in page.events] == ["Booking/1"]
