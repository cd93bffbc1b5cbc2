"""The suite that every view store passes: one test per sentence of `headwater.views.api`.

A backend's whole test module::

    class TestMyViewStore(ViewStoreConformance):
        engine = ENGINE

        async def open_store(self, place: Path, clock: Callable[[], float]) -> ViewStore:
            return await MyViewStore.open(place / "views", clock=clock)
"""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import pytest

from headwater.errors import StoreUnavailable
from headwater.testing.views_base import (
    WAIT_S_MAX,
    Clock,
    Person,
    claim,
    count_all,
    one_segment,
    save,
)
from headwater.testing.views_claims import ViewClaims, ViewGenerations
from headwater.testing.views_documents import ViewDocuments, ViewFinding
from headwater.testing.views_queries import ViewQueries
from headwater.testing.views_segments import ViewSegments
from headwater.testing.views_sql import ViewSql
from headwater.testing.views_values import ViewValues
from headwater.testing.views_versions import ViewVersions
from headwater.views import Index, Key, View, ViewStore, view_type

_FIELD = "field_" * 12


def _long(letter: str) -> Any:
    """Return a view type with a name and an index that are too long for PostgreSQL."""
    hints = {"id": Annotated[str, Key], _FIELD: Annotated[str, Index]}
    return type("Long" * 20 + letter, (View,), {"__annotations__": hints, "__module__": __name__})


class ViewStoreConformance(
    ViewDocuments,
    ViewFinding,
    ViewQueries,
    ViewSql,
    ViewValues,
    ViewGenerations,
    ViewVersions,
    ViewClaims,
    ViewSegments,
):
    """Subclass it, say how to open a store, if places share their data, and whose SQL it has."""

    async def test_changes_wake_after_commits(self, store: ViewStore) -> None:
        """`changes` yields at the start, and after a commit of which the reader then sees all."""
        async with aclosing(store.changes()) as changes:  # type: ignore[type-var]  # is a generator
            await asyncio.wait_for(anext(changes), WAIT_S_MAX)
            for n in range(3):
                waiting = asyncio.ensure_future(anext(changes))
                await save(store, Person(f"p{n}"))
                await asyncio.wait_for(waiting, WAIT_S_MAX)
                while await store.get(Person, f"p{n}") is None:  # it may tell of an earlier commit
                    await asyncio.wait_for(anext(changes), WAIT_S_MAX)

    async def test_closing_ends_changes(self, store: ViewStore) -> None:
        """`changes` ends when the store is closed."""
        changes = store.changes()
        await anext(changes)
        ended = asyncio.ensure_future(count_all(changes))
        await asyncio.sleep(0)
        await store.close()
        await asyncio.wait_for(ended, WAIT_S_MAX)

    async def test_a_closed_store_says_so(self, store: ViewStore) -> None:
        """After `close`, which may be called twice, every method raises `StoreUnavailable`."""
        segment = await one_segment(store)
        await store.close()
        await store.close()
        for use in (
            store.get(Person, "p"), store.get_many(Person, ["p"]), store.find(Person),
            store.count(Person), store.segments(), store.generation("p"), store.ensure([Person]),
            store.claim(segment, owner="a", lease_s=1), save(store, Person("p")),
            store.owner(), store.settle_owner("s"),
        ):  # fmt: skip
            with pytest.raises(StoreUnavailable, match="closed") as caught:
                await use
            assert caught.value.outcome == "not stored"

    async def test_the_first_owner_stays(
        self, store: ViewStore, tmp_path: Path, clock: Clock
    ) -> None:
        """A store belongs to the first service that settles it, for all who open it."""
        other = await self.open_store(tmp_path, clock)
        assert await store.owner() == ""
        found = await asyncio.gather(
            store.settle_owner("order-items"), other.settle_owner("order_items")
        )
        assert (found[0] == found[1]) is self.shared
        assert await store.settle_owner("Order-Items") == found[0]
        assert await store.owner() == found[0]
        assert await other.owner() == found[1]
        await other.close()

    async def test_long_names_have_tables_of_their_own(self, store: ViewStore) -> None:
        """Views whose names differ in their last letter only, however long, share nothing."""
        views = [_long(letter) for letter in "ab"]
        for generation in (1, 12):
            await store.ensure(views, generation=generation)
            names = dict.fromkeys((view_type(view).name for view in views), generation)
            for number, view in enumerate(views):
                async with store.transaction(generations=names) as work:
                    await work.save([view(f"{generation}", f"{number}")])
            async with store.transaction(generations=names) as work:
                for number, view in enumerate(views):
                    found = (await work.find(view, where={_FIELD: f"{number}"})).items
                    assert found == [view(f"{generation}", f"{number}")]

    async def test_sharing_is_as_declared(
        self, store: ViewStore, tmp_path: Path, clock: Clock
    ) -> None:
        """Stores at one place share documents, generations, claims and wake-ups, or nothing."""
        other = await self.open_store(tmp_path, clock)
        await other.ensure([Person])
        changes = other.changes()
        await anext(changes)
        await store.ensure([Person], generation=2)
        claimed = await claim(store, await one_segment(store, generation=2))
        async with store.transaction(generations={"Person": 2}) as work:
            await work.save([Person("p", "Rome")])
        assert await other.count(Person) == 0
        await store.activate("p", 2, [Person])

        assert (await other.get(Person, "p") == Person("p", "Rome")) is self.shared
        assert (await other.find(Person)).items == [Person("p", "Rome")] * self.shared
        assert await other.generation("p") == 1 + self.shared
        assert await other.segments() == [claimed] * self.shared
        if self.shared:
            assert await other.claim(claimed, owner="other", lease_s=1) is None
            await save(other, Person("q"))
            assert await store.get(Person, "q") == Person("q")
            await asyncio.wait_for(anext(changes), WAIT_S_MAX)
        await other.close()

    async def test_keeping_is_as_declared(
        self, store: ViewStore, tmp_path: Path, clock: Clock
    ) -> None:
        """What was committed is there after closing and opening again, if stores share."""
        async with store.transaction(synced=True) as work:
            await work.save([Person("p", "Rome")])
        await store.close()
        again = await self.open_store(tmp_path, clock)
        await again.ensure([Person])
        assert (await again.find(Person)).items == [Person("p", "Rome")] * self.shared
        await again.close()
