"""Tags and keys of any type as the users of a service see them: over HTTP."""

import asyncio
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import aiohttp
import pytest

from headwater.errors import Rejection
from headwater.messages import Command, Event, Query, Tag, route
from headwater.messages.headers import CONSISTENCY_TOKEN
from headwater.modelling import (
    Aggregate,
    DecisionModel,
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
from tests.integration.processing.conftest import until
from tests.postgres_server import POSTGRES

WAIT_S_MAX = 30.0


@route("POST /bookings/{booking_id}")
class Book(Command):
    """Book seats, perhaps with a voucher."""

    booking_id: UUID
    seats: list[str]
    voucher: str | None = None


@route("POST /seats/{seat}/cleanings")
class Clean(Command):
    """Clean a seat after so many bookings."""

    seat: str
    bookings: int


class Booked(Event):
    """Seats were booked."""

    booking_id: UUID
    seats: list[str]
    voucher: Annotated[str, Tag("voucher")] | None


class Cleaned(Event):
    """A seat was cleaned."""

    seat: str
    bookings: int


class Taken(Rejection):
    """Something belongs to another booking."""

    status = 409
    by: UUID


class Places(DecisionModel):
    """Who has what a booking asks for."""

    voucher: Annotated[str, Tag("voucher")] | None = None
    by: UUID | None = None

    @event_sourcing_handler
    def booked(self, event: Booked) -> None:
        self.by = event.booking_id


class Booking(Aggregate):
    """One booking."""

    @command_handler(creates=True)
    def book(self, command: Book, places: Places) -> Booked:
        if places.by is not None:
            raise Taken(by=places.by)
        return Booked(command.booking_id, command.seats, command.voucher)


class Seat(Aggregate):
    """One seat."""

    @command_handler(creates="if_missing")
    def clean(self, command: Clean) -> Cleaned:
        return Cleaned(command.seat, command.bookings)


class SeatView(View):
    """A seat, with those who had it."""

    seat: Annotated[str, Key]
    bookings: tuple[UUID, ...] = ()
    cleaned: int = 0


class BookingView(View):
    """A booking."""

    id: Annotated[str, Key]
    seats: list[str]


@route("GET /seats/{seat}")
class GetSeat(Query[SeatView]):
    """One seat."""

    seat: str


@route("GET /bookings/{booking_id}")
class GetBooking(Query[BookingView]):
    """One booking."""

    booking_id: UUID


class Seats(Projection):
    """Seats and bookings."""

    @event_handler(SeatView, key="seats")
    def booked(self, view: SeatView, event: Booked) -> None:
        view.bookings += (event.booking_id,)

    @event_handler(SeatView, key="seat")
    def cleaned(self, view: SeatView, event: Cleaned) -> None:
        view.cleaned = event.bookings

    @event_handler(BookingView, key="booking_id")
    def made(self, event: Booked) -> BookingView:
        return BookingView(str(event.booking_id), event.seats)

    @query_handler
    async def seat(self, query: GetSeat) -> SeatView | None:
        return await self.views.get(SeatView, query.seat)

    @query_handler
    async def booking(self, query: GetBooking) -> BookingView | None:
        return await self.views.get(BookingView, query.booking_id)


class SeatCare(Saga):
    """Has each seat cleaned after each booking of it."""

    bookings: int = 0

    @saga_handler(key="seats", starts=True)
    def booked(self, event: Booked) -> Clean:
        self.bookings += 1
        return Clean(self.id, self.bookings)


service = Service("theatre", aggregates=[Booking, Seat], projections=[Seats], sagas=[SeatCare])


@pytest.fixture(params=["sqlite", POSTGRES])
async def http(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A session with a running theatre."""
    settings = {"data": str(tmp_path), "consistency_timeout_s": WAIT_S_MAX}
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        settings |= {"store": url, "views": url}
    async with Runtime(service, settings) as running, aiohttp.ClientSession(running.url) as session:
        yield session


async def book(http: aiohttp.ClientSession, number: int, **body: Any) -> tuple[int, str]:
    content = {"seats": [], **body}
    async with http.post(f"/bookings/{UUID(int=number)}", json=content) as answer:
        assert answer.status in {200, 409}, await answer.text()
        return answer.status, answer.headers.get(CONSISTENCY_TOKEN, "")


async def get(http: aiohttp.ClientSession, path: str, token: str = "") -> Any:
    headers = {CONSISTENCY_TOKEN: token} if token else {}
    async with http.get(path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_an_optional_voucher_is_used_once(http: aiohttp.ClientSession) -> None:
    """Of many bookings at once with one voucher one is made; those without one are all made."""
    with_one = [book(http, n, voucher="SUMMER") for n in range(10)]
    without = [book(http, n) for n in range(10, 20)]
    statuses = [status for status, _ in await asyncio.gather(*with_one, *without)]
    assert sorted(statuses[:10]) == [200] + [409] * 9
    assert statuses[10:] == [200] * 10


async def test_one_booking_shows_in_all_its_seats(http: aiohttp.ClientSession) -> None:
    """What names several seats changes all of them, and each is cleaned for it."""
    await book(http, 1, seats=["A1", "A2", "A1"])
    _, token = await book(http, 2, seats=["A2", "A3"])
    first, second = str(UUID(int=1)), str(UUID(int=2))
    for seat, bookings in (("A1", [first]), ("A2", [first, second]), ("A3", [second])):
        assert (await get(http, f"/seats/{seat}", token))["bookings"] == bookings
    assert (await get(http, f"/bookings/{UUID(int=2)}", token))["seats"] == ["A2", "A3"]

    async def cleaned() -> bool:
        seats = [await get(http, f"/seats/A{number}") for number in (1, 2, 3)]
        return [seat["cleaned"] for seat in seats] == [1, 2, 1]

    await until(cleaned, timeout_s=WAIT_S_MAX)
