"""Routing over shards, what a sharded store refuses, and that it is opened as it was made."""

import asyncio
from collections import Counter

import pytest

from headwater.errors import InvalidInput, PipelineBroken, ShardMismatch
from headwater.eventstore import (
    EVERYTHING,
    WHOLE,
    AppendCondition,
    EventStore,
    Idempotency,
    Pipeline,
    Shard,
    ShardedEventStore,
    Snapshot,
    StreamWrite,
)
from headwater.eventstore.memory import MemoryEventStore
from headwater.eventstore.sharded import settle_whole, shard_of
from headwater.messages.hashing import stable_hash
from headwater.testing.eventstore_base import event, events_of, log_of, write


def new_logs(count: int = 2) -> list[EventStore]:
    return [MemoryEventStore() for _ in range(count)]


def streams_of(shard: int, *, count: int = 2, number: int = 3) -> list[str]:
    """Return names of streams that are in a shard."""
    names = (f"Account/{n}" for n in range(1000))
    return [name for name in names if shard_of(name, count) == shard][:number]


@pytest.fixture
async def store() -> ShardedEventStore:
    return await ShardedEventStore.open(new_logs())


# routing ------------------------------------------------------------------------------------


def test_the_shard_of_a_stream_is_the_same_for_ever() -> None:
    """A release that routed otherwise would look for streams where they are not."""
    names = ["", "Account/1", "Account/2", "Order/0199", "Köln/\U0001f600", "x" * 500]
    assert [shard_of(name, 2) for name in names] == [0, 0, 1, 0, 0, 0]
    assert [shard_of(name, 5) for name in names] == [1, 3, 4, 4, 4, 4]


@pytest.mark.parametrize("names", ["Account/{}", "Order/{:08d}", "a/{:032x}"])
@pytest.mark.parametrize("shards", [2, 3, 4, 8])
@pytest.mark.parametrize("segments", [2, 4, 8, 12])
def test_shards_say_nothing_about_segments(names: str, shards: int, segments: int) -> None:
    """The streams of each shard are spread evenly over the segments, and over partitions."""
    each = 100
    found = Counter(
        (shard_of(name, shards), stable_hash(name) % segments)
        for name in (names.format(n) for n in range(each * shards * segments))
    )
    assert len(found) == shards * segments
    assert 0.5 * each < min(found.values()) <= max(found.values()) < 1.6 * each


async def test_each_stream_is_in_its_shard(store: ShardedEventStore) -> None:
    """A stream's events are in one log, with dense positions of that log, and are read there."""
    names = [*streams_of(0), *streams_of(1)]
    for name in names * 2:
        appended = await store.append([write(name)])
        assert appended.shard == store.shard_of(name)
    for shard, log in enumerate(store.shards):
        found = await log_of(log)
        assert {one.stream for one in found} == set(streams_of(shard))
        assert [one.position for one in found] == list(range(1, 7))
    for name in names:
        assert await store.version(name) == 2
        assert [e.version for e in await events_of(store.read_stream(name))] == [1, 2]
        assert [e.version for e in await events_of(store.read_stream(name, after=1))] == [2]


async def test_several_streams_of_one_shard_are_one_append(store: ShardedEventStore) -> None:
    """Within a shard an append is atomic over streams, as ever."""
    names = streams_of(1)
    appended = await store.append([write(name, expected=0) for name in names])
    assert (appended.shard, appended.first, appended.last) == (1, 1, 3)


async def test_snapshots_are_kept_with_their_stream(store: ShardedEventStore) -> None:
    """A snapshot is found where its stream is."""
    for name in (*streams_of(0), *streams_of(1)):
        snapshot = Snapshot(name, 1, "f", name.encode())
        await store.save_snapshot(snapshot)
        assert await store.load_snapshot(name) == snapshot
        assert await store.shards[store.shard_of(name)].load_snapshot(name) == snapshot


