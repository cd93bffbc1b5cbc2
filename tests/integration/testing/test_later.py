"""A service that sends later, in the process of a test, where time is moved."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from headwater import Service
from headwater.errors import ConfigurationError, DeclarationError, InvalidInput
from headwater.testing import Unsettled, running
from tests.integration.processing.conftest import until
from tests.integration.testing.reminders import (
    DAY,
    GetNote,
    Note,
    NotePutDown,
    Notes,
    PutDown,
    Remind,
    Reminded,
    reminders,
)

NOON = datetime(2030, 6, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def test_time_is_moved_to_what_is_due():
    """What is sent later happens when the test moves the clock there, at its own time."""
    async with running(reminders, now=NOON) as app:
        await app.send(PutDown("daily", remind=False))
        await app.send(PutDown("1", remind=False))
        receipt = await reminders.commands.send(Remind("1", "x"), at=NOON + 5 * MINUTE)
        assert receipt.due == NOON + 5 * MINUTE
        await app.after(4 * MINUTE)
        assert await app.events(Reminded) == []
        await app.after(MINUTE)
        assert await app.events(Reminded) == [Reminded("1", "x")]
        assert (await app.query(GetNote("1"))).reminders == 1
        assert [one.id for one in await reminders.schedule.list()] == ["every:each_morning"]


async def test_a_handler_puts_down_in_its_transaction():
    """What a projection's handler puts down is there with its view, and sent in time."""
    async with running(reminders, now=NOON) as app:
        await app.send(PutDown("daily", remind=False))
        await app.send(PutDown("1"))
        await app.settled()
        [mine] = [o for o in await reminders.schedule.list() if o.name == "Remind"]
        assert mine.due == NOON + DAY
        assert bytes(mine.content) == b'{"note_id":"1","reason":"a day is over"}'
        await app.after(DAY)
        assert Reminded("1", "a day is over") in await app.events(Reminded)


async def test_every_morning():
    """A cron expression goes by its zone: at six in the morning, in summer and in winter."""
    saturday = datetime(2030, 10, 26, 12, tzinfo=UTC)  # clocks are set back the next night
    async with running(reminders, now=saturday) as app:
        await app.send(PutDown("daily", remind=False))
        await app.after(3 * DAY)
        assert [event.reason for event in await app.events(Reminded)] == [
            "2030-10-27 06:00 CET",
            "2030-10-28 06:00 CET",
            "2030-10-29 06:00 CET",
        ]
        assert len(await app.events(NotePutDown)) == 1


async def test_cancelled():
    """What is cancelled in time is not sent."""
    async with running(reminders, now=NOON) as app:
        await app.send(PutDown("1", remind=False))
        receipt = await reminders.commands.send(Remind("1"), after=MINUTE)
        assert await reminders.schedule.cancel(receipt.id)
        await app.after(2 * MINUTE)
        assert await app.events(Reminded) == []


async def test_a_refusal_is_told():
    """What is refused, when nobody waits for the answer any more, does not go unnoticed."""
    async with running(reminders, now=NOON) as app:
        await app.send(PutDown("1", remind=False))
        await reminders.commands.send(Remind("1", "nag"), after=MINUTE)
        with pytest.raises(Unsettled, match="one reminder is enough"):
            await app.after(MINUTE)


async def test_who_says_nothing_sends_nothing_later():
    """A service that does not declare it is told how; what does not go together is refused."""
    plain = Service("plain", aggregates=[Note])
    async with running(plain):
        with pytest.raises(ConfigurationError, match="scheduling=True"):
            await plain.commands.send(Remind("1"), after=MINUTE)
    async with running(reminders):
        with pytest.raises(InvalidInput, match="at once"):
            await reminders.commands.send(Remind("1"), after=MINUTE, expected_version=1)  # type: ignore[call-overload]  # that is the point
        async with reminders.runtime.views.transaction() as transaction:  # type: ignore[attr-defined]  # of the runtime
            with pytest.raises(InvalidInput, match="say at="):
                await reminders.commands.send(Remind("1"), transaction=transaction)  # type: ignore[call-overload]  # likewise


@pytest.mark.parametrize(
    ("cron", "how", "reason"),
    [
        ("0 6 * *", {"zone": "UTC"}, "Wrong number of fields"),
        ("0 0 6 * * *", {"zone": "UTC"}, "Wrong number of fields"),
        ("0 25 * * *", {"zone": "UTC"}, "Bad hour"),
        ("0 0 30 2 *", {"zone": "UTC"}, "say minute, hour"),
        ("0 6 * * *", {"zone": "Europe/Nowhere"}, "is none that is known"),
        ("0 6 * * *", {"zone": "UTC", "name": "a b"}, "letters, digits"),
        ("0 6 * * *", {"zone": "UTC", "missed": "all"}, '"latest" or "skip"'),
    ],
)
def test_declared_wrongly(cron, how, reason):
    """A wrong declaration fails at import, and says what is wrong with it."""
    service = Service("wrong", projections=[Notes])
    with pytest.raises(DeclarationError, match=reason):
        service.every(cron, **{"name": "reminder", **how})(lambda tick: Remind("1"))


def test_declared_twice():
    """Two schedules, or two tasks, of one name are refused, and so is what is no async function."""
    service = Service("twice", aggregates=[Note])

    @service.every("0 6 * * *", zone="UTC")
    def morning(tick: datetime) -> Remind:
        return Remind("1")

    with pytest.raises(DeclarationError, match="declared twice"):
        service.every("0 7 * * *", zone="UTC", name="morning")(morning)

    @service.background
    async def watch() -> None: ...

    with pytest.raises(DeclarationError, match="declared twice"):
        service.background(name="watch")(watch)
    with pytest.raises(DeclarationError, match="async function"):
        service.background(lambda: None)


async def test_a_background_task_of_a_service():
    """A task runs while the service does, sends through it, and is told of when it fails."""
    service = Service("tasks", aggregates=[Note], projections=[Notes])
    ended = asyncio.Event()
    broken = [True]

    @service.background
    async def watch() -> None:
        try:
            if broken[0]:
                msg = "no luck"
                raise LookupError(msg)
            await service.commands.send(PutDown("by-task", remind=False))
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(service) as app:

        async def told() -> bool:
            ready = (await app.http.get("/health/ready")).json()
            return "no luck" in str(ready)

        await until(told, timeout_s=30.0)
        metrics = (await app.http.get("/metrics")).text
        assert 'processor="background-watch"' in metrics
        assert "headwater_background_running" in metrics
        broken[0] = False

        async def sent() -> bool:
            return await app.events(NotePutDown) == [NotePutDown("by-task", remind=False)]

        await until(sent, timeout_s=30.0)
        ended.clear()
    assert ended.is_set()
