"""Processors over a store that is spread over several databases.

The rules of processing that name no position hold as they are written for one database: their
tests run here once more.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headwater.errors import EventParked, InvalidInput, NotCaughtUp, StoreUnavailable
from headwater.eventbus import EventBus
from headwater.eventbus.postgres import PostgresEventBus
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.eventstore import EventStore, ShardedEventStore
from headwater.eventstore.memory import MemoryEventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import ConsistencyToken, Event
from headwater.messages.token import SourceState
from headwater.modelling import EventMessage, event_handler
from headwater.processing import (
    BusSource,
    Processor,
    ProcessorAdmin,
    Relay,
    StoreSource,
    rebuild,
    view_at,
)
from headwater.processing.relay import relays_of
from headwater.processing.sources.tokens import token_of
from headwater.views import ViewStore
from headwater.views.memory import MemoryViewStore
from headwater.views.postgres import PostgresViewStore
from headwater.views.sqlite import SQLiteViewStore
from tests.integration.processing.conftest import QUICK, Clock, Stores, until
from tests.integration.processing.domain import AccountView, Deposited, Ledger, Opened, stored
from tests.integration.processing.domain import StreamWrite as Write
from tests.integration.processing.test_faults import die, test_views_agree_with_the_log
from tests.integration.processing.test_parking import (
    test_dropping_skips_what_was_parked,
    test_parking_survives_restarts,
    test_parks_the_stream_and_everything_behind_it,
    test_retry_goes_in_order_and_stops_at_the_first_failure,
)
from tests.integration.processing.test_projection import (
    test_effects_are_there_once_over_restarts,
    test_two_owners_share_the_segments,
    test_unknown_types_are_skipped_and_old_versions_lifted,
)
from tests.integration.processing.test_rebuild import (
    test_frozen_generation_is_finished_by_who_runs,
    test_rebuild_is_shared,
    test_rebuild_with_another_shape,
    test_replay_from_the_start_fills_empty_views,
)
from tests.integration.processing.test_resize import (
    test_dead_letters_survive_a_resize,
    test_owners_keep_their_share,
    test_resizes_under_load_lose_and_double_nothing,
)
from tests.integration.processing.test_sagas import (
    bank,
    test_a_failing_saga_is_parked_alone_and_retried,
    test_crash_between_commit_and_sending,
    test_failed_credit_is_compensated,
    test_takeover_of_a_saga_whose_owner_died,
    test_transfers_settle_once,
    test_two_processes_share_the_sagas,
)
from tests.postgres_server import POSTGRES, PostgresServer, drop_schema

__all__ = [
    "bank",
    "test_a_failing_saga_is_parked_alone_and_retried",
    "test_crash_between_commit_and_sending",
    "test_dead_letters_survive_a_resize",
    "test_dropping_skips_what_was_parked",
    "test_effects_are_there_once_over_restarts",
    "test_failed_credit_is_compensated",
    "test_frozen_generation_is_finished_by_who_runs",
    "test_owners_keep_their_share",
    "test_parking_survives_restarts",
    "test_parks_the_stream_and_everything_behind_it",
    "test_rebuild_is_shared",
    "test_rebuild_with_another_shape",
    "test_replay_from_the_start_fills_empty_views",
    "test_resizes_under_load_lose_and_double_nothing",
    "test_retry_goes_in_order_and_stops_at_the_first_failure",
    "test_takeover_of_a_saga_whose_owner_died",
    "test_transfers_settle_once",
    "test_two_owners_share_the_segments",
    "test_two_processes_share_the_sagas",
    "test_unknown_types_are_skipped_and_old_versions_lifted",
    "test_views_agree_with_the_log",
]

ACCOUNTS = [f"a{number}" for number in range(12)]


class ShardedStores(Stores):
    """Stores whose event store is spread; a token names shard and position."""

    def __init__(
        self, clock: Clock, logs: ShardedEventStore, views: ViewStore, bus: EventBus
    ) -> None:
        super().__init__(clock, logs, views, bus)  # type: ignore[arg-type]  # streams will do
        self.logs = logs

    async def caught_up(self, processor: Processor) -> None:
        """Wait until everything was handled or parked."""
        heads = [await log.head() for log in self.logs.shards]
        state = SourceState(self.logs.epoch, dict(enumerate(heads)))
        with contextlib.suppress(EventParked):
            await processor.wait_for(ConsistencyToken({"ledger": state}), timeout_s=20.0)

    async def put(self, account: str, *events: Event) -> ConsistencyToken:
        """Append to an account and return the token of it."""
        appended = await self.logs.append([Write(account, [stored(event) for event in events])])
        epoch = self.logs.epoch
        return ConsistencyToken.at("ledger", epoch, appended.last, shard=appended.shard)

    def ledger(self, owner: str = "me", handlers: Ledger | None = None) -> Processor:
        return Processor(
            handlers or Ledger(),
            source=self.source,
            views=self.views,
            owner=owner,
            settings=QUICK,
        )

    async def balances(self) -> dict[str, int]:
        found = (await self.views.find(AccountView, limit=1000)).items
        return {view.id: view.balance for view in found}


@pytest.fixture(params=["sqlite", POSTGRES])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShardedStores]:
    """Three files, or two schemas; nothing of one is in the other."""
    clock = Clock()
    logs: list[EventStore]
    views: ViewStore
    bus: EventBus
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        other = f"{url}_b"
        request.addfinalizer(lambda: drop_schema(other))  # noqa: PT021  # only with PostgreSQL
        logs = [await PostgresEventStore.open(each) for each in (url, other)]
        views = await PostgresViewStore.open(url, clock=clock)
        bus = await PostgresEventBus.open(url, partitions=8)
    else:
        logs = [await SQLiteEventStore.open(tmp_path / f"events{n}.db") for n in range(3)]
        views = await SQLiteViewStore.open(tmp_path / "views.db", clock=clock)
        bus = await SQLiteEventBus.open(tmp_path / "bus.db", partitions=8)
    made = ShardedStores(clock, await ShardedEventStore.open(logs), views, bus)
    yield made
    for processor in made.started:
        await processor.stop()
    await bus.close()
    await views.close()
    await made.logs.close()


# tokens -------------------------------------------------------------------------------------


async def test_who_waits_sees_what_was_written(stores: ShardedStores) -> None:
    """Each of many waiters returns when its own shard is there, and finds its view."""
    processor = await stores.start(stores.ledger())

    async def open_one(account: str) -> None:
        token = await stores.put(account, Opened(account, "x"))
        await processor.wait_for(token, timeout_s=20)
        assert await stores.views.get(AccountView, account) is not None

    await asyncio.gather(*(open_one(f"b{number}") for number in range(100)))


async def test_another_process_learns_of_every_shard(stores: ShardedStores) -> None:
    """Who works on nothing waits for the tokens in the view store, shard by shard."""
    await stores.start(stores.ledger())
    watching = stores.ledger("watching")
    for account in ACCOUNTS:
        token = await stores.put(account, Opened(account, "x"))
        await watching.wait_for(token, timeout_s=20)
        assert await stores.views.get(AccountView, account) is not None
    beyond = ConsistencyToken.at("ledger", stores.logs.epoch, 999, shard=1)
    with pytest.raises(NotCaughtUp, match="asks for 999"):
        await watching.wait_for(beyond, timeout_s=0.05)
    await watching.stop()


async def test_tokens_in_the_view_store_are_per_shard(stores: ShardedStores) -> None:
    """Each segment's token says how far it is in every shard, in the store's epoch."""
    processor = await stores.start(stores.ledger())
    for account in ACCOUNTS:
        await stores.put(account, Opened(account, "x"))
    await stores.caught_up(processor)
    heads = [await log.head() for log in stores.logs.shards]
    assert min(heads) > 0

    async def arrived() -> bool:
        segments = await stores.views.segments("ledger")
        marks = [token_of(segment.token).positions["ledger"] for segment in segments]
        wanted = {n: (stores.logs.epoch, head) for n, head in enumerate(heads)}
        return all(mark == wanted for mark in marks)

    await until(arrived)
    status = await processor.status()
    assert [(group.position, group.head, group.lag) for group in status.groups] == [
        (sum(heads), sum(heads), 0)
    ]


# replay and the past ------------------------------------------------------------------------


async def test_replay_from_a_time(stores: ShardedStores) -> None:
    """From a time on the events of all shards are handled again; older letters stay."""
    handlers = First()
    handlers.poison = {666}
    processor = await stores.start(stores.ledger(handlers=handlers))
    for account in ACCOUNTS:
        await stores.put(account, Opened(account, "x"), Deposited(account, 1))
    await stores.put("a0", Deposited("a0", 666))
    await stores.caught_up(processor)
    await asyncio.to_thread(_next_microsecond)
    for account in ACCOUNTS[1:]:
        await stores.put(account, Deposited(account, 10))
    await stores.caught_up(processor)
    since = min(
        [
            event.time
            for account in ACCOUNTS[1:]
            async for page in stores.logs.read_stream(account, after=2)
            for event in page.events
        ]
    )
    await processor.stop()
    admin = ProcessorAdmin(First, source=stores.source, views=stores.views, settings=QUICK)
    await admin.reset(time_us=since)
    assert [letter.sequence async for letter in admin.letters()] == ["a0"]
    again = Again()
    processor = await stores.start(stores.ledger("again", again))
    await stores.caught_up(processor)
    assert again.amounts == [10] * len(ACCOUNTS[1:])


class First(Ledger):
    """The processor, whose views are those of all that say this version."""

    name = "ledger"
    version = "1"


class Again(First):
    """The same processor, whose handlers take their events twice."""

    name = "ledger"

    def __init__(self) -> None:
        super().__init__()
        self.amounts: list[int] = []

    @event_handler(AccountView, key="account_id")
    def deposited(
        self, view: AccountView, event: Deposited, message: EventMessage[Deposited]
    ) -> None:
        assert view.id == message.stream
        self.amounts.append(event.amount)


def _next_microsecond() -> None:
    """Let the clock of the stores move on, so that what comes is later."""
    before = datetime.now(UTC)
    while datetime.now(UTC) <= before:
        pass


async def test_replay_from_a_position_is_refused(stores: ShardedStores) -> None:
    """There is no position that all shards share, so nothing is replayed from one."""
    await stores.put("a", Opened("a", "x"))
    admin = ProcessorAdmin(Ledger, source=stores.source, views=stores.views, settings=QUICK)
    with pytest.raises(InvalidInput, match="go by time, or from the start"):
        await admin.reset(position=1)


async def test_a_view_of_the_past(stores: ShardedStores) -> None:
    """A view can be had as it was at a time; at a position only where there is one log."""
    for account in ACCOUNTS:
        await stores.put(account, Opened(account, "x"), Deposited(account, 1))
    await asyncio.to_thread(_next_microsecond)
    then = datetime.now(UTC)
    await asyncio.to_thread(_next_microsecond)
    for account in ACCOUNTS:
        await stores.put(account, Deposited(account, 1))
    for time, balance in ((then, 1), (datetime.now(UTC), 2)):
        for account in ACCOUNTS:
            found = await view_at(
                Ledger,
                AccountView,
                account,
                source=stores.source,
                scratch=MemoryViewStore(),
                time=time,
            )
            assert found is not None
            assert found.balance == balance
    with pytest.raises(InvalidInput, match="positions of its own"):
        await view_at(
            Ledger,
            AccountView,
            "a0",
            source=stores.source,
            scratch=MemoryViewStore(),
            position=3,
        )


async def test_rebuild_under_traffic(stores: ShardedStores) -> None:
    """While a projection is built anew, readers with tokens of any shard never see the past."""
    for account in ACCOUNTS:
        await stores.put(account, Opened(account, "x"), *[Deposited(account, 1)] * 10)
    processor = await stores.start(stores.ledger())
    await stores.caught_up(processor)
    written = dict.fromkeys(ACCOUNTS, 10)
    stop = asyncio.Event()

    async def write_and_read() -> None:
        chance = random.Random(7)  # not for secrets
        while not stop.is_set():
            account = chance.choice(ACCOUNTS)
            token = await stores.put(account, Deposited(account, 1))
            written[account] += 1
            await processor.wait_for(token, timeout_s=20)
            view = await stores.views.get(AccountView, account)
            assert view is not None
            assert view.balance >= written[account], "a reader saw the past"

    traffic = asyncio.create_task(write_and_read())
    generation = await rebuild(
        Ledger, source=stores.source, views=stores.views, owner="me", settings=QUICK
    )
    stop.set()
    await traffic
    assert generation == 2
    await stores.caught_up(processor)
    assert await stores.balances() == written


# the bus ------------------------------------------------------------------------------------


def on_bus(stores: ShardedStores, owner: str) -> Processor:
    source = BusSource(stores.bus, sources=["ledger"])
    return Processor(Ledger(), source=source, views=stores.views, owner=owner, settings=QUICK)


async def start_relays(stores: ShardedStores, owner: str) -> list[Relay]:
    relays = relays_of(
        stores.logs, stores.bus, name="ledger", views=stores.views, owner=owner, settings=QUICK
    )
    for relay in relays:
        await relay.start()
    return relays


async def test_each_event_has_its_effect_once_over_the_bus(stores: ShardedStores) -> None:
    """Relays that crash publish again, and subscribers tell the shards' positions apart."""
    reader = await stores.start(on_bus(stores, "reader"))
    expected = dict.fromkeys(ACCOUNTS, 0)
    for turn in range(4):
        relays = await start_relays(stores, f"turn-{turn}")
        marks = []
        for account in ACCOUNTS:
            events: list[Event] = [] if turn else [Opened(account, "x")]
            events += [Deposited(account, 1)] * (turn + 1)
            expected[account] += turn + 1
            marks.append(await stores.put(account, *events))
        for token in marks:
            await reader.wait_for(token, timeout_s=20)
        assert await stores.balances() == expected
        for relay in relays:
            if turn % 2:
                await relay.stop()
            else:
                await crash(relay)
        stores.clock.skip(2)
        if turn == 1:
            await die(reader)
            stores.clock.skip(2)
            reader = await stores.start(on_bus(stores, "reader-2"))


