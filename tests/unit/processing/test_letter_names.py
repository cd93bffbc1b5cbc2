"""Names of dead letters fit into an index, however long the names of what they are of."""

import pytest

from headwater.eventbus import BusEvent
from headwater.eventbus.memory import MemoryEventBus
from headwater.messages import Metadata
from headwater.processing import BusSource
from headwater.processing.handling.dead_letters import DeadLetter, letter_of, sequence_key_of
from headwater.processing.sagas.commands import letter_of_saga
from headwater.processing.sagas.views import PendingCommand
from headwater.testing.eventstore_values import random_text
from headwater.views.model import view_type

INDEX_ROW_BYTES_MAX = 2704  # of PostgreSQL, with some 24 of its own


def check_fits(letter: DeadLetter) -> None:
    (key, _, sequence_key), _ = view_type(DeadLetter).stored(letter)
    assert len(key.encode()) + len(sequence_key.encode()) + 30 < INDEX_ROW_BYTES_MAX


@pytest.mark.parametrize("length", [10, 249, 250, 251, 5000])
def test_an_event_of_a_long_stream(length: int) -> None:
    """An event can be parked whatever its stream is called, beside all other streams."""
    one, other = random_text(length, seed=1), random_text(length, seed=1)[:-1] + "x"
    event = BusEvent("s", "e", 1, one, 1, "T", 1, 0, (), b"{}", b"{}")
    letter = letter_of(event, source=BusSource(MemoryEventBus()), queue="p@1", sequence=one)
    check_fits(letter)
    assert letter.sequence == one
    assert sequence_key_of("p@1", one) != sequence_key_of("p@1", other)


@pytest.mark.parametrize("length", [10, 49, 51, 230])
def test_a_command_of_a_long_saga(length: int) -> None:
    """So can a command of a saga, whose letters are in the order of its commands."""
    saga = random_text(length, seed=1)
    rows = [
        PendingCommand(f"Saga/{saga}/o/{n:06d}", "q", saga, "T", "{}", "k", Metadata(id="1"))
        for n in (1, 2)
    ]
    first, second = (letter_of_saga("p", row, ValueError()) for row in rows)
    check_fits(first)
    assert first.id < second.id
