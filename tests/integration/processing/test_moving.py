"""What keeps a processor from moving to another bus is said, and nothing is changed then."""

import pytest

from headwater.errors import InvalidInput
from headwater.eventbus import partition_of
from headwater.eventbus.memory import MemoryEventBus
from headwater.processing import BusSource, move_processor, move_relay
from headwater.processing.sources.tokens import Token, token_of
from headwater.testing.eventbus import bus_event
from headwater.views import Segment
from headwater.views.memory import MemoryViewStore

READ = Token(offsets={0: 0, 1: -1, 2: -1, 3: -1}, positions={"accounts": {0: ("e1", 1)}})


class Reader:
    """A reader of a bus with four partitions, and a bus with seven."""

    def __init__(self) -> None:
        self.views = MemoryViewStore()
        self.former, self.following = MemoryEventBus(partitions=4), MemoryEventBus(partitions=7)

    async def open(self, token: Token, *, generation: int = 1) -> list[Segment]:
        stream = next(s for s in map(str, range(100)) if partition_of(s, 4) == 0)
        if generation == 1:
            await self.former.publish([bus_event(1, stream=stream)])
        return await self.views.open_segments(
            "reader", count=4, token=token.text, generation=generation
        )

    async def move(self, *, to: MemoryEventBus | None = None) -> None:
        sources = {"former": BusSource(self.former), "following": BusSource(to or self.following)}
        await move_processor("reader", self.views, **sources)

    async def check_refused(self, match: str, *, to: MemoryEventBus | None = None) -> None:
        before = await self.views.segments("reader")
        with pytest.raises(InvalidInput, match=match):
            await self.move(to=to)
        assert await self.views.segments("reader") == before


async def test_who_has_read_all_moves() -> None:
    """What was handled is known in each of the new partitions; the bus is read from its begin."""
    reader = Reader()
    await reader.open(READ)
    await reader.move()
    tokens = [token_of(one.token) for one in await reader.views.segments("reader")]
    assert tokens == 4 * [
        Token(
            offsets=dict.fromkeys(range(7), -1),
            positions={"accounts": dict.fromkeys(range(7), ("e1", 1))},
        )
    ]


async def test_who_has_not_read_all_stays() -> None:
    """One generation that is behind is enough."""
    reader = Reader()
    await reader.open(READ)
    await reader.open(Token(offsets=dict.fromkeys(range(4), -1)), generation=2)
    await reader.check_refused(r"has not read all of the former bus \(generation 2\)")


async def test_who_is_at_work_stays() -> None:
    """A claim that somebody holds would be written over."""
    reader = Reader()
    segments = await reader.open(READ)
    await reader.views.claim(segments[2], owner="me", lease_s=60.0)
    await reader.check_refused("is at work at me: stop it before")


async def test_too_many_segments_stay() -> None:
    """A bus has at least as many partitions as its readers have segments."""
    reader = Reader()
    await reader.open(READ)
    few = MemoryEventBus(partitions=2)
    await reader.check_refused("has 4 segments, at most 2 are possible", to=few)


async def test_events_of_two_epochs_stay() -> None:
    """Which of them are on the other bus cannot be known."""
    reader = Reader()
    places = {0: ("e1", 1), 1: ("e2", 7)}
    await reader.open(Token(offsets=READ.offsets, positions={"accounts": places}))
    await reader.check_refused("events of accounts of several epochs, e1, e2")


async def test_a_relay_at_work_stays() -> None:
    """One that stands still begins at the first event again."""
    views = MemoryViewStore()
    token = Token(positions={"shop": {0: ("e1", 5)}})
    [segment] = await views.open_segments("relay-shop", count=1, token=token.text, generation=1)
    held = await views.claim(segment, owner="me", lease_s=60.0)
    assert held is not None
    with pytest.raises(InvalidInput, match="at work at me"):
        await move_relay("relay-shop", views)
    await views.release([held])
    await move_relay("relay-shop", views)
    assert [token_of(one.token) for one in await views.segments("relay-shop")] == [Token()]
