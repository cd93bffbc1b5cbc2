"""Segments that are split and merged: a part of the view store suite."""

import asyncio

import msgspec
import pytest

from headwater.errors import ClaimLost, InvalidInput
from headwater.testing.views_base import (
    WAIT_S_MAX,
    Clock,
    Person,
    ViewStoreSuite,
    claim,
    one_segment,
)
from headwater.views import Segment, ViewStore


def shares(count: int, at: str = "0", *, generation: int = 1) -> list[Segment]:
    """Return new segments of the processor ``p`` with a token."""
    return [Segment("p", generation, index, count, at) for index in range(count)]


async def replace(store: ViewStore, segments: list[Segment]) -> None:
    """Replace segments in a transaction of their own."""
    async with store.transaction() as work:
        await work.replace_segments(segments)


class ViewSegments(ViewStoreSuite):
    """`ViewTransaction.segments` and `ViewTransaction.replace_segments`."""

    async def test_a_transaction_sees_its_own_segments(self, store: ViewStore) -> None:
        """Within a transaction segments are as it has made them; others see them at its end."""
        claimed = await claim(store, await one_segment(store))
        await store.open_segments("p", count=2, token="kept", generation=2)
        await store.open_segments("other", count=2, token="kept", generation=1)
        async with store.transaction() as work:
            assert await work.segments("p", generation=1) == [claimed]
            assert await work.segments("nobody", generation=1) == []
            await work.advance([claimed], "7")
            (moved,) = await work.segments("p", generation=1)
            assert moved.token == "7"
            await work.replace_segments(shares(2, "8"))
            seen = await work.segments("p", generation=1)
            assert [(s.index, s.count, s.token) for s in seen] == [(0, 2, "8"), (1, 2, "8")]
            await work.save([Person("together")])
        listed = await store.segments("p")
        assert [s for s in listed if s.generation == 1] == seen
        assert [s.token for s in listed if s.generation == 2] == ["kept"] * 2
        assert [s.token for s in await store.segments("other")] == ["kept"] * 2
        assert await store.get(Person, "together") is not None

    async def test_who_held_a_replaced_segment_has_lost_it(self, store: ViewStore) -> None:
        """Work under a former claim is rolled back, also when a segment of its number is back."""
        claims = [
            await claim(store, segment)
            for segment in await store.open_segments("p", count=2, token="0", generation=1)
        ]
        await replace(store, shares(3))
        for segment in claims:
            with pytest.raises(ClaimLost, match=f"segment {segment.index} of 'p'"):
                async with store.transaction() as work:
                    await work.save([Person("zombie")])
                    await work.advance([segment], "9")
        assert await store.renew(claims, lease_s=10) == []
        await store.release(claims)
        assert await store.claim(claims[0], owner="me", lease_s=1) is None
        await replace(store, shares(2))
        with pytest.raises(ClaimLost):
            async with store.transaction() as work:
                await work.advance(claims, "9")
        again = await claim(store, claims[0])
        assert again.fence > claims[0].fence
        assert {s.token for s in await store.segments("p")} == {"0"}
        assert await store.get(Person, "zombie") is None

    async def test_a_replaced_segment_can_be_kept_for_its_owner(
        self, store: ViewStore, clock: Clock
    ) -> None:
        """Owner and lease are stored as given: only that owner can take it before its end."""
        claimed = await claim(store, await one_segment(store), owner="a")
        kept = msgspec.structs.replace(shares(2)[0], owner="a", lease_until=claimed.lease_until)
        await replace(store, [kept, shares(2)[1]])
        first, second = await store.segments("p")
        assert (first.owner, first.lease_until) == ("a", claimed.lease_until)
        assert first.fence > claimed.fence
        assert await store.claim(first, owner="b", lease_s=10) is None
        assert await store.claim(second, owner="b", lease_s=10) is not None
        assert await store.claim(first, owner="a", lease_s=10, restarted=True) is not None
        await replace(store, [kept, shares(2)[1]])
        clock.now += 10
        assert await store.claim(first, owner="b", lease_s=10) is not None

    async def test_segments_that_do_not_divide_the_work_are_refused(self, store: ViewStore) -> None:
        """A gap, an overlap, two generations or nothing at all changes nothing."""
        made = await store.open_segments("p", count=2, token="0", generation=1)
        other = msgspec.structs.replace(shares(2)[1], processor="q")
        for wrong in (
            [],
            shares(2)[:1],
            shares(2) + shares(2)[:1],
            [shares(2)[0], shares(3)[1]],
            [shares(2)[0], shares(2, generation=2)[1]],
            [shares(2)[0], other],
        ):
            with pytest.raises(InvalidInput, match="do not divide the work"):
                await replace(store, wrong)
        assert await store.segments("p") == made

    async def test_what_was_dropped_is_not_made_again(self, store: ViewStore) -> None:
        """Replacing the segments of a generation that has none fails, even if that is ignored."""
        with pytest.raises(ClaimLost):
            async with store.transaction() as work:
                with pytest.raises(ClaimLost):
                    await work.replace_segments(shares(2))
                await work.save([Person("zombie")])
        assert await store.segments("p") == []
        assert await store.get(Person, "zombie") is None

    async def test_a_rolled_back_replacement_changes_nothing(self, store: ViewStore) -> None:
        """When the block raises, the former segments and their claims are there as before."""
        claimed = await claim(store, await one_segment(store))

        async def fail() -> None:
            async with store.transaction() as work:
                await work.replace_segments(shares(4))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await store.segments("p") == [claimed]
        async with store.transaction() as work:
            await work.advance([claimed], "1")

    async def test_tokens_move_before_or_never(self, store: ViewStore) -> None:
        """Of an owner's commits beside a replacement, those before it count, no later one does."""
        claimed = await claim(store, await one_segment(store))
        done, some = 0, asyncio.Event()

        async def work_on() -> None:
            nonlocal done
            for n in range(1, 1000):
                async with store.transaction() as work:
                    await work.advance([claimed], str(n))
                done = n
                if n == 5:
                    some.set()
                await asyncio.sleep(0)

        working = asyncio.ensure_future(work_on())
        await asyncio.wait_for(some.wait(), WAIT_S_MAX)
        async with store.transaction() as work:
            (found,) = await work.segments("p", generation=1)
            await work.replace_segments(shares(2, found.token))
        with pytest.raises(ClaimLost):
            await working
        assert [s.token for s in await store.segments("p")] == [str(done)] * 2
