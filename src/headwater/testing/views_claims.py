"""Generations, segments and claims: a part of the view store suite."""

import asyncio
from typing import Annotated

import pytest

from headwater.errors import ClaimLost, ConfigurationError, InvalidInput, StoreError
from headwater.testing.views_base import (
    Clock,
    Numbered,
    Person,
    ViewStoreSuite,
    claim,
    one_segment,
    other_form,
    save,
)
from headwater.views import Index, Key, Segment, ViewStore
from headwater.views.api import LEASE_S_MAX


class ViewGenerations(ViewStoreSuite):
    """Shapes of view types, and generations side by side."""

    async def test_ensure_keeps_what_is_there(self, store: ViewStore) -> None:
        """Ensuring again changes nothing; new fields that are not indexed need nothing."""
        await save(store, Numbered(1, "one"))
        wider = other_form("Numbered", number=Annotated[int, Key], more=list[int])
        await store.ensure([Person, wider])
        assert await store.get(Numbered, "1") == Numbered(1, "one")

    async def test_another_shape_is_refused(self, store: ViewStore) -> None:
        """Other indexes or another key are refused by name, and nothing is made of the call."""
        fresh = other_form("Fresh", id=Annotated[str, Key])
        other_key = other_form("Numbered", text=Annotated[str, Key])
        other_index = other_form("Numbered", number=Annotated[int, Key], text=Annotated[str, Index])
        for changed in (other_key, other_index):
            with pytest.raises(ConfigurationError, match=r"Numbered.*rebuild the projection"):
                await store.ensure([fresh, changed])
        with pytest.raises(ConfigurationError, match="Fresh"):
            await store.get(fresh, "x")
        await store.ensure([other_index], generation=2)

    async def test_what_was_not_ensured_is_refused(self, store: ViewStore) -> None:
        """Every use of a view type, or a generation of it, that is not there names the remedy."""
        absent = other_form("Absent", id=Annotated[str, Key])
        for use in (
            store.get(absent, "x"),
            store.get_many(absent, ["x"]),
            store.find(absent),
            store.count(absent),
            store.activate("p", 1, [absent]),
        ):
            with pytest.raises(ConfigurationError, match=r"Absent.*ensure\(\) it"):
                await use
        for generation in (1, 9):
            view = absent if generation == 1 else Person
            with pytest.raises(ConfigurationError, match=rf"generation {generation} is not in"):
                async with store.transaction(generations={"Person": 9}) as work:
                    await work.load(view, ["x"])

    async def test_a_document_that_does_not_fit_is_an_error(self, store: ViewStore) -> None:
        """A stored document that the class cannot read any more is reported, not invented."""
        await save(store, Numbered(1, "one"))
        narrower = other_form("Numbered", number=Annotated[int, Key], text=int)
        with pytest.raises(StoreError, match=r"does not fit the class.*rebuild"):
            await store.get(narrower, "1")

    async def test_a_generation_is_filled_beside_the_active_one(self, store: ViewStore) -> None:
        """Readers see the active generation until `activate`, and then the new one, at once."""
        await save(store, Person("p", "first"), Person("only first"))
        assert await store.generation("people") == 1
        await store.ensure([Person], generation=2)
        async with store.transaction(generations={"Person": 2}) as work:
            assert await work.load(Person, ["p"]) == {}
            await work.save([Person("p", "second")])
        assert await store.get(Person, "p") == Person("p", "first")
        assert await store.generation("people") == 1

        await store.activate("people", 2, [Person])
        assert await store.generation("people") == 2
        assert await store.generation("others") == 1
        assert (await store.find(Person)).items == [Person("p", "second")]
        await save(store, Person("q"))
        assert await store.count(Person) == 2
        await store.ensure([Person])
        assert await store.count(Person) == 2

    async def test_activation_drops_older_generations(self, store: ViewStore) -> None:
        """After `activate` the older documents and segments are gone; work on them fails."""
        claimed = await claim(store, await one_segment(store))
        other = await one_segment(store, processor="other")
        await store.open_segments("p", count=2, token="0", generation=2)
        await store.ensure([Person], generation=2)
        await store.activate("p", 2, [Person])
        assert {segment.generation for segment in await store.segments("p")} == {2}
        assert await store.segments("other") == [other]
        with pytest.raises(ClaimLost, match="segment 0 of 'p'"):
            async with store.transaction() as work:
                await work.advance([claimed], "1")
        with pytest.raises(ConfigurationError, match="generation 1 is not in"):
            async with store.transaction(generations={"Person": 1}) as work:
                await work.save([Person("p")])
        assert await store.claim(claimed, owner="me", lease_s=1) is None

    async def test_older_documents_are_not_made_again(self, store: ViewStore) -> None:
        """Who has not heard of an activation makes no empty tables, which readers could find."""
        await store.ensure([Person], generation=2)
        async with store.transaction(generations={"Person": 2}) as work:
            await work.save([Person("p")])
        await store.activate("p", 2, [Person])
        fresh = other_form("Fresh", id=Annotated[str, Key])
        await store.ensure([Person, fresh], generation=1)
        assert await store.get(Person, "p") == Person("p")
        assert (await store.find(Person)).items == [Person("p")]
        assert await store.get(fresh, "x") is None
        with pytest.raises(ConfigurationError, match="generation 1 is not in"):
            async with store.transaction(generations={"Person": 1}) as work:
                await work.load(Person, ["p"])

    async def test_a_new_type_joins_its_processor(self, store: ViewStore) -> None:
        """The views of a processor that was rebuilt can become more; all are of its generation."""
        fresh = other_form("Fresh", id=Annotated[str, Key])
        await store.ensure([fresh])
        await store.activate("p", 3, [])
        await store.ensure([Person, fresh], processor="other")
        await store.ensure([fresh], processor="p")
        await store.ensure([fresh], processor="p")
        async with store.transaction(generations={"Fresh": 3}) as work:
            await work.save([fresh("f")])
        assert await store.get(fresh, "f") == fresh("f")
        assert await store.count(fresh) == 1
        await store.ensure([fresh])
        await store.ensure([fresh], generation=2)
        assert await store.count(fresh) == 1

    async def test_older_segments_are_not_made_again(self, store: ViewStore) -> None:
        """Who has not heard of an activation opens nothing; other processors are not concerned."""
        await store.ensure([Person], generation=2)
        await store.activate("p", 2, [Person])
        assert await store.open_segments("p", count=2, token="0", generation=1) == []
        assert await store.segments() == []
        assert len(await store.open_segments("p", count=2, token="0", generation=2)) == 2
        assert len(await store.open_segments("other", count=2, token="0", generation=1)) == 2

    async def test_a_generation_that_is_not_active_can_be_dropped(self, store: ViewStore) -> None:
        """`drop_generation` removes a rebuild's documents and segments, but no active ones."""
        await save(store, Person("p"))
        kept = await one_segment(store)
        await store.open_segments("p", count=2, token="0", generation=2)
        await store.ensure([Person], generation=2)
        async with store.transaction(generations={"Person": 2}) as work:
            await work.save([Person("half")])
        with pytest.raises(InvalidInput, match="generation 1 of 'p' is active"):
            await store.drop_generation("p", 1, [Person])
        assert await store.drop_generation("p", 2, [Person])
        assert await store.drop_generation("p", 2, [Person])
        assert await store.segments("p") == [kept]
        assert await store.get(Person, "p") == Person("p")
        await store.ensure([Person], generation=2)
        async with store.transaction(generations={"Person": 2}) as work:
            assert await work.load(Person, ["half"]) == {}

    async def test_a_generation_that_somebody_works_on_is_not_dropped(
        self, store: ViewStore, clock: Clock
    ) -> None:
        """While a lease lasts `drop_generation` leaves all as it is, and says so."""
        made = await store.open_segments("p", count=2, token="0", generation=2)
        await store.ensure([Person], generation=2)
        held = await claim(store, made[1])
        assert not await store.drop_generation("p", 2, [Person])
        async with store.transaction(generations={"Person": 2}) as work:
            await work.advance([held], "1")
            await work.save([Person("half")])
        clock.now += 10
        assert await store.drop_generation("p", 2, [Person])
        assert await store.segments("p") == []

    async def test_a_claim_on_what_was_dropped_stays_lost(
        self, store: ViewStore, clock: Clock
    ) -> None:
        """Segments that are made again do not take a claim from before for one from after."""
        (made,) = await store.open_segments("p", count=1, token="0", generation=2)
        before = await claim(store, made, owner="a")
        clock.now += 10
        assert await store.drop_generation("p", 2, [])
        (made,) = await store.open_segments("p", count=1, token="0", generation=2)
        after = await claim(store, made, owner="a")
        assert after.fence > before.fence
        with pytest.raises(ClaimLost):
            async with store.transaction() as work:
                await work.advance([before], "9")
        assert await store.renew([before], lease_s=1) == []
        assert await store.segments("p") == [after]


