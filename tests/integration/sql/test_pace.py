"""How often a follower looks, by how many changes come."""

from types import SimpleNamespace

import pytest

from headwater._sql.sqlite import wake
from headwater._sql.sqlite.wake import PACE_S, PACED_PER_S, Pace


class Time:
    """A clock that only sleep moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(wake, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(wake, "asyncio", SimpleNamespace(sleep=self._sleep))

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds


async def _looks(time: Time, pace: Pace, *, per_s: float, seconds: float) -> int:
    """Let changes come at a rate, and take no time for a look; return how many there are."""
    looks, seen = 0, time.now
    ends = time.now + seconds
    while time.now < ends:
        time.now = max(time.now, seen + 1 / per_s)  # the next change
        changes = int((time.now - seen) * per_s + 1e-6)
        seen += changes / per_s
        looks += 1
        await pace.keep(changes)
    return looks


async def test_few_changes_are_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the bound every change is looked at when it comes; above, many at a time."""
    time, pace = Time(monkeypatch), Pace()
    for _ in range(2):  # forth and back
        few = await _looks(time, pace, per_s=PACED_PER_S * 0.8, seconds=1.0)
        assert few > PACED_PER_S * 0.7
        many = await _looks(time, pace, per_s=PACED_PER_S * 4, seconds=1.0)
        assert many < 2 / PACE_S
        time.now += 1.0
        before = time.now
        await pace.keep(1)  # after a rest nobody waits
        assert time.now == before
