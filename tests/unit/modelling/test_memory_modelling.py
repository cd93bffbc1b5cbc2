"""The repository and decision models on the event store in memory."""

from collections.abc import AsyncIterator

import pytest

from headwater.eventstore import EventStore
from headwater.eventstore.memory import MemoryEventStore
from tests.unit.modelling.decision_rules import DecisionRules
from tests.unit.modelling.repository_rules import (
    CommandRules,
    IdempotencyRules,
    PipelineRules,
)
from tests.unit.modelling.state_rules import SnapshotRules, TimeTravelRules
from tests.unit.modelling.tag_rules import TagRules


@pytest.fixture
async def store() -> AsyncIterator[EventStore]:
    store = MemoryEventStore()
    yield store
    await store.close()


class TestCommands(CommandRules):
    pass


class TestIdempotency(IdempotencyRules):
    pass


class TestPipelines(PipelineRules):
    pass


class TestDecisions(DecisionRules):
    pass


class TestTags(TagRules):
    pass


class TestSnapshots(SnapshotRules):
    pass


class TestTimeTravel(TimeTravelRules):
    pass
