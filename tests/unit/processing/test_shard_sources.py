"""What processors make of a sharded store: tokens per shard, merged reading, consistency."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from headwater.errors import InvalidInput, StoreUnavailable, TokenMismatch
from headwater.eventbus import BusEvent
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventstore import EVERYTHING, EventStore, Page, ShardedEventStore, StoredEvent
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages import ConsistencyToken, Event
from headwater.messages.hashing import stable_hash
from headwater.messages.token import SourceState
from headwater.modelling import EventHandlers, EventMessage, event_handler
from headwater.processing import BusSource, Processor, ProcessorSettings, StoreSource
from headwater.processing.running.claims import ProcessorMember
from headwater.processing.sources.consistency import consistency_of
from headwater.processing.sources.shards import close_iterator, following
from headwater.processing.sources.source import SourcePage
from headwater.processing.sources.tokens import Token, log_name, service_of, store_token
from headwater.testing.eventstore_base import ManualClock, event, write
from headwater.views.memory import MemoryViewStore

WAIT_S_MAX = 10.0
NAMES = [f"Account/{number}" for number in range(12)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> ShardedEventStore:
    return await ShardedEventStore.open([MemoryEventStore(clock=clock) for _ in range(3)])


@pytest.fixture
def source(store: ShardedEventStore) -> StoreSource:
    return StoreSource(store, "accounts")


async def put(store: ShardedEventStore, *streams: str) -> None:
    for stream in streams:
        await store.append([write(stream, event("Noted"))])


def at(source: StoreSource, *positions: int) -> Token:
    return store_token(source.name, source.store.epoch, *positions)


async def take(pages: AsyncIterator[SourcePage], number: int) -> list[SourcePage]:
    """Return pages until they have that many events."""
    found: list[SourcePage] = []
    async with asyncio.timeout(WAIT_S_MAX):
        async for page in pages:
            found.append(page)
            if sum(len(one.events) for one in found) >= number:
                break
    await close_iterator(pages)
    return found


def ordered(pages: Sequence[SourcePage]) -> dict[str, list[int]]:
    """Return the versions by stream, in the order in which they came."""
    found: dict[str, list[int]] = {}
    for page in pages:
        for one in page.events:
            assert isinstance(one, StoredEvent)
            found.setdefault(one.stream, []).append(one.version)
    return found


# reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 3, 100])
async def test_all_shards_are_followed(
    store: ShardedEventStore, source: StoreSource, page_size: int
) -> None:
    """Events of all shards come, those of a stream in order, before and after the begin."""
    await put(store, *NAMES, *NAMES)
    pages = source.follow(await source.begin(), types=(), page_size=page_size)
    before = await take(pages, 24)
    assert ordered(before) == {name: [1, 2] for name in NAMES}
    assert before[-1].token.positions == (await source.head()).positions
    pages = source.follow(before[-1].token, types=(), page_size=page_size)
    coming = asyncio.ensure_future(take(pages, 24))
    await put(store, *NAMES, *NAMES)
    assert ordered(await coming) == {name: [3, 4] for name in NAMES}


async def test_each_token_is_where_its_page_ends(
    store: ShardedEventStore, source: StoreSource
) -> None:
    """Who begins again at the token of any page misses nothing, and sees nothing twice."""
    await put(store, *NAMES, *NAMES)
    pages = await take(source.follow(await source.begin(), types=(), page_size=2), 24)
    for number, page in enumerate(pages[:-1]):
        rest = await take(
            source.follow(page.token, types=(), page_size=50),
            24 - sum(len(one.events) for one in pages[: number + 1]),
        )
        whole = ordered([*pages[: number + 1], *rest])
        assert whole == {name: [1, 2] for name in NAMES}


async def test_reading_towards_a_goal(store: ShardedEventStore, source: StoreSource) -> None:
    """Reading ends at the goal in every shard, also when some shards are there already."""
    await put(store, *NAMES)
    goal = await source.head()
    await put(store, *NAMES)
    found = [p async for p in source.towards(await source.begin(), goal, types=(), page_size=2)]
    assert ordered(found) == {name: [1] for name in NAMES}
    assert found[-1].token.positions == goal.positions
    heads = [await log.head() for log in store.shards]
    ahead = at(source, heads[0], 0, 0)
    found = [p async for p in source.towards(ahead, goal, types=(), page_size=50)]
    assert {store.shard_of(name) for name in ordered(found)} == {1, 2}
    assert source.reached(found[-1].token, goal)
    assert [p async for p in source.towards(goal, goal, types=(), page_size=50)] == []


async def test_a_filter_moves_on_in_every_shard(
    store: ShardedEventStore, source: StoreSource
) -> None:
    """Events of no interest are passed over, so the token reaches the head of all shards."""
    for name in NAMES:
        await store.append([write(name, event("Other"), event("Mine"), event("Other"))])
    head = await source.head()
    pages = source.follow(await source.begin(), types=("Mine",), page_size=4)
    events: list[Any] = []
    async with asyncio.timeout(WAIT_S_MAX):
        async for page in pages:
            events += page.events
            if page.token.positions == head.positions:
                break
    await close_iterator(pages)
    assert [one.type for one in events] == ["Mine"] * len(NAMES)


# places -------------------------------------------------------------------------------------


async def test_tokens_compare_shard_by_shard(source: StoreSource) -> None:
    """A token is at or past another one only when it is so in every shard."""
    assert source.reached(at(source, 2, 2, 2), at(source, 2, 1, 0))
    assert not source.reached(at(source, 9, 0, 9), at(source, 0, 1, 0))
    assert source.join(at(source, 1, 2, 3), at(source, 1, 2, 3)) is not None
    assert source.join(at(source, 1, 2, 3), at(source, 1, 2, 4)) is None
    assert await source.begin() == at(source, 0, 0, 0)


def test_lag_is_the_sum_over_shards(source: StoreSource) -> None:
    """What one shard is ahead of an old head hides nothing that another is behind."""
    measure = source.measure(at(source, 5, 1, 0), at(source, 3, 4, 2))
    assert (measure.position, measure.head, measure.lag) == (6, 11, 5)


async def test_a_time_is_a_place_in_every_shard(
    store: ShardedEventStore, source: StoreSource, clock: ManualClock
) -> None:
    """From a time on, exactly the events recorded since then are read, whatever their shard."""
    await put(store, *NAMES)
    clock.now += 1_000
    await put(store, *NAMES[:7])
    token = await source.at(time_us=clock.now)
    found = [p async for p in source.towards(token, await source.head(), types=(), page_size=9)]
    assert ordered(found) == {name: [2] for name in NAMES[:7]}
    assert await source.at(time_us=clock.now + 1) == await source.head()
    assert await source.at(time_us=0) == await source.begin()


async def test_a_position_is_no_place(source: StoreSource) -> None:
    """Shards have no position in common; the error says what can be had instead."""
    with pytest.raises(InvalidInput, match=r"3 databases.*by time, or from the start"):
        await source.at(position=3)
    assert await source.at(position=0) == await source.begin()


def test_a_token_of_another_store_is_refused(source: StoreSource) -> None:
    """A stored token belongs to one store, all of its shards."""
    source.check(at(source, 1, 2, 3))
    with pytest.raises(TokenMismatch):
        source.check(store_token("accounts", "other", 1, 2, 3))


async def test_events_of_one_position_differ_by_their_log(
    store: ShardedEventStore, source: StoreSource
) -> None:
    """Service and position are not unique over shards; log and position are."""
    await put(store, *NAMES)
    events = [e for log in store.shards async for page in log.read() for e in page.events]
    assert len({(source.log_of(one), one.position) for one in events}) == len(NAMES)
    assert {source.name_of(one) for one in events} == {"accounts"}
    assert {source.log_of(one) for one in events} == {"accounts", "accounts/1", "accounts/2"}


def test_names_of_logs() -> None:
    """The first shard is called as an unsharded store; each name leads back to its service."""
    assert [log_name("a-b", n) for n in (0, 1, 12)] == ["a-b", "a-b/1", "a-b/12"]
    assert {service_of(log_name("a-b", n)) for n in (0, 1, 12)} == {"a-b"}


# consistency -----------------------------------------------------------------------------------


def wanted(source: StoreSource, **shards: int) -> ConsistencyToken:
    marks = {int(name[1:]): position for name, position in shards.items()}
    return ConsistencyToken({"accounts": SourceState(source.store.epoch, marks)})


def test_consistency_of_a_store_is_per_shard(source: StoreSource) -> None:
    """A consistency token is covered when every segment is there in the shards that it names."""
    consistency = consistency_of(source)
    tokens = {0: at(source, 5, 1, 9), 1: at(source, 4, 2, 9)}
    assert consistency.covers(tokens, wanted(source, s0=4))
    assert consistency.covers(tokens, wanted(source, s0=4, s1=1, s2=9))
    assert not consistency.covers(tokens, wanted(source, s0=5))
    assert not consistency.covers(tokens, wanted(source, s1=2)), "though others are further on"
    assert consistency.gap(tokens, wanted(source, s0=3, s1=2)) == (1, 2)
    with pytest.raises(TokenMismatch):
        consistency.covers(tokens, ConsistencyToken.at("accounts", "other", 1, shard=1))
    assert consistency.covers(tokens, ConsistencyToken.at("elsewhere", "other", 1))


def bus_event(source: str, position: int, stream: str = "s") -> BusEvent:
    return BusEvent(source, "e", position, stream, 1, "T", 1, 0, (), b"{}", b"{}", position)


async def test_consistency_of_a_bus_is_per_shard() -> None:
    """Positions of one shard say nothing about those of another, on the bus neither."""
    bus = MemoryEventBus(partitions=2)
    source = BusSource(bus, sources=["accounts"])
    consistency = consistency_of(source)
    second = ConsistencyToken.at("accounts", "e", 3, shard=1)
    await bus.publish([bus_event("accounts", number) for number in range(1, 6)])

    async def handled() -> dict[int, Token]:
        token, goal = await source.begin(), await source.head()
        async for page in source.towards(token, goal, types=(), page_size=50):
            token = page.token
        return {0: token}

    tokens = await handled()
    await consistency.look(tokens, second)
    assert not consistency.covers(tokens, second)
    assert consistency.gap(tokens, second) == (0, 3)
    await bus.publish([bus_event("accounts/1", number) for number in range(1, 4)])
    tokens = await handled()
    await consistency.look(tokens, second)
    assert consistency.covers(tokens, second)
    assert not consistency.covers(tokens, ConsistencyToken.at("accounts", "e", 6))


async def test_shards_are_told_apart_on_the_bus() -> None:
    """The same positions of two shards are two events; one that comes again is skipped."""
    bus = MemoryEventBus(partitions=1)
    source = BusSource(bus, sources=["accounts"])
    for name in ("accounts", "accounts/1", "accounts", "accounts/1"):
        await bus.publish([bus_event(name, number) for number in (1, 2)])
    await bus.publish([bus_event("elsewhere", 1), bus_event("accounts/1", 3)])
    pages = await take(source.follow(await source.begin(), types=(), page_size=3), 5)
    found = [one for page in pages for one in page.events]
    assert [(source.log_of(one), one.position) for one in found] == [
        *(("accounts", 1), ("accounts", 2), ("accounts/1", 1), ("accounts/1", 2)),
        ("accounts/1", 3),
    ]
    assert {source.name_of(one) for one in found} == {"accounts"}
    assert {source.sequence_of(one) for one in found} == {"accounts:s"}


def test_other_programs_name_themselves() -> None:
    """What is not from a service of ours keeps its name, whatever is in it."""
    stranger = BusEvent("/sensors/12", "", 1, "s", 0, "T", 1, 0, (), b"{}", b"{}")
    assert BusSource(MemoryEventBus()).name_of(stranger) == "/sensors/12"


# a shard that is away -----------------------------------------------------------------------


class Noted(Event):
    """Something."""


class Seen(EventHandlers):
    """Notes which events it has handled."""

    segments = 2

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.more = asyncio.Event()

    @event_handler
    async def noted(self, event: Noted, message: EventMessage[Noted]) -> None:
        self.events.append((message.stream, message.version))
        self.more.set()


class Away:
    """A log that cannot be reached at times."""

    def __init__(self, log: EventStore) -> None:
        self._log = log
        self.away = False
        self.tried = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read(self, **options: Any) -> AsyncIterator[Page]:
        if self.away:
            raise StoreUnavailable(store="shard", reason="it is away")
        async for page in self._log.read(**options):
            yield page

    async def follow(self, **options: Any) -> AsyncIterator[Page]:
        if self.away:
            self.tried.set()
            raise StoreUnavailable(store="shard", reason="it is away")
        pages = self._log.follow(**options)
        try:
            async for page in pages:
                yield page
                if self.away:
                    raise StoreUnavailable(store="shard", reason="it went away")
        finally:
            await close_iterator(pages)


async def test_a_shard_that_is_away_holds_up_no_other() -> None:
    """The others go on meanwhile; when it is back, nothing of it was missed or comes twice."""
    logs: list[Any] = [MemoryEventStore(), Away(MemoryEventStore())]
    here, there = logs
    await here.append([write("a")])
    await there.append([write("b")])
    pages = following(logs, [0, 0], filter=EVERYTHING, page_size=10)
    seen: list[tuple[int, int]] = []

    async def until(position: tuple[int, int]) -> None:
        async with asyncio.timeout(WAIT_S_MAX):
            while position not in seen:
                shard, page = await anext(pages)
                seen.extend((shard, one.position) for one in page.events)

    await until((0, 1))
    await until((1, 1))
    there.away = True
    await there.append([write("b")])
    await there.append([write("b")])
    for position in range(2, 12):
        await here.append([write("a")])
        await until((0, position))
    await asyncio.wait_for(there.tried.wait(), WAIT_S_MAX)
    there.away = False
    await until((1, 3))
    await close_iterator(pages)
    assert sorted(seen) == [*((0, n) for n in range(1, 12)), *((1, n) for n in (1, 2, 3))]


async def test_reading_towards_a_goal_goes_round_what_is_away() -> None:
    """What can be read is read first; then it is told that the rest is away."""
    logs: list[Any] = [Away(MemoryEventStore()), MemoryEventStore()]
    store = await ShardedEventStore.open(logs)
    source = StoreSource(store, "accounts")
    names = [f"Account/{number}" for number in range(8)]
    await put(store, *names)
    logs[0].away = True
    goal = await source.head()
    pages = source.towards(await source.begin(), goal, types=(), page_size=2)
    found: list[SourcePage] = []

    async def read_all() -> None:
        async for page in pages:
            found.append(page)  # what came before the error counts

    with pytest.raises(StoreUnavailable):
        await read_all()
    assert set(ordered(found)) == {name for name in names if store.shard_of(name) == 1}
    assert found[-1].token.shard_position("accounts", 1) == goal.shard_position("accounts", 1)


async def test_a_group_that_waits_for_a_shard_holds_up_no_other() -> None:
    """Segments that are behind in a shard that is away wait; the others go on, and they later."""
    logs: list[Any] = [Away(MemoryEventStore()), MemoryEventStore()]
    store = await ShardedEventStore.open(logs)
    source, views = StoreSource(store, "accounts"), MemoryViewStore()
    names = [f"Account/{number}" for number in range(16)]
    await put(store, *names)
    start, head = await source.begin(), await source.head()
    ahead = at(source, *(head.shard_position("accounts", shard) for shard in (0, 1)))
    await views.ensure([ProcessorMember])
    (first, _) = await views.open_segments("seen", count=2, token=start.text, generation=1)
    claimed = await views.claim(first, owner="before", lease_s=60)
    assert claimed is not None
    async with views.transaction() as transaction:
        await transaction.advance([claimed], ahead.text)
    await views.release([claimed])
    logs[0].away = True
    seen = Seen()
    settings = ProcessorSettings(renew_s=0.05, back_off_s=0.005, back_off_max_s=0.05)
    processor = Processor(seen, source=source, views=views, owner="me", settings=settings)
    await processor.start()
    here = [name for name in names if store.shard_of(name) == 1]
    for name in here:
        await store.append([write(name, event("Noted"))])

    async def handled(wanted: set[tuple[str, int]]) -> None:
        async with asyncio.timeout(WAIT_S_MAX):
            while not wanted <= set(seen.events):
                await seen.more.wait()
                seen.more.clear()

    await handled({(name, 2) for name in here})
    assert {name for name, _ in seen.events} == set(here)
    logs[0].away = False
    behind = {(n, 1) for n in names if store.shard_of(n) == 0 and stable_hash(n) % 2 == 1}
    assert behind
    await handled(behind)
    await processor.stop()
    assert len(seen.events) == len(set(seen.events))


async def test_other_errors_are_raised() -> None:
    """Only what is away is waited for: a fault is not hidden by the other shards."""

    class Broken(Away):
        async def follow(self, **options: Any) -> AsyncIterator[Page]:
            raise RuntimeError("broken")
            yield Page((), 0)

    logs: list[Any] = [MemoryEventStore(), Broken(MemoryEventStore())]
    pages = following(logs, [0, 0], filter=EVERYTHING, page_size=10)
    with pytest.raises(RuntimeError, match="broken"):
        async with asyncio.timeout(WAIT_S_MAX):
            await anext(pages)
