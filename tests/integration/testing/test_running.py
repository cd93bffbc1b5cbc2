"""What `running` promises to who tests a service."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from headwater.errors import (
    ConfigurationError,
    DeclarationError,
    EventParked,
    NoInstance,
    UnknownMessage,
)
from headwater.testing import Unsettled, running
from tests.integration.testing.orders import (
    CancelOrder,
    GetOrder,
    Mails,
    OrderCancelled,
    OrderPlaced,
    OrderReminded,
    OrderShipped,
    OrderView,
    PlaceOrder,
    ShipOrder,
    noticing,
    orders,
    shipping,
)

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class FakeMails:
    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.sent: list[str] = []
        self.tries = 0

    async def send(self, order_id: str) -> None:
        self.tries += 1
        if self.away:
            raise NoInstance(service="mails")
        self.sent.append(order_id)


async def test_a_query_sees_what_was_sent():
    """Each query shows all commands sent before, at once, however many."""
    async with running(orders) as app:
        for n in range(50):
            await app.send(PlaceOrder(str(n)))
            assert (await app.query(GetOrder(str(n)))).item == "book"


async def test_http_sees_what_was_sent():
    """The HTTP client asks the edge of the same instance, and both see what the other did."""
    async with running(orders, shipping) as app:
        answer = await app.http.post("/orders", json={"order_id": "1"})
        assert answer.status_code == 200
        assert (await app.query(GetOrder("1"))).item == "book"
        await app.send(PlaceOrder("2"))
        assert (await app.http.get("/orders/2")).json()["item"] == "book"
        assert (await app.http.get("/orders/3")).status_code == 404
        ready = await app.http.get("http://shipping/health/live")
        assert ready.json()["instance"].startswith("shipping")
        async with aiohttp.ClientSession(app.url) as over_a_socket:
            assert (await over_a_socket.get("/orders/1")).status == 200


async def test_deadlines_come_each_at_its_time():
    """Time stands still until it is moved; what is due on the way happens at its own time."""
    async with running(orders, now=NOON) as app:
        await app.send(PlaceOrder("1"))
        await app.after(DAY - timedelta(seconds=1))
        assert await app.events(OrderReminded) == []
        await app.after(timedelta(seconds=1))
        assert await app.events(OrderReminded) == [OrderReminded("1")]

        await app.send(PlaceOrder("2"))
        await app.after(timedelta(days=10))
        times = [NOON + DAY, NOON + 2 * DAY, NOON + 3.5 * DAY]
        shown = await app.query(GetOrder("2"))
        assert shown.state == "cancelled"
        assert shown.times == times
        assert app.clock.now == NOON + 11 * DAY


async def test_the_clock_stands_still():
    """However long a test takes, nothing becomes due by itself."""
    async with running(orders, now=NOON) as app:
        await app.send(PlaceOrder("1"))
        app.clock.advance(DAY - timedelta(microseconds=1))
        await app.settled()
        assert await app.events(OrderReminded) == []
        assert app.clock.now == NOON + DAY - timedelta(microseconds=1)
        readers = app.runtimes[0].processors.readers
        assert {reader.claims.clock() for reader in readers} == {app.clock.s()}


async def test_events_are_what_was_stored():
    """Events are those of all services, oldest first, or those of one class."""
    async with running(orders, shipping) as app:
        await app.send(PlaceOrder("1", "letter"))
        await app.settled()
        await app.after(DAY)
        await app.send(CancelOrder("1"))
        expected = [OrderPlaced("1", "letter"), OrderShipped("1"), OrderCancelled("1")]
        assert await app.events() == expected
        assert await app.events(OrderShipped) == [OrderShipped("1")]


async def test_what_is_parked_is_told():
    """An event that a handler cannot handle is told with its traceback, once, by `settled`."""
    async with running(orders) as app:
        await app.send(PlaceOrder("1", "dynamite"))
        with pytest.raises(EventParked):
            await app.query(GetOrder("1"))
        with pytest.raises(Unsettled, match=r"nobody shows dynamite(.|\n)*orders\.py"):
            await app.settled()


async def test_a_test_does_not_end_well_with_something_parked():
    """What failed on the side is told at the end of the block at the latest."""
    with pytest.raises(Unsettled, match="nobody shows dynamite"):
        async with running(orders) as app:
            await app.send(PlaceOrder("1", "dynamite"))


async def test_the_error_of_a_test_is_its_own():
    """A block that fails ends with its own error, whatever else there is."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with running(orders) as app:
            await app.send(PlaceOrder("1", "dynamite"))
            raise ZeroDivisionError