async def test_snapshots_are_read_and_dropped_in_all_shards(store: ShardedEventStore) -> None:
    """Snapshots of a prefix are read shard by shard, and dropped in all of them."""
    names = [*streams_of(0), *streams_of(1)]
    for name in (*names, "Other/1"):
        await store.save_snapshot(Snapshot(name, 1, "f", b""))
    pages = [page async for page in store.read_snapshots("Account/", page_size=2)]
    assert [snapshot.stream for page in pages for snapshot in page] == [
        *sorted(streams_of(0)),
        *sorted(streams_of(1)),
    ]
    assert await store.drop_snapshot(names[-1])
    assert not await store.drop_snapshot(names[-1])
    assert await store.drop_snapshots("Account/") == len(names) - 1
    assert await store.drop_snapshots() == 1


async def test_a_repeated_key_returns_the_first_outcome(store: ShardedEventStore) -> None:
    """The same append comes to the same shard, so its key is found; the outcome names the shard."""
    for shard in (0, 1):
        key = Idempotency(f"k{shard}", "f")
        one = write(streams_of(shard)[0])
        first = await store.append([one], idempotency=key)
        again = await store.append([one], idempotency=key)
        assert (again.shard, again.first, again.duplicate) == (shard, first.first, True)
        assert await store.outcome(key.key) == (first, "f")
    assert await store.outcome("unknown") is None


# what is refused ----------------------------------------------------------------------------


async def test_an_append_over_shards_is_refused(store: ShardedEventStore) -> None:
    """What cannot be stored in one step is not stored at all; streams and shards are named."""
    (left, *_), (right, *_) = streams_of(0), streams_of(1)
    pipeline = Pipeline()
    with pytest.raises(InvalidInput, match=rf"{left}.*{right}.*shards 0 and 1.*saga"):
        await store.append([write(left), write(right)], pipeline=pipeline)
    assert [await log.head() for log in store.shards] == [0, 0]
    with pytest.raises(PipelineBroken):
        await store.append([write(left)], pipeline=pipeline)


async def test_a_condition_is_refused(store: ShardedEventStore) -> None:
    """A condition on tags cannot be kept by one shard, so it is not pretended."""
    with pytest.raises(InvalidInput, match=r"2 databases.*condition.*expected version"):
        await store.append([write("a")], condition=AppendCondition(EVERYTHING, 0))
    assert await store.version("a") == 0


async def test_an_append_without_streams_is_refused(store: ShardedEventStore) -> None:
    """A key without a stream has no shard to be kept in; a stream without events has."""
    with pytest.raises(InvalidInput, match="no shard"):
        await store.append((), idempotency=Idempotency("k"))
    await store.append([StreamWrite("a", ())], idempotency=Idempotency("k"))
    assert await store.outcome("k") is not None


async def test_a_pipeline_stays_in_its_shard(store: ShardedEventStore) -> None:
    """The order of a pipeline over several shards would be nobody's, so it is refused."""
    pipeline = Pipeline()
    (left, *_), (right, *_) = streams_of(0), streams_of(1)
    await store.append([write(left)], pipeline=pipeline)
    await store.append([write(left)], pipeline=pipeline)
    with pytest.raises(InvalidInput, match="pipeline is of shard 0"):
        await store.append([write(right)], pipeline=pipeline)
    with pytest.raises(PipelineBroken):
        await store.append([write(left)], pipeline=pipeline)


async def test_appends_keep_the_order_of_submission(store: ShardedEventStore) -> None:
    """Two appends to a stream, submitted one after the other, are carried out in that order."""
    (name, *_) = streams_of(1)
    tasks = [
        asyncio.ensure_future(store.append([write(name, event(data=b"%d" % n), expected=n)]))
        for n in range(20)
    ]
    await asyncio.gather(*tasks)
    found = await events_of(store.read_stream(name))
    assert [int(one.data) for one in found] == list(range(20))


# opening ------------------------------------------------------------------------------------


