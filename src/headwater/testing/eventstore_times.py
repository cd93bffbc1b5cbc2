"""What clocks that are wrong do to recorded time."""

from headwater.eventstore import EventStore
from headwater.eventstore.api import AHEAD_US_MAX
from headwater.testing.eventstore_base import (
    EventStoreBase,
    ManualClock,
    importing,
    log_of,
    put,
    write,
)
from headwater.testing.eventstore_import import stored

_YEAR = 365 * 86_400 * 1_000_000


class TimeConformance(EventStoreBase):
    """Time is that of the store's clock, and what was stamped wrongly once spreads no further."""

    async def test_a_clock_that_was_wrong_is_not_followed(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        """After an event of next year, events are stamped with the true time again."""
        start = clock.now
        times = []
        for moved in (-_YEAR, -10, 0, 20, -_YEAR, 30):
            clock.now = start + moved
            times.append((await put(store, write("a"), write("b"))).time - start)
        assert times == [-_YEAR, -10, 0, 20, -_YEAR, 30]
        assert [one.time - start for one in await log_of(store)] == [
            moved for moved in times for _ in range(2)
        ]

    async def test_time_stays_where_the_clock_is_a_little_behind(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        """The bound itself is still held; what is beyond it is not."""
        start = clock.now
        times = []
        for moved in (0, -AHEAD_US_MAX, -AHEAD_US_MAX - 1, -AHEAD_US_MAX - 2):
            clock.now = start + moved
            times.append((await put(store, write("a"))).time - start)
        assert times == [0, 0, -AHEAD_US_MAX - 1, -AHEAD_US_MAX - 1]

    async def test_the_place_of_a_time_is_found_after_wrong_ones(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        """`position_at` is the last event recorded by then: what came before it came before."""
        start = clock.now
        for moved in (-_YEAR, -_YEAR + 1, 0, -_YEAR + 10, -_YEAR + 20, 5, -_YEAR + 30):
            clock.now = start + moved
            await put(store, write("a"))
        asked = (-_YEAR - 1, -_YEAR, -_YEAR + 9, -_YEAR + 10, -_YEAR + 29, -_YEAR + 30, 0, 5)
        expected = [0, 1, 2, 4, 5, 7, 7, 7]
        assert [await store.position_at(start + moved) for moved in asked] == expected

    @importing
    async def test_wrong_times_are_copied(self, store: EventStore, clock: ManualClock) -> None:
        """Another store's events are stored with their times, and times are found among them."""
        start = clock.now
        times = [start - _YEAR, start, start - _YEAR + 5, start - _YEAR + 6]
        events = [stored(number, time=time) for number, time in enumerate(times, start=1)]
        await store.import_events(events[:2], epoch="e")
        await store.import_events(events[2:], epoch="e")
        assert [one.time for one in await log_of(store)] == times
        assert [await store.position_at(time) for time in times] == [1, 4, 3, 4]
