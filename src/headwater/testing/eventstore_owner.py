"""What a log says of the service that it belongs to: settled once, and for all processes."""

from collections.abc import Awaitable, Callable

from headwater.eventstore import EventStore
from headwater.testing.eventstore_base import EventStoreBase, put, settled, write

Opened = Callable[[], Awaitable[EventStore]]


class OwnerConformance(EventStoreBase):
    """`EventStore.owner` and `EventStore.settle_owner`."""

    async def test_a_new_log_belongs_to_nobody(self, store: EventStore) -> None:
        """Until somebody settles it, a log has no owner; nor has one with events."""
        assert await store.owner() == ""
        await put(store, write("a"))
        assert await store.owner() == ""

    async def test_the_first_owner_stays(self, store: EventStore) -> None:
        """Settling again changes nothing, and tells whose the log is; names are exact."""
        await put(store, write("a"))
        assert await store.settle_owner("order-items") == "order-items"
        assert await store.settle_owner("order_items") == "order-items"
        assert await store.settle_owner("Order-Items") == "order-items"
        assert await store.owner() == "order-items"

    async def test_the_owner_is_one_for_all_who_open_the_log(
        self, store: EventStore, opened: Opened
    ) -> None:
        """Of several services that settle a log at the same time, one gets it."""
        others = [await opened() for _ in range(3)]
        names = ["a", "b", "c", "d"]
        logs = (store, *others)
        found = await settled(
            *(log.settle_owner(name) for log, name in zip(logs, names, strict=True))
        )
        later = await opened()
        if self.shared:
            assert len(set(found)) == 1
            assert await later.owner() == found[0]
        else:
            assert found == names
            assert await later.owner() == ""

    async def test_an_owned_log_takes_events(self, store: EventStore) -> None:
        """A log that belongs to a service goes on as before."""
        await store.settle_owner("s")
        assert (await put(store, write("a"), write("b"))).last == 2
        assert await store.owner() == "s"
