"""Generations of several codes side by side: a part of the view store suite."""

import asyncio
from pathlib import Path
from typing import Annotated

import pytest

from headwater.errors import ConfigurationError, InvalidInput
from headwater.testing.views_base import (
    Clock,
    Person,
    ViewStoreSuite,
    claim,
    one_segment,
    other_form,
    save,
)
from headwater.views import Generation, Index, Key, ViewStore

OTHER = other_form("Person", id=Annotated[str, Key], town=Annotated[str, Index])


async def begun(store: ViewStore, code: str, *, complete: bool = True) -> int:
    """Begin a generation of a code, with a document that names it; return its number."""
    number = await store.settle_generation("p", code, [Person])
    await store.ensure([Person], generation=number, processor="p")
    async with store.transaction(generations={"Person": number}) as work:
        await work.save([Person("p", code)])
    if complete:
        await store.activate("p", number, [Person])
    return number


class ViewVersions(ViewStoreSuite):
    """`ViewStore.settle_generation` and what goes with it."""

    async def test_each_code_has_its_generation(self, store: ViewStore, clock: Clock) -> None:
        """Each code gets a number of its own, the same one each time; documents are apart."""
        first, second = await begun(store, "a"), await begun(store, "b")
        assert await store.settle_generation("p", "a", [Person]) == first != second
        found = [await store.get(Person, "p", generation=number) for number in (first, second, 0)]
        assert [view.city for view in found if view] == ["a", "b", "b"]
        assert await store.get_many(Person, ["p"], generation=first) == {"p": Person("p", "a")}
        assert (await store.find(Person, generation=first)).items == [Person("p", "a")]
        assert await store.count(Person, where={"city": "a"}, generation=first) == 1
        assert await store.count(Person, where={"city": "a"}) == 0
        assert await store.generation("p") == second
        assert await store.generation("p", code="a") == first
        assert await store.generation("p", code="nobody's") == second
        made = [
            Generation("p", number, code, complete=True, used=clock.now)
            for number, code in ((first, "a"), (second, "b"))
        ]
        assert await store.generations("p") == await store.generations() == made
        assert await store.generations("q") == []
        with pytest.raises(ConfigurationError, match="generation 99 is not in"):
            await store.get(Person, "p", generation=99)

    async def test_of_those_that_begin_at_once_all_get_the_same(
        self, store: ViewStore, tmp_path: Path, clock: Clock
    ) -> None:
        """Programs of one code that start at the same time share one generation."""
        stores = [store, await self.open_store(tmp_path, clock)] if self.shared else [store] * 2
        found = await asyncio.gather(
            *(one.settle_generation("p", code, [Person]) for one in stores * 3 for code in "ab")
        )
        assert len(set(found)) == 2
        assert len(set(found[::2])) == len(set(found[1::2])) == 1
        if self.shared:
            await stores[1].close()

    async def test_a_code_goes_on_to_its_next_generation(self, store: ViewStore) -> None:
        """All who follow one get the same number; activation drops what is of its code only."""
        first, other = await begun(store, "a"), await begun(store, "b")
        following = await store.next_generation("p", "a", [Person], after=first)
        assert following > other
        assert await store.next_generation("p", "a", [Person], after=first) == following
        await store.ensure([Person], generation=following, processor="p")
        assert await store.generation("p", code="a") == first
        await store.activate("p", following, [Person])
        assert [g.number for g in await store.generations("p")] == [other, following]
        assert await store.get(Person, "p", generation=other) == Person("p", "b")
        with pytest.raises(ConfigurationError):
            await store.get(Person, "p", generation=first)
        with pytest.raises(InvalidInput, match=f"generation {following}"):
            await store.activate("p", first, [Person])

    async def test_what_nobody_uses_can_be_dropped(self, store: ViewStore, clock: Clock) -> None:
        """Idle generations of other codes go, unless somebody holds a segment or has used them."""
        mine = await begun(store, "mine", complete=False)
        idle, used, held = [await begun(store, code) for code in ("idle", "used", "held")]
        segment = await one_segment(store, generation=held)
        clock.now += 100
        assert await store.drop_unused("p", code="mine", idle_s=50) == []  # mine is not complete
        await store.activate("p", mine, [Person])
        await store.use_generation("p", used)
        await store.use_generation("p", 99)
        claimed = await claim(store, segment)
        assert await store.drop_unused("p", code="mine", idle_s=50) == [idle]
        with pytest.raises(ConfigurationError):
            await store.get(Person, "p", generation=idle)
        await store.release([claimed])
        assert await store.drop_unused("p", code="mine", idle_s=50) == [held]
        assert await store.segments("p") == []
        assert [g.number for g in await store.generations("p")] == [mine, used]
        assert await store.drop_unused("p", code="", idle_s=50) == []
        clock.now += 100
        assert await store.drop_unused("p", code="", idle_s=50) == [mine, used]
        assert await store.generations() == []

    async def test_what_was_begun_again_belongs_to_its_code(self, store: ViewStore) -> None:
        """A generation that was dropped while it was filled is, when active, that of its code."""
        first = await store.settle_generation("p", "a", [Person])
        await store.ensure([Person], generation=first, processor="p")
        await store.activate("p", first, [Person])
        number = await store.next_generation("p", "a", [Person], after=first)
        assert await store.drop_generation("p", number, [Person])
        await store.ensure([Person], generation=number, processor="p")
        await store.activate("p", number, [Person], code="a")
        assert [(g.number, g.code) for g in await store.generations("p")] == [(number, "a")]

    async def test_a_number_is_not_given_twice(self, store: ViewStore, clock: Clock) -> None:
        """What was dropped for good is not made again, by its number or by who is late."""
        await begun(store, "stays")
        gone = await begun(store, "goes")
        clock.now += 100
        assert await store.drop_unused("p", code="stays", idle_s=50) == [gone]
        assert await store.open_segments("p", count=1, token="", generation=gone) == []
        await store.ensure([Person], generation=gone, processor="p")
        with pytest.raises(ConfigurationError):
            await store.get(Person, "p", generation=gone)
        assert await begun(store, "goes") > gone

    async def test_what_has_no_code_becomes_the_first_ones(self, store: ViewStore) -> None:
        """Views without a code are taken over as they are by the first code with their form."""
        await save(store, Person("p", "kept"))
        await one_segment(store)
        other = await store.settle_generation("p", "other form", [OTHER])
        assert other > 1
        assert await store.settle_generation("p", "first", [Person]) == 1
        assert await store.generation("p", code="first") == 1
        assert await store.settle_generation("p", "second", [Person]) not in {1, other}
        assert await store.get(Person, "p", generation=1) == Person("p", "kept")

    async def test_a_view_that_moves(self, store: ViewStore) -> None:
        """Two processors with a view of one name have tables apart, and none takes the other's."""
        first = await begun(store, "a")
        second = await store.settle_generation("q", "a", [OTHER])
        assert second != first
        await store.ensure([OTHER], generation=second, processor="q")
        assert await store.count(OTHER, generation=second) == 0
        await store.activate("q", second, [OTHER])
        assert await store.get(Person, "p", generation=first) == Person("p", "a")