async def test_it_is_opened_as_it_was_made() -> None:
    """The same logs in the same order are the same store, before and after its first events."""
    logs = new_logs(3)
    first = await ShardedEventStore.open(logs)
    assert (await ShardedEventStore.open(logs)).epoch == first.epoch
    await first.append([write("a")])
    again = await ShardedEventStore.open(logs)
    assert again.epoch == first.epoch
    assert await again.version("a") == 1
    assert [await log.shard() for log in logs] == [Shard(logs[0].epoch, n, 3) for n in range(3)]
    assert (await ShardedEventStore.open(new_logs(3))).epoch != first.epoch


async def test_making_it_is_finished_by_who_comes_next() -> None:
    """A process that died after settling some of the logs has spoiled nothing."""
    logs = new_logs(3)
    await logs[0].settle_shard(Shard(logs[0].epoch, 0, 3))
    await ShardedEventStore.open(logs)
    assert await logs[2].shard() == Shard(logs[0].epoch, 2, 3)


async def test_several_make_it_at_once() -> None:
    """Whoever is first, all agree."""
    logs = new_logs(4)
    made = await asyncio.gather(*(ShardedEventStore.open(logs) for _ in range(8)))
    assert len({store.epoch for store in made}) == 1


async def _refused(logs: list[EventStore], *, match: str) -> None:
    before = [await log.shard() for log in logs]
    with pytest.raises(ShardMismatch, match=match):
        await ShardedEventStore.open(logs, names=["one", "two", "three"][: len(logs)])
    assert [await log.shard() for log in logs] == before


@pytest.mark.parametrize("filled", [False, True])
async def test_another_order_or_number_is_refused(filled: bool) -> None:
    """A wrong place among the URLs is named: with what is there, what should be, and the remedy."""
    logs = new_logs(3)
    store = await ShardedEventStore.open(logs)
    if filled:
        await store.append([write("a")])
    one, two, three = logs
    await _refused([two, one, three], match=r"'one'.*shard 1 of 3, expected shard 0 of 3.*order")
    await _refused([one, three, two], match=r"'two'.*shard 2 of 3, expected shard 1 of 3.*order")
    await _refused([one, two], match=r"'one'.*shard 0 of 3, expected shard 0 of 2")
    await _refused([one, one, three], match=r"'two'.*shard 0 of 3, expected shard 1 of 3")
    with pytest.raises(ShardMismatch, match=r"shard 0 of 3, expected a store by itself"):
        await settle_whole(one, name="one")


@pytest.mark.parametrize("filled", [False, True])
async def test_a_shard_of_another_store_is_refused(filled: bool) -> None:
    """Number and place alone do not make a shard."""
    mine, other = new_logs(), new_logs()
    store = await ShardedEventStore.open(mine)
    await ShardedEventStore.open(other)
    if filled:
        await store.append([write("a")])
    await _refused([mine[0], other[1]], match=r"'two'.*shard 1 of 2 of another store")


async def test_a_new_database_in_place_of_a_lost_one_is_refused() -> None:
    """An empty log beside one with events is a wrong URL, or a loss: never a fresh beginning."""
    logs = new_logs()
    store = await ShardedEventStore.open(logs)
    await store.append([write(streams_of(0)[0])])
    await _refused([logs[0], MemoryEventStore()], match=r"'two'.*a new database.*correct its URL")
    await store.append([write(streams_of(1)[0])])
    await _refused([MemoryEventStore(), logs[1]], match=r"'one'.*a new database.*backup")


async def test_a_store_by_itself_is_refused() -> None:
    """A store that has events, or was used as a store, cannot become a shard."""
    alone, empty = MemoryEventStore(), MemoryEventStore()
    await alone.append([write("a")])
    await _refused([alone, empty], match=r"'one'.*a store by itself with 1 events")
    await settle_whole(empty, name="empty")
    await settle_whole(empty, name="empty")
    assert await empty.shard() == WHOLE
    await _refused([MemoryEventStore(), empty], match=r"'two'.*a store by itself, expected")


async def test_one_log_is_not_sharded() -> None:
    """A sharded store has at least two logs."""
    with pytest.raises(InvalidInput, match="two logs or more, got 1"):
        await ShardedEventStore.open(new_logs(1))
