"""The suite that every event store passes: it covers each sentence of `headwater.eventstore.api`.

A backend's whole test module::

    class TestMyEventStore(EventStoreConformance):
        shared = True

        async def open_store(self, place: Path, clock: Callable[[], int]) -> EventStore:
            return await MyEventStore.open(place / "events", clock=clock)

``shared`` says whether stores at one place are the same log, which also outlives them. A store
that is not shared must show so: that is asserted, too.
"""

from headwater.testing.eventstore_append import AppendConformance
from headwater.testing.eventstore_base import EventStoreBase, ManualClock
from headwater.testing.eventstore_conditions import ConditionConformance
from headwater.testing.eventstore_follow import FollowConformance
from headwater.testing.eventstore_history import HistoryConformance
from headwater.testing.eventstore_import import ImportConformance
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
    ShardConformance,
    UpkeepConformance,
    ValueConformance,
    HistoryConformance,
    OwnerConformance,
    TimeConformance,
):
    """Subclass it, say how to open a store, and whether stores at one place share their log."""


__all__ = ["EventStoreBase", "EventStoreConformance", "ManualClock"]
