"""The clock of a file of views: of the machine's start, whatever the wall clock is set to."""

import time
from pathlib import Path

import apsw
import pytest

from headwater.testing.views_base import one_segment
from headwater.views.sqlite import SQLiteViewStore

_NEAR_S = 60.0


@pytest.mark.parametrize("moved_s", [-7200.0, 7200.0])
async def test_a_clock_that_is_set_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved_s: float
) -> None:
    """Who opens the file later, after the wall clock was set, has the same time, and lease ends."""
    first = await SQLiteViewStore.open(tmp_path / "views.db")
    claimed = await first.claim(await one_segment(first), owner="a", lease_s=600)
    assert claimed is not None
    wall, began = time.clock_gettime, await first.now()

    def moved(clock: int) -> float:
        return wall(clock) + (moved_s if clock == time.CLOCK_REALTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", moved)
    monkeypatch.setattr(time, "time", lambda: moved(time.CLOCK_REALTIME))
    second = await SQLiteViewStore.open(tmp_path / "views.db")
    for store in (first, second):
        assert began <= await store.now() < began + _NEAR_S
        assert await store.claim(claimed, owner="b", lease_s=1) is None
    for store in (first, second):
        await store.close()


async def test_after_a_start_of_the_machine(tmp_path: Path) -> None:
    """The time is read off the wall clock anew when the machine was started anew."""
    first = await SQLiteViewStore.open(tmp_path / "views.db")
    await first.close()
    connection = apsw.Connection(str(tmp_path / "views.db"))
    connection.execute("UPDATE headwater_clock SET boot = 'before', began = 0")
    connection.close()
    second = await SQLiteViewStore.open(tmp_path / "views.db")
    assert abs(await second.now() - time.time()) < _NEAR_S
    await second.close()
