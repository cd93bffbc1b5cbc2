"""When something recurs: the rules of `Recurring`."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.messages import Command
from headwater.processing import Recurring

CRONS = ["0 6 * * *", "30 2 * * *", "*/7 * * * *", "0 0 1 1 *", "15 2,14 * * 1-5", "5 * * * *"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
_YEAR_S = 366 * 86_400.0


class Tidy(Command):
    day: str


def rule(cron: str, zone: str, missed: str = "latest") -> Recurring:
    return Recurring(cron, lambda tick: Tidy(f"{tick}"), name="tidy", zone=zone, missed=missed)  # type: ignore[arg-type]


def local(cron: str, zone: str, begin: datetime, count: int) -> list[str]:
    """Return the first ticks after a time, as the clocks of the zone say."""
    found, recurring, time_s = [], rule(cron, zone), begin.timestamp()
    for _ in range(count):
        time_s = recurring.after(time_s)
        found.append(f"{recurring.time(time_s):%d %H:%M %Z}")
    return found


def test_clocks_set_forward():
    """A time that is left out comes right after it, on that day too."""
    begin = datetime(2030, 3, 30, 12, tzinfo=UTC)
    ticks = local("30 2 * * *", "Europe/Berlin", begin, 2)
    assert ticks == ["31 03:00 CEST", "01 02:30 CEST"]


def test_clocks_set_back():
    """A time that comes twice counts once; what comes every hour comes in each of them."""
    begin = datetime(2030, 10, 26, 12, tzinfo=UTC)
    assert local("30 2 * * *", "Europe/Berlin", begin, 2) == ["27 02:30 CEST", "28 02:30 CET"]
    hourly = local("30 * * * *", "Europe/Berlin", datetime(2030, 10, 26, 23, 45, tzinfo=UTC), 3)
    assert hourly == ["27 02:30 CEST", "27 02:30 CET", "27 03:30 CET"]


@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    begin_s=st.floats(0, 4e9),
    late_s=st.floats(0, 8 * 86_400),
)
def test_the_latest_missed_one(cron: str, zone: str, begin_s: float, late_s: float):
    """Searched backwards it is the same as by going through all that were missed."""
    recurring = rule(cron, zone)
    due_s = recurring.after(begin_s)
    now_s, expected = due_s + late_s, due_s
    while (following := recurring.after(expected)) <= now_s:
        assert following > expected
        expected = following
    assert recurring.latest(due_s, now_s) == expected


def test_years_of_missed_ticks_are_skipped_at_once():
    """To find the latest one takes no longer after a year."""
    recurring = rule("* * * * *", "Europe/Berlin")
    due_s = recurring.after(datetime(2030, 1, 1, tzinfo=UTC).timestamp())
    calls = 0
    after = recurring.after

    def counted(time_s: float) -> float:
        nonlocal calls
        calls += 1
        return after(time_s)

    recurring.after = counted  # type: ignore[method-assign]
    assert recurring.latest(due_s, due_s + _YEAR_S) == due_s + _YEAR_S
    assert calls < 10


@pytest.mark.parametrize(
    ("late", "sent"), [(timedelta(seconds=59), True), (timedelta(hours=3), False)]
)
def test_skipped(late: timedelta, sent: bool):
    """With ``skip`` a tick counts that is a little late, and none that was missed."""
    recurring = rule("0 6 * * *", "UTC", "skip")
    due_s = recurring.after(0.0)
    assert recurring.made_up(due_s, due_s + late.total_seconds()) == (due_s if sent else None)
    assert rule("0 6 * * *", "UTC").made_up(due_s, due_s + late.total_seconds()) == due_s
