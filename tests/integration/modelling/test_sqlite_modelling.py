"""The repository and decision models on the event store in SQLite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.eventstore import EventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from tests.unit.modelling.repository_rules import (
    CommandRules,
    DecisionRules,
    IdempotencyRules,
    PipelineRules,
)
from tests.unit.modelling.state_rules import SnapshotRules, TimeTravelRules


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EventStore]:
    store = await SQLiteEventStore.open(tmp_path / "events.db")
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


class TestSnapshots(SnapshotRules):
    pass


class TestTimeTravel(TimeTravelRules):
    pass
