"""Aggregates on a sharded store: the same answers, and tokens that name the shard."""

import asyncio

import pytest

from headwater.dispatch.local import LocalCommandBus
from headwater.errors import (
    AggregateExists,
    AggregateNotFound,
    ConfigurationError,
    IdempotencyKeyReused,
    Rejection,
)
from headwater.eventstore import ShardedEventStore
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages import Command, ConsistencyToken, Event
from headwater.messages.token import SourceState
from headwater.modelling import Aggregate, Repository, command_handler, event_sourcing_handler
from headwater.modelling.models import check_shardable
from tests.unit.modelling.ledger import Account, EmailAddress

SHARDS = 3


class Start(Command):
    counter_id: str


class Add(Command):
    counter_id: str
    by: int


class Started(Event):
    counter_id: str


class Added(Event):
    counter_id: str
    by: int


class TooMuch(Rejection):
    total: int


class Counter(Aggregate):
    snapshot_every = 4
    total: int = 0

    @command_handler(creates=True)
    def start(self, command: Start) -> Started:
        return Started(command.counter_id)

    @command_handler
    def add(self, command: Add) -> Added | None:
        if command.by > 100:
            raise TooMuch(total=self.total)
        return Added(command.counter_id, command.by) if command.by else None

    @event_sourcing_handler
    def added(self, event: Added) -> None:
        self.total += event.by


@pytest.fixture
async def store() -> ShardedEventStore:
    return await ShardedEventStore.open([MemoryEventStore() for _ in range(SHARDS)])


@pytest.fixture
def repository(store: ShardedEventStore) -> Repository[Counter]:
    return Repository(Counter, store, source="counters")


@pytest.fixture
def bus(repository: Repository[Counter]) -> LocalCommandBus:
    return LocalCommandBus([repository.handlers()])


def token_of(store: ShardedEventStore, id: str, position: int) -> str:
    shard = store.shard_of(f"Counter/{id}")
    return ConsistencyToken({"counters": SourceState(store.epoch, {shard: position})}).encode()


async def test_tokens_name_the_shard(store: ShardedEventStore, bus: LocalCommandBus) -> None:
    """An answer's token has the position in the shard of the aggregate, and the store's epoch."""
    heads = [0] * SHARDS
    for number in range(12):
        id = str(number)
        heads[store.shard_of(f"Counter/{id}")] += 1
        head = heads[store.shard_of(f"Counter/{id}")]
        assert (await bus.send(Start(id))).token == token_of(store, id, head)
        assert (await bus.send(Add(id, 0))).token == token_of(store, id, head), "of no events"
    assert min(heads) > 0


async def test_a_hot_aggregate_pipelines(store: ShardedEventStore, bus: LocalCommandBus) -> None:
    """Commands that come at once are each decided on the one before, in every shard."""
    ids = [str(number) for number in range(6)]
    for id in ids:
        await bus.send(Start(id))
    await asyncio.gather(*(bus.send(Add(id, 1)) for _ in range(40) for id in ids))
    fresh = Repository(Counter, store, source="counters")
    assert [(await fresh.state(id)).state.total for id in ids] == [40] * len(ids)


async def test_a_repeated_command_is_recognised(bus: LocalCommandBus) -> None:
    """With its key a command has its first outcome, also where its decision would be a refusal."""
    for id in map(str, range(6)):
        first = await bus.send(Start(id), idempotency_key=f"k{id}")
        again = await bus.send(Start(id), idempotency_key=f"k{id}")
        assert (again.version, again.duplicate, again.token) == (1, True, first.token)
        with pytest.raises(AggregateExists):
            await bus.send(Start(id))
        with pytest.raises(IdempotencyKeyReused):
            await bus.send(Add(id, 1), idempotency_key=f"k{id}")


async def test_a_kept_refusal(store: ShardedEventStore, bus: LocalCommandBus) -> None:
    """It is found in whichever shard the command belongs to, also by another process."""
    elsewhere = LocalCommandBus([Repository(Counter, store, source="counters").handlers()])
    for id in map(str, range(6)):
        with pytest.raises(AggregateNotFound):
            await bus.send(Add(id, 1), idempotency_key=f"k{id}", keep_refusal=True)
        await bus.send(Start(id))
        for each in (bus, elsewhere):
            with pytest.raises(AggregateNotFound):
                await each.send(Add(id, 1), idempotency_key=f"k{id}")
    assert [await shard.head() for shard in store.shards] == [
        sum(store.shard_of(f"Counter/{id}") == number for id in range(6))
        for number in range(SHARDS)
    ]


async def test_a_command_repeated_at_once(store: ShardedEventStore, bus: LocalCommandBus) -> None:
    """Whoever sends a command again while it is under way gets its outcome, in every shard."""
    other = LocalCommandBus([Repository(Counter, store, source="counters").handlers()])
    for id in map(str, range(6)):
        for command in (Start(id), Add(id, 3), Add(id, 0)):
            key = f"k{id}-{command!r}"
            first = asyncio.ensure_future(bus.send(command, idempotency_key=key))
            await asyncio.sleep(0)
            first.cancel()
            results = await asyncio.gather(
                *(each.send(command, idempotency_key=key) for each in (bus, other, bus))
            )
            assert len({(result.version, result.token) for result in results}) == 1
            assert sum(not result.duplicate for result in results) <= 1
        assert await store.version(f"Counter/{id}") == 2


async def test_rejections_and_snapshots(
    store: ShardedEventStore, bus: LocalCommandBus, repository: Repository[Counter]
) -> None:
    """A rejection stores nothing, and a snapshot is taken where the stream is."""
    for id in map(str, range(4)):
        await bus.send(Start(id))
        for _ in range(5):
            await bus.send(Add(id, 2))
        with pytest.raises(TooMuch):
            await bus.send(Add(id, 101))
    await repository.close()
    for id in map(str, range(4)):
        assert await store.version(f"Counter/{id}") == 6
        snapshot = await store.load_snapshot(f"Counter/{id}")
        assert snapshot is not None
        assert snapshot.version >= 4


async def test_the_past(store: ShardedEventStore, bus: LocalCommandBus) -> None:
    """Version, time and position (of its shard) tell the state of an aggregate."""
    repository = Repository(Counter, store, source="counters")
    for id in map(str, range(6)):
        await bus.send(Start(id))
        await bus.send(Add(id, 3))
    for id in map(str, range(6)):
        now = await repository.state(id)
        assert (now.state.total, now.version) == (3, 2)
        assert (await repository.state(id, at_version=1)).state.total == 0
        assert (await repository.state(id, at_position=now.position - 1)).state.total == 0
        assert (await repository.state(id, at_time=now.time)).state.total == 3


def test_boundaries_are_refused(store: ShardedEventStore) -> None:
    """What is decided over many streams cannot be on a sharded store; the error names it."""
    with pytest.raises(ConfigurationError, match=r"'Account'.*EmailAddress.*several databases"):
        Repository(Account, store, source="accounts")
    with pytest.raises(ConfigurationError, match="'EmailAddress'"):
        check_shardable(EmailAddress)
    check_shardable(Counter)
