"""Rules of the repository, for every event store."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from headwater.dispatch import CommandMessage
from headwater.dispatch.local import LocalCommandBus
from headwater.errors import (
    AggregateExists,
    AggregateNotFound,
    ConcurrencyConflict,
    IdempotencyKeyReused,
    InvalidInput,
)
from headwater.eventstore import EventStore, Page, Snapshot, StoredEvent, StreamWrite
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages import ConsistencyToken, Metadata
from headwater.messages.codec import decode_metadata
from headwater.modelling import (
    Aggregate,
    Events,
    Repository,
    command_handler,
    event_sourcing_handler,
)
from headwater.modelling.encoding import new_events
from headwater.modelling.models import DecisionHandlers
from tests.unit.modelling.ledger import (
    Account,
    Deposit,
    Deposited,
    EmailAddress,
    Ensure,
    Insufficient,
    Misbehave,
    Open,
    Opened,
    ReserveEmail,
    Withdraw,
    Withdrawn,
)


def bus_on(store: EventStore, **options: Any) -> LocalCommandBus:
    repository = Repository(Account, store, source="accounts", **options)
    decisions = DecisionHandlers(EmailAddress, store, source="accounts")
    return LocalCommandBus([repository.handlers(), decisions.handlers()])


async def log_of(store: EventStore) -> list[StoredEvent]:
    return [event async for page in store.read() for event in page.events]


async def types_of(store: EventStore) -> list[str]:
    return [event.type for event in await log_of(store)]


async def put(store: EventStore, id: str, *events: Any) -> None:
    """Store events as another process would."""
    stored = new_events(events, Metadata(id="foreign"))
    await store.append([StreamWrite(f"Account/{id}", stored)])


class Reads:
    """A store that notes what is read of streams."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.made: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def read_stream(self, stream: str, **options: Any) -> AsyncIterator[Page]:
        self.made.append(("read_stream", stream, options["after"]))
        return self.store.read_stream(stream, **options)

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        self.made.append(("load_snapshot", stream))
        return await self.store.load_snapshot(stream)


