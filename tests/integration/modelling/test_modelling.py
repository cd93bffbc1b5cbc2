"""The repository and decision models on the event stores in SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater.dispatch import CommandResult
from headwater.errors import InvalidInput
from headwater.eventstore import EventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from tests.postgres_server import POSTGRES
from tests.unit.modelling.decision_rules import DecisionRules
from tests.unit.modelling.key_rules import InterceptorRules, KeyRules, NeighbourRules
from tests.unit.modelling.ledger import Deposit, Open
from tests.unit.modelling.older_event_rules import OlderEventRules
from tests.unit.modelling.repository_rules import (
    CommandRules,
    IdempotencyRules,
    PipelineRules,
    bus_on,
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


class Spoiling:
    """A store that is given what it cannot store in place of some deposits."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, writes: Any, **options: Any) -> Any:
        if any(f'"amount":{SPOILT}'.encode() in event.data for event in writes[0].events):
            events = [msgspec.structs.replace(e, type_version="x") for e in writes[0].events]
            writes = [msgspec.structs.replace(writes[0], events=events)]
        return self._store.append(writes, **options)


SPOILT = 13


@pytest.mark.parametrize("good", [1, 5, 100])
async def test_beside_what_cannot_be_stored(store: EventStore, good: int) -> None:
    """What cannot be stored fails by itself, however much of it there is; the rest is stored."""
    bus = bus_on(Spoiling(store), attempts=3)  # type: ignore[arg-type]  # it passes everything on
    await bus.send(Open("7"))
    amounts = [SPOILT, *([1] * good)] * (400 // (1 + good))
    outcomes = await asyncio.gather(
        *(bus.send(Deposit("7", amount)) for amount in amounts), return_exceptions=True
    )
    told = {(amount, type(each)) for amount, each in zip(amounts, outcomes, strict=True)}
    assert told == {(SPOILT, InvalidInput), (1, CommandResult)}
    assert await store.version("Account/7") == 1 + amounts.count(1)
    assert await store.head() == 1 + amounts.count(1)
