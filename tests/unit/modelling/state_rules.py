"""Rules of snapshots and of past states, for every event store."""

from typing import ClassVar

import msgspec
import pytest

from headwater.dispatch.local import LocalCommandBus
from headwater.errors import AggregateNotFound, StoreUnavailable
from headwater.eventstore import EventStore, Snapshot
from headwater.messages import Event, wire
from headwater.modelling import Aggregate, Repository, command_handler, event_sourcing_handler
from headwater.modelling.state import aggregate_type
from tests.unit.modelling.ledger import Account, Deposit, Deposited, Open
from tests.unit.modelling.repository_rules import log_of, put


async def account(store: EventStore, *, deposits: int) -> Repository[Account]:
    """Open account 7, pay in 1, 2, 3, ... and return the repository, its snapshots saved."""
    repository = Repository(Account, store, source="accounts")
    bus = LocalCommandBus([repository.handlers()])
    await bus.send(Open("7"))
    for amount in range(1, deposits + 1):
        await bus.send(Deposit("7", amount))
    await repository.close()
    return repository


class SnapshotRules:
    """Snapshots save work and change nothing."""

    async def test_taken_in_the_background(self, store: EventStore) -> None:
        """Every so many events the state is kept, with its version and its shape."""
        await account(store, deposits=11)
        snapshot = await store.load_snapshot("Account/7")
        assert snapshot is not None
        assert snapshot.version == 10
        assert snapshot.fingerprint == aggregate_type(Account).fingerprint
        assert msgspec.json.decode(snapshot.data)["balance"] == 45

    async def test_taken_when_loading_was_slow(self, store: EventStore) -> None:
        """Loading that took longer than allowed ends in a snapshot, unless nothing was replayed."""

        class Slow(Aggregate):
            stream_name: ClassVar[str] = "Account"
            snapshot_every: ClassVar[int] = 0
            snapshot_load_ms: ClassVar[float] = 50
            total: int = 0

            @command_handler
            def deposit(self, command: Deposit) -> Deposited:
                return Deposited(self.id, command.amount)

            @event_sourcing_handler
            def deposited(self, event: Deposited) -> None:
                self.total += event.amount

        async def load_in(seconds: float) -> Snapshot | None:
            ticks = iter((0.0, seconds))
            slow = Repository(Slow, store, source="x", clock=lambda: next(ticks))
            await LocalCommandBus([slow.handlers()]).send(Deposit("7", 10))
            await slow.close()
            return await store.load_snapshot("Account/7")

        await put(store, "7", Deposited("7", 1), Deposited("7", 2))
        assert await load_in(0.050) is None
        snapshot = await load_in(0.051)
        assert snapshot is not None
        assert (snapshot.version, msgspec.json.decode(snapshot.data)["total"]) == (3, 13)
        await store.save_snapshot(
            Snapshot("Account/7", 4, snapshot.fingerprint, b'{"id":"7","total":23}')
        )
        assert await load_in(1.0) == Snapshot(
            "Account/7", 4, snapshot.fingerprint, b'{"id":"7","total":23}'
        )

    async def test_used(self, store: EventStore) -> None:
        """A snapshot is where loading starts: earlier events are not read again."""
        await account(store, deposits=7)
        marked = Account(id="7", balance=1_000_000, movements=5)
        await store.save_snapshot(
            Snapshot(
                "Account/7", 5, aggregate_type(Account).fingerprint, msgspec.json.encode(marked)
            )
        )
        now = await Repository(Account, store, source="x").state("7")
        assert (now.state.balance, now.version) == (1_000_000 + 5 + 6 + 7, 8)

    async def test_ignored_when_the_shape_has_changed(self, store: EventStore) -> None:
        """After the state's fields changed, snapshots of the old shape are ignored."""
        await account(store, deposits=7)

        class Changed(Aggregate):
            stream_name: ClassVar[str] = "Account"
            total: int = 0
            largest: int = 0

            @event_sourcing_handler
            def deposited(self, event: Deposited) -> None:
                self.total += event.amount
                self.largest = max(self.largest, event.amount)

        now = await Repository(Changed, store, source="x").state("7")
        assert (now.state.total, now.state.largest, now.version) == (28, 7, 8)

    async def test_ignored_when_unreadable(self, store: EventStore) -> None:
        """A snapshot that cannot be read is ignored; the events are the truth."""
        await account(store, deposits=7)
        fingerprint = aggregate_type(Account).fingerprint
        await store.save_snapshot(Snapshot("Account/7", 8, fingerprint, b'{"balance":"much"}'))
        now = await Repository(Account, store, source="x").state("7")
        assert (now.state.balance, now.version) == (28, 8)

    async def test_failure_harms_nothing(self, store: EventStore) -> None:
        """When a snapshot cannot be saved, the commands go on."""

        class Failing:
            def __getattr__(self, name: str) -> object:
                return getattr(store, name)

            async def save_snapshot(self, snapshot: Snapshot) -> None:
                raise StoreUnavailable(store="x", reason=f"no room for {snapshot.stream}")

        repository = await account(Failing(), deposits=12)  # type: ignore[arg-type]  # a store
        assert (await repository.state("7")).version == 13
        assert await store.load_snapshot("Account/7") is None

    async def test_not_older_than_asked_for(self, store: EventStore) -> None:
        """A past state is not served from a snapshot that is younger."""
        repository = await account(store, deposits=7)
        assert (await repository.state("7", at_version=3)).state.balance == 3


