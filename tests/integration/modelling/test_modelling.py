"""The repository and decision models on the event stores in SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.eventstore import EventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from tests.postgres_server import POSTGRES
from tests.unit.modelling.decision_rules import DecisionRules
from tests.unit.modelling.key_rules import InterceptorRules, KeyRules, NeighbourRules
from tests.unit.modelling.older_event_rules import OlderEventRules
from tests.unit.modelling.repository_rules import (
    CommandRules,
    IdempotencyRules,
    PipelineRules,
)
from tests.unit.modelling.state_rules import SnapshotRules, TimeTravelRules
from tests.unit.modelling.stored_rules import StorableRules, UnreadableRules
from tests.unit.modelling.stored_state_rules import RevisionRules, StoredStateRules
from tests.unit.modelling.tag_rules import TagRules


@pytest.fixture(params=["sqlite", POSTGRES])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventStore]:
    if request.param == "sqlite":
        store: EventStore = await SQLiteEventStore.open(tmp_path / "events.db")
    else:
        store = await PostgresEventStore.open(request.getfixturevalue("postgres_url"))
    yield store
    await store.close()


class TestCommands(CommandRules):
    pass


class TestIdempotency(IdempotencyRules):
    pass


class TestKeys(KeyRules):
    pass


class TestNeighbours(NeighbourRules):
    pass


class TestInterceptors(InterceptorRules):
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


class TestStorable(StorableRules):
    pass


class TestUnreadable(UnreadableRules):
    pass


class TestStoredStates(StoredStateRules):
    pass


class TestRevisions(RevisionRules):
    pass


class TestOlderEvents(OlderEventRules):
    pass