async def test_a_command_that_nobody_handles_is_told():
    """A saga's command for a service that does not run here is no reason to wait for ever."""
    with pytest.raises(Unsettled, match=r"command .* of saga patience cannot be sent"):
        async with running(orders) as app:
            await app.send(PlaceOrder("1", "letter"))
    async with running(orders) as app:
        with pytest.raises(UnknownMessage):
            await app.send(ShipOrder("1"))


async def test_effects_go_to_fakes():
    """A handler's calls go to the fake, and are done when all is settled."""
    fake = FakeMails()
    async with running(noticing, clients={Mails: fake}) as app:
        await app.send(PlaceOrder("1"))
        await app.settled()
        assert fake.sent == ["1"]


async def test_what_is_away_is_tried_again():
    """An event that waits for another service is tried again as time passes, not before."""
    fake = FakeMails(away=True)
    async with running(noticing, clients={Mails: fake}) as app:
        await app.send(PlaceOrder("1"))
        await app.settled()
        assert (fake.sent, fake.tries) == ([], 1)
        await app.after(timedelta(minutes=1))
        assert fake.tries > 2
        fake.away = False
        await app.after(timedelta(minutes=1))
        assert fake.sent == ["1"]


async def test_time_passes_while_something_stays_away():
    """Long times pass soon, whatever is tried again on the way."""
    fake = FakeMails(away=True)
    async with running(noticing, clients={Mails: fake}) as app:
        await app.send(PlaceOrder("1"))
        before = app.clock.now
        await app.after(timedelta(days=1000))
        assert app.clock.now == before + timedelta(days=1000)


async def test_a_fake_has_the_methods():
    """A fake without a method of its interface is refused before anything starts."""
    with pytest.raises(DeclarationError, match="lacks send"):
        async with running(noticing, clients={Mails: object()}):
            pass
    with pytest.raises(DeclarationError, match="is not a client"):
        async with running(noticing, clients={FakeMails: FakeMails()}):
            pass


async def test_other_engines(tmp_path):
    """Settings are those of a service; where an engine has its own clock, it is not moved."""
    async with running(orders, store="sqlite:{data}/events.db", data=str(tmp_path)) as app:
        await app.send(PlaceOrder("1"))
        assert (tmp_path / "events.db").exists()
        with pytest.raises(ConfigurationError, match="the event store has one of its own"):
            await app.after(DAY)
    async with running(orders, store="memory:,memory:", segments=7) as app:
        for n in range(20):
            await app.send(PlaceOrder(str(n)))
        assert len(await app.events(OrderPlaced)) == 20
        assert app.runtime(orders).processors.readers[0].claims.count == 7


async def test_wrong_uses():
    """What makes no sense is refused, saying why."""
    with pytest.raises(ConfigurationError, match="needs services"):
        async with running():
            pass
    with pytest.raises(ConfigurationError, match="each of its own name"):
        async with running(orders, orders):
            pass
    with pytest.raises(ConfigurationError, match="says no zone"):
        async with running(orders, now=datetime(2030, 1, 1)):  # noqa: DTZ001
            pass
    with pytest.raises(ConfigurationError, match="known settings are"):
        async with running(orders, retries=3):
            pass
    async with running(orders) as app:
        with pytest.raises(ConfigurationError, match="does not run here, but orders"):
            app.runtime(shipping)
        with pytest.raises(ConfigurationError, match="cannot go back"):
            app.clock.advance(timedelta(seconds=-1))


async def test_tests_do_not_see_each_other():
    """Two blocks of one service at once have nothing in common."""
    async with running(orders) as one, running(orders) as other:
        await asyncio.gather(one.send(PlaceOrder("1", "a")), other.send(PlaceOrder("1", "b")))
        assert await one.query(GetOrder("1")) == OrderView("1", "a", times=[one.clock.now])
        assert await other.query(GetOrder("1")) == OrderView("1", "b", times=[other.clock.now])