class CommandRules:
    """Creating, updating, refusing."""

    async def test_create_then_update(self, store: EventStore) -> None:
        """A creating command begins the stream, the next goes on from its state."""
        bus = bus_on(store)
        first = await bus.send(Open("7"))
        second = await bus.send(Deposit("7", 5))
        assert [(r.id, r.version, r.duplicate) for r in (first, second)] == [
            ("7", 1, False),
            ("7", 2, False),
        ]
        assert await types_of(store) == ["Opened", "Deposited"]

    async def test_token_names_the_position(self, store: EventStore) -> None:
        """The answer's token names the position of the last event, in this store."""
        result = await bus_on(store).send(Open("7"))
        assert result.token == ConsistencyToken.at("accounts", store.epoch, 1).encode()

    async def test_several_events_are_one_append(self, store: EventStore) -> None:
        """A handler may return several events, which are stored together."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        result = await bus.send(Deposit("7", 5, times=3))
        assert result.version == 4
        assert await types_of(store) == ["Opened"] + 3 * ["Deposited"]

    async def test_no_events(self, store: EventStore) -> None:
        """A handler may return no event: nothing is stored, the answer has the version as it is."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        result = await bus.send(Deposit("7", 5, times=0))
        assert (result.version, await store.head()) == (1, 1)

    async def test_rejection_stores_nothing(self, store: EventStore) -> None:
        """A refusal passes to the caller as it is, and stores nothing."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        with pytest.raises(Insufficient) as refusal:
            await bus.send(Withdraw("7", 1), idempotency_key="k")
        assert refusal.value.fields() == {"balance": 0, "amount": 1}
        assert await store.head() == 1

    async def test_rejection_is_not_kept(self, store: EventStore) -> None:
        """A refused command may be sent again with its key, once the state allows it."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        with pytest.raises(Insufficient):
            await bus.send(Withdraw("7", 1), idempotency_key="k")
        await bus.send(Deposit("7", 1))
        result = await bus.send(Withdraw("7", 1), idempotency_key="k")
        assert (result.version, result.duplicate) == (3, False)

    async def test_unknown_aggregate(self, store: EventStore) -> None:
        """An update of an aggregate without events is AggregateNotFound."""
        with pytest.raises(AggregateNotFound, match="Account '7' does not exist"):
            await bus_on(store).send(Deposit("7", 5))
        assert await store.head() == 0

    async def test_existing_aggregate(self, store: EventStore) -> None:
        """Creating what exists is AggregateExists, also on a repository that never saw it."""
        await bus_on(store).send(Open("7"))
        with pytest.raises(AggregateExists, match="Account '7' exists already"):
            await bus_on(store).send(Open("7"))
        assert await store.head() == 1

    async def test_create_if_missing(self, store: EventStore) -> None:
        """A handler that creates if missing runs on both, an empty state and a present one."""
        bus = bus_on(store)
        assert (await bus.send(Ensure("7"))).version == 1
        assert (await bus.send(Ensure("7"))).version == 1
        assert await types_of(store) == ["Opened"]

    @pytest.mark.parametrize("id", ["", "a\nb", "\x00", "x" * 201, ".", ".."])
    async def test_bad_id(self, store: EventStore, id: str) -> None:
        """An id that is empty, overlong, or has control characters is refused."""
        bus = bus_on(store)
        with pytest.raises(InvalidInput, match="must have 1 to 200 characters"):
            await bus.send(Open(id))
        with pytest.raises(InvalidInput, match="must have 1 to 200 characters"):
            await bus.send(ReserveEmail(id))
        assert await store.head() == 0

    async def test_not_an_event(self, store: EventStore) -> None:
        """A handler that returns something else is a fault of the program, and stores nothing."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        with pytest.raises(TypeError, match=r"returned Misbehave.*not an Event"):
            await bus.send(Misbehave("7"))
        assert (await bus.send(Deposit("7", 1))).version == 2

    async def test_metadata_of_events(self, store: EventStore) -> None:
        """Each event names its command as cause and inherits correlation, trace and principal."""
        cause = Metadata(
            id="c", correlation_id="start", traceparent="t", principal="eve", tenant="shop"
        )
        await bus_on(store).dispatch(CommandMessage(Open("7"), cause))
        metadata = decode_metadata((await log_of(store))[0].metadata)
        assert metadata.causation_id == "c"
        assert metadata.correlation_id == "start"
        assert (metadata.traceparent, metadata.principal, metadata.tenant) == ("t", "eve", "shop")
        assert metadata.id not in {"", "c"}


class IdempotencyRules:
    """The same key gives the first outcome."""

    async def test_same_key_same_command(self, store: EventStore) -> None:
        """The same command with the same key has one effect, and the same outcome each time."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        first = await bus.send(Deposit("7", 5), idempotency_key="k")
        await bus.send(Deposit("7", 1))
        for again in (bus, bus_on(store)):
            second = await again.send(Deposit("7", 5), idempotency_key="k")
            assert (second.version, second.token) == (first.version, first.token)
            assert second.duplicate
        assert await store.head() == 3

    async def test_same_key_other_command(self, store: EventStore) -> None:
        """The same key with another content is refused, also when the handler refuses it."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        await bus.send(Deposit("7", 5), idempotency_key="k")
        for command in (Deposit("7", 6), Withdraw("7", 999), Deposit("7", 5, times=0)):
            with pytest.raises(IdempotencyKeyReused, match="'k' was used before"):
                await bus.send(command, idempotency_key="k")
        assert await store.head() == 2

    async def test_creating_twice(self, store: EventStore) -> None:
        """A creating command sent again with its key is the first outcome, not AggregateExists."""
        first = await bus_on(store).send(Open("7"), idempotency_key="k")
        second = await bus_on(store).send(Open("7"), idempotency_key="k")
        assert (second.version, second.token, second.duplicate) == (1, first.token, True)

    async def test_key_of_a_command_without_events(self, store: EventStore) -> None:
        """A command without events keeps its key and its outcome too."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        nothing = Deposit("7", 5, times=0)
        first = await bus.send(nothing, idempotency_key="k")
        await bus.send(Deposit("7", 1))
        second = await bus.send(nothing, idempotency_key="k")
        assert (first.version, first.duplicate) == (1, False)
        assert (second.version, second.token, second.duplicate) == (1, first.token, True)
        with pytest.raises(IdempotencyKeyReused):
            await bus.send(Deposit("7", 2), idempotency_key="k")

    async def test_key_counts_what_the_caller_sent(self, store: EventStore) -> None:
        """The key belongs to the command as sent, whatever interceptors make of it."""
        amounts = iter([5, 6])

        async def vary(message: CommandMessage, proceed: Any) -> Any:
            assert isinstance(message.command, Deposit)
            changed = Deposit(message.command.account_id, next(amounts))
            return await proceed(
                CommandMessage(
                    changed, message.metadata, message.idempotency_key, message.fingerprint
                )
            )

        await bus_on(store).send(Open("7"))
        repository = Repository(Account, store, source="accounts")
        bus = LocalCommandBus([repository.handlers()], interceptors=[vary])
        first = await bus.send(Deposit("7", 1), idempotency_key="k")
        second = await bus.send(Deposit("7", 1), idempotency_key="k")
        assert (second.version, second.duplicate) == (first.version, True)

    async def test_twice_at_once(self, store: EventStore) -> None:
        """The same command with the same key sent many times at once has one effect."""
        bus, other = bus_on(store), bus_on(store)
        await bus.send(Open("7"))
        results = await asyncio.gather(
            *(b.send(Deposit("7", 5), idempotency_key="k") for b in (bus, other) * 10)
        )
        assert {r.version for r in results} == {2}
        assert sorted(r.duplicate for r in results) == [False] + 19 * [True]
        assert await store.head() == 2


