"""The repository and decision models on the event store in PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from headwater.eventstore import EventStore
from headwater.eventstore.postgres import PostgresEventStore
from tests.unit.modelling.repository_rules import (
    CommandRules,
    DecisionRules,
    IdempotencyRules,
    PipelineRules,
)
from tests.unit.modelling.state_rules import SnapshotRules, TimeTravelRules


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[EventStore]:
    store = await PostgresEventStore.open(postgres_url)
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
