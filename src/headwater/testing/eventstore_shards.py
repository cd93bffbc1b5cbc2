"""What a log says of its place in a store: settled once, and for all processes."""

from collections.abc import Awaitable, Callable

from headwater.eventstore import WHOLE, EventStore, Idempotency, Shard
from headwater.testing.eventstore_base import EventStoreBase, put, settled, write

FIRST = Shard("s", 0, 2)
SECOND = Shard("s", 1, 2)
Opened = Callable[[], Awaitable[EventStore]]


class ShardConformance(EventStoreBase):
    """`EventStore.shard` and `EventStore.settle_shard`."""

    async def test_one_log_is_its_own_only_shard(self, store: EventStore) -> None:
        """All streams of a log are in it."""
        assert list(store.shards) == [store]
        assert {store.shard_of(name) for name in ("a", "b", "", "Köln/1")} == {0}

    async def test_a_new_log_is_not_settled(self, store: EventStore) -> None:
        """Until somebody settles it, a log is no shard of anything."""
        assert await store.shard() is None

    async def test_what_is_settled_first_stays(self, store: EventStore) -> None:
        """Settling again changes nothing, and tells what there is."""
        assert await store.settle_shard(FIRST) == FIRST
        assert await store.settle_shard(SECOND) == FIRST
        assert await store.settle_shard(WHOLE) == FIRST
        assert await store.shard() == FIRST

    async def test_a_log_with_events_is_a_store_by_itself(self, store: EventStore) -> None:
        """The streams of a log with events may be of any shard, so it cannot become one."""
        await put(store, write("a"))
        assert await store.settle_shard(FIRST) is None
        assert await store.shard() is None
        assert await store.settle_shard(WHOLE) == WHOLE
        assert await store.settle_shard(FIRST) == WHOLE

    async def test_a_key_alone_does_not_prevent_it(self, store: EventStore) -> None:
        """What counts is whether streams exist."""
        await store.append((), idempotency=Idempotency("k"))
        assert await store.settle_shard(FIRST) == FIRST

    async def test_it_holds_for_all_who_open_the_log(
        self, store: EventStore, opened: Opened
    ) -> None:
        """Of several who settle a log at the same time, one decides for all."""
        others = [await opened() for _ in range(3)]
        shards = [Shard("s", index, 4) for index in range(4)]
        found = await settled(
            *(log.settle_shard(shard) for log, shard in zip((store, *others), shards, strict=True))
        )
        later = await opened()
        if self.shared:
            assert len(set(found)) == 1
            assert await later.shard() == found[0]
        else:
            assert found == shards
            assert await later.shard() is None

    async def test_appends_go_on(self, store: EventStore) -> None:
        """A settled log takes events as any other."""
        await store.settle_shard(SECOND)
        assert (await put(store, write("a"), write("b"))).last == 2
        assert await store.shard() == SECOND