class PipelineRules:
    """Many commands on one aggregate at once."""

    async def test_hot_aggregate(self, store: EventStore) -> None:
        """Commands of one aggregate sent at once are all carried out, in the order of sending."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        results = await asyncio.gather(*(bus.send(Deposit("7", n)) for n in range(100)))
        assert [r.version for r in results] == list(range(2, 102))

    async def test_refusal_on_the_state_before(self, store: EventStore) -> None:
        """A command in the pipeline is decided on what those before it leave."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        outcomes = await asyncio.gather(
            bus.send(Deposit("7", 10)),
            bus.send(Withdraw("7", 8)),
            bus.send(Withdraw("7", 8)),
            bus.send(Deposit("7", 6)),
            bus.send(Withdraw("7", 8)),
            return_exceptions=True,
        )
        assert isinstance(outcomes[2], Insufficient)
        assert outcomes[2].balance == 2
        assert [o.version for o in outcomes if not isinstance(o, BaseException)] == [2, 3, 4, 5]

    async def test_stream_moved_on_elsewhere(self, store: EventStore) -> None:
        """What another process stored is seen before anything is decided for good."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        await put(store, "7", Deposited("7", 10))
        assert (await bus.send(Withdraw("7", 10))).version == 3
        await put(store, "7", Deposited("7", 3))
        with pytest.raises(Insufficient) as refusal:
            await bus.send(Withdraw("7", 4))
        assert refusal.value.balance == 3

    async def test_conflict_reads_what_is_new(self, store: EventStore) -> None:
        """Where another process interferes again and again, only its events are read."""
        reads = Reads(store)
        bus = bus_on(reads)
        await bus.send(Open("7"))
        for _ in range(2):
            await put(store, "7", Deposited("7", 10))
            await bus.send(Withdraw("7", 1))
        await put(store, "7", Deposited("7", 3), Deposited("7", 4))
        reads.made.clear()
        outcomes = await asyncio.gather(
            bus.send(Withdraw("7", 19)),  # which cannot be decided on what was known
            bus.send(Withdraw("7", 5)),
            bus.send(Withdraw("7", 1)),
        )
        assert reads.made == [("read_stream", "Account/7", 5)]
        assert sorted(outcome.version for outcome in outcomes) == [8, 9, 10]
        with pytest.raises(Insufficient) as refusal:
            await bus.send(Withdraw("7", 1))
        assert refusal.value.balance == 0

    async def test_events_that_cannot_be_applied(self, store: EventStore) -> None:
        """A command whose events cannot be applied has no effect on those that wait beside it."""

        class Fragile(Aggregate):
            stream_name: ClassVar[str] = "Account"
            balance: int = 0

            @command_handler
            def deposit(self, command: Deposit) -> Events:
                return [Deposited(self.id, command.amount), Deposited(self.id, -1)]

            @command_handler
            def withdraw(self, command: Withdraw) -> Withdrawn:
                if command.amount > self.balance:
                    raise Insufficient(balance=self.balance, amount=command.amount)
                return Withdrawn(self.id, command.amount)

            @event_sourcing_handler
            def deposited(self, event: Deposited) -> None:
                if event.amount < 0:
                    raise ArithmeticError(event.amount)
                self.balance += event.amount

        await put(store, "7", Opened("7"))
        bus = LocalCommandBus([Repository(Fragile, store, source="accounts").handlers()])
        outcomes = await asyncio.gather(  # both wait for the aggregate to be loaded
            bus.send(Deposit("7", 5)), bus.send(Withdraw("7", 5)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [ArithmeticError, Insufficient]
        assert await types_of(store) == ["Opened"]

    async def test_shorter_stream_than_known(self, store: EventStore) -> None:
        """A stream that is shorter than it was (restored, say) is read from its beginning."""
        stores = [store, MemoryEventStore()]
        switch = Reads(store)
        bus = bus_on(switch)
        await bus.send(Open("7"))
        await put(store, "7", Deposited("7", 10))
        await bus.send(Withdraw("7", 1))
        switch.store = stores[1]
        await put(stores[1], "7", Opened("7"), Deposited("7", 5))
        result = await bus.send(Withdraw("7", 5))
        assert (result.version, await stores[1].version("Account/7")) == (3, 3)
        await stores[1].close()

    async def test_broken_pipeline_is_decided_again(self, store: EventStore) -> None:
        """When an append fails, all that was decided on it is decided again on the true state."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        await bus.send(Deposit("7", 10))
        await put(store, "7", Deposited("7", -10))
        outcomes = await asyncio.gather(
            bus.send(Withdraw("7", 10)),
            bus.send(Deposit("7", 4)),
            bus.send(Withdraw("7", 4)),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], Insufficient)
        assert outcomes[0].balance == 0
        assert await types_of(store) == ["Opened"] + 3 * ["Deposited"] + ["Withdrawn"]

    async def test_duplicate_inside_a_pipeline(self, store: EventStore) -> None:
        """A duplicate in the middle of a pipeline changes nothing for those behind it."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        await bus.send(Deposit("7", 10), idempotency_key="k")
        outcomes = await asyncio.gather(
            bus.send(Withdraw("7", 10)),
            bus.send(Deposit("7", 10), idempotency_key="k"),
            bus.send(Withdraw("7", 10)),
            return_exceptions=True,
        )
        assert isinstance(outcomes[2], Insufficient)
        assert await types_of(store) == ["Opened", "Deposited", "Withdrawn"]

    async def test_cancelled_command(self, store: EventStore) -> None:
        """A cancelled command is carried out or not; those behind it see the truth."""
        bus = bus_on(store)
        await bus.send(Open("7"))
        await bus.send(Deposit("7", 10))
        cancelled = asyncio.create_task(bus.send(Withdraw("7", 10)))
        behind = asyncio.create_task(bus.send(Withdraw("7", 10)))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled, behind])
        types = await types_of(store)
        assert types.count("Withdrawn") == 1
        if not behind.exception():
            assert behind.result().version == 3
        assert (await bus.send(Deposit("7", 1))).version == 4

    async def test_endless_conflicts_end(self, store: EventStore) -> None:
        """When others keep winning, the command fails with a conflict after bounded attempts."""
        bus = bus_on(Contended(store), attempts=3)
        await bus_on(store).send(Open("7"))
        with pytest.raises(ConcurrencyConflict, match="reload it and decide again"):
            await bus.send(Deposit("7", 1))

    async def test_cache_is_bounded(self, store: EventStore) -> None:
        """At most the stated number of aggregates stays in memory; the others are loaded again."""
        repository = Repository(Account, store, source="accounts", cache_size=10)
        bus = LocalCommandBus([repository.handlers()])
        await asyncio.gather(*(bus.send(Open(str(n))) for n in range(50)))
        assert len(repository._live) <= 10
        for n in range(50):
            assert (await bus.send(Deposit(str(n), n))).version == 2
        assert len(repository._live) <= 10


class Contended:
    """A store where somebody else writes to the stream just before each append."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, writes: Any, **options: Any) -> Any:
        await put(self._store, "7", Deposited("7", 1))
        return await self._store.append(writes, **options)