class TimeTravelRules:
    """The state as it was."""

    async def test_now(self, store: EventStore) -> None:
        """Without a point in time, the state is the present one."""
        repository = await account(store, deposits=3)
        events = await log_of(store)
        now = await repository.state("7")
        assert (now.state.balance, now.version, now.position) == (6, 4, 4)
        assert now.time == events[-1].time

    async def test_at_version(self, store: EventStore) -> None:
        """After each version the state is what it was then."""
        repository = await account(store, deposits=12)
        for version in range(1, 14):
            then = await repository.state("7", at_version=version)
            assert then.version == version
            assert then.state.balance == sum(range(version))

    async def test_at_position(self, store: EventStore) -> None:
        """At a position of the log the state is that of the stream's last event up to there."""
        repository = await account(store, deposits=2)
        await put(store, "8", Deposited("8", 1), Deposited("8", 1))
        await put(store, "7", Deposited("7", 10))
        assert [
            (await repository.state("7", at_position=position)).state.balance
            for position in range(1, 7)
        ] == [0, 1, 3, 3, 3, 13]

    async def test_at_time(self, store: EventStore) -> None:
        """At a time the state is that of the last event recorded until then."""
        repository = await account(store, deposits=5)
        for event in await log_of(store):
            then = await repository.state("7", at_time=event.time)
            assert then.time == event.time
            assert then.version >= event.version

    async def test_before_the_first_event(self, store: EventStore) -> None:
        """Before its first event, and without any, the aggregate is not found."""
        repository = await account(store, deposits=1)
        first = (await log_of(store))[0]
        for point in ({"at_version": 0}, {"at_position": 0}, {"at_time": first.time - 1}):
            with pytest.raises(AggregateNotFound, match="'7'"):
                await repository.state("7", **point)
        with pytest.raises(AggregateNotFound, match="'8'"):
            await repository.state("8")

    async def test_state_is_a_copy(self, store: EventStore) -> None:
        """What is done to a state that was asked for does not reach the cache."""
        repository = await account(store, deposits=1)
        (await repository.state("7")).state.balance = 99
        assert (await repository.state("7")).state.balance == 1

    async def test_unknown_events_are_passed_over(self, store: EventStore) -> None:
        """An event that the aggregate does not handle changes nothing but the version."""

        @wire("SomethingElse")
        class SomethingElse(Event):
            id: str

        repository = await account(store, deposits=1)
        await put(store, "7", SomethingElse("7"))
        now = await repository.state("7")
        assert (now.state.balance, now.version) == (1, 3)