async def crash(relay: Relay) -> None:
    """End a relay without giving its claim back, and before its last checkpoint, perhaps."""
    await die(relay._processor)


async def test_relays_are_shared(stores: ShardedStores) -> None:
    """Each shard has a relay of its own, with a claim and a checkpoint of its own."""
    relays = await start_relays(stores, "one")
    assert [relay.name for relay in relays][:2] == ["relay-ledger", "relay-ledger/1"]
    for account in ACCOUNTS:
        await stores.put(account, Opened(account, "x"))

    async def published() -> bool:
        statuses = [await relay.status() for relay in relays]
        return all(0 < one.position == one.head for one in statuses)

    await until(published)
    for relay in relays:
        await relay.stop()


# a shard that is away -----------------------------------------------------------------------


async def test_the_loss_of_one_server_stops_only_its_shard(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """With one database killed the others' events are handled on; when it is back, its own."""
    logs: list[EventStore] = [
        await SQLiteEventStore.open(tmp_path / "events.db"),
        await PostgresEventStore.open(own_postgres.url(schema="shard")),
    ]
    views = await SQLiteViewStore.open(tmp_path / "views.db")
    bus = await SQLiteEventBus.open(tmp_path / "bus.db", partitions=2)
    stores = ShardedStores(Clock(), await ShardedEventStore.open(logs), views, bus)
    by_shard = [[a for a in ACCOUNTS if stores.logs.shard_of(a) == n] for n in (0, 1)]
    assert all(by_shard)
    processor = await stores.start(stores.ledger())
    for account in ACCOUNTS:
        await stores.put(account, Opened(account, "x"))
    await stores.caught_up(processor)
    await asyncio.to_thread(own_postgres.kill)
    for _ in range(5):
        for account in by_shard[0]:
            token = await stores.put(account, Deposited(account, 1))
            await processor.wait_for(token, timeout_s=20)
    own_postgres.start()
    async with asyncio.timeout(30):
        for account in by_shard[1]:
            await processor.wait_for(await _put_when_back(stores, account), timeout_s=20)
    found = await stores.balances()
    assert found == {account: 5 if account in by_shard[0] else 1 for account in ACCOUNTS}
    await processor.stop()
    await bus.close()
    await views.close()
    await stores.logs.close()


async def _put_when_back(stores: ShardedStores, account: str) -> ConsistencyToken:
    """Append exactly once, as soon as the server takes it."""
    while True:
        try:
            write = Write(account, [stored(Deposited(account, 1))], expected=1)
            appended = await stores.logs.append([write])
        except StoreUnavailable:
            await asyncio.sleep(0)
        else:
            epoch = stores.logs.epoch
            return ConsistencyToken.at("ledger", epoch, appended.last, shard=appended.shard)


async def test_what_is_stored_belongs_to_the_store(stores: ShardedStores) -> None:
    """A processor with tokens of another sharded store does not go on; it fills its views anew."""
    processor = await stores.start(stores.ledger())
    await stores.put("a", Opened("a", "x"))
    await stores.caught_up(processor)
    await processor.stop()
    other = await ShardedEventStore.open([MemoryEventStore(), MemoryEventStore()])
    stranger = Processor(
        Ledger(),
        source=StoreSource(other, "ledger"),
        views=stores.views,
        owner="stranger",
        settings=QUICK,
    )

    async def anew() -> bool:
        return await stores.views.get(AccountView, "a") is None

    assert not await anew()
    await stores.start(stranger)
    await until(anew)
