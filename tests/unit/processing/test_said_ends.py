"""Whether a consistency token is covered by what events of a bus say of its ends."""

import pytest

from headwater.eventbus.memory import MemoryEventBus
from headwater.messages import ConsistencyToken
from headwater.processing import BusSource
from headwater.processing.sources.consistency import BusConsistency
from headwater.processing.sources.tokens import Token

WANTED = ConsistencyToken.at("ledger", "e1", 7)


class AskedBus(MemoryEventBus):
    """Counts how often its ends are asked for."""

    asked = 0

    async def end(self) -> dict[int, int]:
        self.asked += 1
        return {0: 100, 1: 100}


def following(ends: tuple[int, ...]) -> tuple[BusConsistency, AskedBus]:
    """Return a consistency to which these ends were said, when up to 7 was confirmed."""
    bus = AskedBus(partitions=2)
    source = BusSource(bus)
    source.ends["ledger", "e1"] = (7, ends)
    return BusConsistency(source), bus


def tokens(*positions: int, epoch: str = "e1") -> dict[int, Token]:
    """Return the tokens of two segments, each with a partition; 0: nothing was seen there."""
    return {
        n: Token(
            positions={"ledger": {n: (epoch, position)} if position else {}},
            offsets={n: 50},
            confirmed={"ledger": (epoch, 7)},
        )
        for n, position in enumerate(positions)
    }


@pytest.mark.parametrize(
    ("ends", "seen", "covered"),
    [
        ((5, 7), (5, 7), True),
        ((5, 7), (6, 9), True),
        ((5, 7), (4, 7), False),
        ((5, 7), (5, 6), False),
        ((5, 7), (0, 7), False),
        ((0, 7), (0, 7), True),
    ],
)
def test_each_partition_counts(ends: tuple[int, ...], seen: tuple[int, ...], covered: bool) -> None:
    """It is covered when the end of every partition was handled, where there is one."""
    consistency, _ = following(ends)
    assert consistency.covers(tokens(*seen), WANTED) is covered


def test_ends_are_of_an_epoch() -> None:
    """Positions of another log of the same name do not count."""
    consistency, _ = following((5, 7))
    mixed = {**tokens(5, 7), 1: tokens(5, 7, epoch="e0")[1]}
    assert not consistency.covers(mixed, WANTED)


@pytest.mark.parametrize(("seen", "asked"), [((4, 6), 0), ((0, 6), 1)])
async def test_what_may_never_come_is_asked_for(seen: tuple[int, ...], asked: int) -> None:
    """Where nothing was seen it may have been forgotten, or skipped: then the bus is asked."""
    consistency, bus = following((5, 7))
    await consistency.look(tokens(*seen), WANTED)
    assert bus.asked == asked
