"""The suite that every event store passes: it covers each sentence of `headwater.eventstore.api`.

A backend's whole test module::

    class TestMyEventStore(EventStoreConformance):
        engine = ENGINE  # as it is registered

        def url(self, place: Path) -> str:
            return f"mine:{place / 'events'}"

        async def open_store(self, place: Path, clock: Callable[[], int]) -> EventStore:
            return await MyEventStore.open(place / "events", clock=clock)

What the engine declares is held to, and what it does not declare must be absent: stores that are
not shared see nothing of each other, and a test that imports has to fail where nothing is imported.
"""

from headwater.testing.eventstore_append import AppendConformance
from headwater.testing.eventstore_base import EventStoreBase, ManualClock
from headwater.testing.eventstore_conditions import ConditionConformance
from headwater.testing.eventstore_engine import EngineConformance
from headwater.testing.eventstore_follow import FollowConformance
from headwater.testing.eventstore_history import HistoryConformance
from headwater.testing.eventstore_import import ImportConformance, KeyReadingConformance
from headwater.testing.eventstore_keys import KeyConformance
from headwater.testing.eventstore_owner import OwnerConformance
from headwater.testing.eventstore_read import ReadConformance
from headwater.testing.eventstore_shards import ShardConformance
from headwater.testing.eventstore_times import TimeConformance
from headwater.testing.eventstore_upkeep import UpkeepConformance
from headwater.testing.eventstore_values import ValueConformance


class EventStoreConformance(
    AppendConformance,
    ConditionConformance,
    KeyConformance,
    ReadConformance,
    FollowConformance,
    ImportConformance,
    KeyReadingConformance,
    ShardConformance,
    UpkeepConformance,
    ValueConformance,
    HistoryConformance,
    OwnerConformance,
    TimeConformance,
    EngineConformance,
):
    """Subclass it, name the engine, and say how to open a store with a clock of the test."""


__all__ = ["EventStoreBase", "EventStoreConformance", "ManualClock"]