class ViewClaims(ViewStoreSuite):
    """Segments, tokens, leases and fences."""

    async def test_segments_are_made_once(self, store: ViewStore) -> None:
        """The first `open_segments` makes them with its token; later ones return what is there."""
        made = await store.open_segments("p", count=3, token="[0]", generation=1)
        assert made == [Segment("p", 1, index, 3, "[0]") for index in range(3)]
        assert await store.open_segments("p", count=8, token="[9]", generation=1) == made
        assert len(await store.open_segments("p", count=1, token="", generation=2)) == 1
        assert len(await store.open_segments("a", count=2, token="", generation=1)) == 2
        listed = [(s.processor, s.generation, s.index) for s in await store.segments()]
        assert listed == sorted(listed)
        assert len(listed) == 6
        assert len(await store.segments("p")) == 4
        assert await store.segments("nobody") == []

    async def test_a_segment_has_one_owner(self, store: ViewStore, clock: Clock) -> None:
        """While a lease lasts nobody else gets the segment, not even under the same name."""
        segment = await one_segment(store)
        claimed = await store.claim(segment, owner="a", lease_s=10)
        assert claimed == Segment("p", 1, 0, 1, "0", "a", clock.now + 10, segment.fence + 1)
        assert await store.segments("p") == [claimed]
        clock.now += 9.9
        for owner in ("a", "b"):
            assert await store.claim(segment, owner=owner, lease_s=10) is None

    async def test_a_restarted_owner_takes_over_from_itself(
        self, store: ViewStore, clock: Clock
    ) -> None:
        """Who says that it has restarted gets its former claims at once; its zombie loses them."""
        first = await claim(store, await one_segment(store), owner="a")
        async with store.transaction() as work:
            await work.advance([first], "5")
        assert await store.claim(first, owner="b", lease_s=10, restarted=True) is None
        second = await store.claim(first, owner="a", lease_s=10, restarted=True)
        assert second == Segment("p", 1, 0, 1, "5", "a", clock.now + 10, first.fence + 1)
        with pytest.raises(ClaimLost, match="segment 0 of 'p'"):
            async with store.transaction() as work:
                await work.advance([first], "6")
        assert await store.renew([first], lease_s=10) == []
        await store.release([first])
        assert await store.segments("p") == [second]
        async with store.transaction() as work:
            await work.advance([second], "7")
        await store.release([second])
        assert await store.claim(second, owner="b", lease_s=10, restarted=True) is not None

    async def test_an_ended_lease_can_be_taken(self, store: ViewStore, clock: Clock) -> None:
        """After its lease a segment can be taken, with a risen fence and the present token."""
        first = await claim(store, await one_segment(store), owner="a")
        async with store.transaction() as work:
            await work.advance([first], "5")
        clock.now += 10  # to the very end
        second = await claim(store, first, owner="b")
        assert (second.owner, second.token) == ("b", "5")
        assert second.fence > first.fence

    async def test_a_zombie_loses_everything(self, store: ViewStore, clock: Clock) -> None:
        """The work of an owner that was replaced is rolled back, even if it ignores the error."""
        first = await claim(store, await one_segment(store), owner="a")
        clock.now += 10.1
        second = await claim(store, first, owner="b")
        with pytest.raises(ClaimLost, match="segment 0 of 'p'"):
            async with store.transaction() as work:
                await work.save([Person("zombie")])
                await work.advance([first], "9")
        with pytest.raises(ClaimLost):
            async with store.transaction() as work:
                with pytest.raises(ClaimLost):
                    await work.advance([first], "9")
                await work.save([Person("zombie")])
        assert await store.get(Person, "zombie") is None
        assert await store.segments("p") == [second]

    async def test_an_ended_lease_that_nobody_took_still_counts(
        self, store: ViewStore, clock: Clock
    ) -> None:
        """Until somebody takes the segment its last owner can go on and renew."""
        claimed = await claim(store, await one_segment(store))
        clock.now += 100
        async with store.transaction() as work:
            await work.advance([claimed], "1")
        renewed = await store.renew([claimed], lease_s=7)
        assert [(s.token, s.lease_until) for s in renewed] == [("1", clock.now + 7)]
        assert await store.claim(claimed, owner="b", lease_s=1) is None

    async def test_a_lease_of_a_wrong_clock_holds_up_nobody(
        self, store: ViewStore, clock: Clock
    ) -> None:
        """A lease that ends later than any can was given by a clock that was wrong, and is over."""
        segment = await one_segment(store)
        ahead = clock.now
        clock.now += 365 * 86_400
        claimed = await claim(store, segment, owner="a")
        assert await store.now() == clock.now
        clock.now = ahead
        assert not claimed.is_held(await store.now())
        assert (await claim(store, segment, owner="b")).owner == "b"
        longest = await store.claim(claimed, owner="b", lease_s=LEASE_S_MAX, restarted=True)
        assert longest is not None
        assert longest.is_held(clock.now)
        assert await store.claim(claimed, owner="c", lease_s=1) is None

    async def test_several_segments_advance_together(self, store: ViewStore) -> None:
        """One lost claim among several stops all of them."""
        segments = await store.open_segments("p", count=3, token="0", generation=1)
        claims = [await claim(store, segment) for segment in segments]
        async with store.transaction() as work:
            await work.advance(claims[:2], "1")
            await work.advance(claims[2:], "2")
        assert [s.token for s in await store.segments("p")] == ["1", "1", "2"]
        await store.release(claims[1:2])
        with pytest.raises(ClaimLost, match="segment 1 of 'p'"):
            async with store.transaction() as work:
                await work.advance(claims, "3")
        assert [s.token for s in await store.segments("p")] == ["1", "1", "2"]

    async def test_renew_returns_what_is_still_ours(self, store: ViewStore, clock: Clock) -> None:
        """A renewed claim lasts longer; one that was lost is not among the answers."""
        segments = await store.open_segments("p", count=2, token="0", generation=1)
        claims = [await claim(store, segment, owner="a") for segment in segments]
        clock.now += 6
        renewed = await store.renew(claims[:1], lease_s=10)
        assert [(s.index, s.lease_until, s.fence) for s in renewed] == [(0, clock.now + 10, 1)]
        clock.now += 6
        taken = await claim(store, claims[1], owner="b")
        assert [s.index for s in await store.renew(claims, lease_s=10)] == [0]
        assert (await store.segments("p"))[1] == taken
        assert await store.renew([], lease_s=1) == []

    async def test_release_gives_back_what_is_ours(self, store: ViewStore, clock: Clock) -> None:
        """A released segment can be claimed at once; releasing a lost claim changes nothing."""
        first = await claim(store, await one_segment(store), owner="a")
        await store.release([first])
        assert (await store.segments("p"))[0].owner == ""
        second = await claim(store, first, owner="b")
        assert second.fence > first.fence
        await store.release([first])
        assert await store.segments("p") == [second]
        with pytest.raises(ClaimLost):
            async with store.transaction() as work:
                await work.advance([first], "1")
        clock.now += 11
        assert (await store.segments("p"))[0].owner == "b"

    async def test_claims_at_once_have_one_winner(self, store: ViewStore) -> None:
        """Of many claims at the same time exactly one succeeds."""
        segment = await one_segment(store)
        claims = await asyncio.gather(
            *(store.claim(segment, owner=f"o{n}", lease_s=10) for n in range(10))
        )
        assert len([c for c in claims if c is not None]) == 1

    async def test_reset_ends_claims(self, store: ViewStore) -> None:
        """A reset sets the tokens of one generation; its owners lose and anybody can claim."""
        claimed = await claim(store, await one_segment(store))
        await store.open_segments("p", count=1, token="kept", generation=2)
        await store.reset("p", token="[3]", generation=1)
        assert [s.token for s in await store.segments("p")] == ["[3]", "kept"]
        with pytest.raises(ClaimLost):
            async with store.transaction() as work:
                await work.advance([claimed], "9")
        assert await store.renew([claimed], lease_s=10) == []
        again = await claim(store, claimed, owner="b")
        assert again.token == "[3]"
        assert again.fence > claimed.fence
