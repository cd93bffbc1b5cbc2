"""The suite that every implementation of `headwater.discovery.RegistryStore` passes.

A test module::

    class TestMyRegistryStore(RegistryStoreConformance):
        async def open_two(self):
            return await MyStore.open(url), await MyStore.open(url)
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from headwater.discovery import Entry, Mark, Record, RegistryStore, Status
from headwater.errors import StoreUnavailable
from headwater.testing.discovery import WAIT_S_MAX, instance

Two = tuple[RegistryStore, RegistryStore]


def record(id: str = "accounts-1", *, holder: str = "one", **fields: Any) -> Record:
    """Return what a registry shares about an instance."""
    options = {
        name: fields.pop(name) for name in ("override", "expired", "doubted") if name in fields
    }
    return Record(id, instance(id, **fields), holder, **options)


def asked(id: str = "accounts-1", *, overrides: bool = False, **fields: Any) -> Entry:
    """Return a change that somebody asked for."""
    return Entry(record(id, **fields), overrides=overrides)


def decided(expected: int, id: str = "accounts-1", **fields: Any) -> Entry:
    """Return a change that a registry has decided, having seen a revision."""
    return Entry(record(id, **fields), expected=expected)


def removal(id: str = "accounts-1", *, expected: int | None = None, holder: str = "one") -> Entry:
    """Return the removal of an instance."""
    return Entry(Record(id, None, holder), expected=expected)


async def only(store: RegistryStore) -> Record:
    """Return the only record that there is."""
    (found,) = (await store.read(None)).records
    return found


class RegistryStoreConformance:
    """Subclass it and say how to open one store twice, as two processes do."""

    pytestmark = pytest.mark.asyncio

    async def open_two(self) -> Two:
        """Open them, with no records; the suite closes both."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def two(self) -> AsyncIterator[Two]:
        """Open the two, and close them afterwards."""
        one, other = await self.open_two()
        yield one, other
        await one.close()
        await other.close()

    async def test_empty(self, two: Two) -> None:
        """An empty store answers with nothing, completely."""
        page = await two[0].read(None)
        assert (page.records, page.complete, page.mark.revision) == ([], True, 0)
        assert page == await two[1].read(None)
        assert page == await two[1].read(page.mark)
        assert await two[0].write([]) == {}

    async def test_what_one_writes_others_read(self, two: Two) -> None:
        """A record comes back with all its parts and its revision."""
        one, other = two
        odd = {"team": "b\x00a'n\"k\\ \u0153\U0001f3e6", "": "{}"}
        given = record(metadata=odd, override="OUT_OF_SERVICE", expired=True, doubted=True)
        stored = await one.write([Entry(given)])
        assert stored == {"accounts-1": 1}
        assert await only(other) == msgspec.structs.replace(given, revision=1)

    async def test_changes_after_a_mark(self, two: Two) -> None:
        """After a mark come those that have changed since, as they are now, by revision."""
        one, other = two
        await one.write([asked("a"), asked("b"), asked("c")])
        mark = (await other.read(None)).mark
        await one.write([asked("c", version="2")])
        await one.write([asked("a", version="2")])
        await one.write([asked("c", version="3")])
        page = await other.read(mark)
        assert [(r.id, r.instance.version) for r in page.records if r.instance] == [
            ("a", "2"),
            ("c", "3"),
        ]
        assert (page.complete, page.mark) == (False, Mark(mark.store, mark.revision + 3))
        assert [r.revision for r in page.records] == [mark.revision + 2, mark.revision + 3]
        assert await other.read(page.mark) == msgspec.structs.replace(page, records=[])

    async def test_an_address_has_one_instance(self, two: Two) -> None:
        """Who registers at an address removes the others there; the later write counts."""
        one, other = two
        await one.write([asked("a", port=1), asked("b", port=2), asked("c", port=3)])
        mark = (await other.read(None)).mark
        await other.write([asked("d", port=1, service="cards")])
        page = await one.read(mark)
        assert {r.id: r.instance is None for r in page.records} == {"a": True, "d": False}
        # What was decided before, about who is not there any more, is not stored.
        assert await one.write([decided(mark.revision, "a", port=1, doubted=True)]) == {}
        # Who says something new of itself where it is already takes nothing away; who moves does.
        await one.write([asked("b", port=2, version="2"), asked("c", port=1)])
        found = (await other.read(None)).records
        assert sorted(r.id for r in found) == ["b", "c"]
        assert [r.revision for r in found] == sorted({r.revision for r in found})

    async def test_removals(self, two: Two) -> None:
        """A removal is told to those who have read before, and not to those who read anew."""
        one, other = two
        await one.write([asked("a"), asked("b")])
        mark = (await other.read(None)).mark
        assert await one.write([removal("a"), removal("unknown")]) == {"a": mark.revision + 1}
        page = await other.read(mark)
        assert [(r.id, r.instance) for r in page.records] == [("a", None)]
        assert [r.id for r in (await other.read(None)).records] == ["b"]
        assert await one.write([removal("a")]) == {}
        await one.write([asked("a")])
        assert len((await other.read(None)).records) == 2

    async def test_foreign_marks(self, two: Two) -> None:
        """To a mark of another store, or of the future, the answer is everything."""
        one, other = two
        await one.write([asked()])
        all = await one.read(None)
        assert all.complete
        assert await other.read(Mark("another", 1)) == all
        assert await other.read(Mark(all.mark.store, 1000)) == all

    async def test_what_is_asked_for_again_changes_nothing(self, two: Two) -> None:
        """The same again, also from another registry, is no change: the holder stays."""
        one, other = two
        await one.write([asked(holder="one")])
        assert await other.write([asked(holder="two")]) == {}
        assert (await only(one)).holder == "one"
        assert await other.write([asked(holder="two", version="2")]) == {"accounts-1": 2}
        assert (await only(one)).holder == "two"

    async def test_what_is_asked_for_ends_expiry(self, two: Two) -> None:
        """A registration of what is expired or doubted is a change, whatever else is the same."""
        one, other = two
        for entry in (asked(expired=True), asked(doubted=True)):
            await one.write([entry])
            assert await other.write([asked(holder="two")])
            found = await only(one)
            assert (found.expired, found.doubted, found.holder) == (False, False, "two")

    async def test_decisions_hold_for_what_was_seen(self, two: Two) -> None:
        """A decision about another revision is not stored, and hinders no neighbour."""
        one, other = two
        await one.write([asked("a"), asked("b")])
        await other.write([asked("a", version="2")])
        entries = [decided(1, "a", expired=True), decided(2, "b", expired=True), asked("c")]
        assert await one.write(entries) == {"b": 4, "c": 5}
        records = {r.id: r for r in (await other.read(None)).records}
        assert [records[id].expired for id in "abc"] == [False, True, False]

    async def test_decisions_are_stored_even_when_the_same(self, two: Two) -> None:
        """A repeated decision about what is there is a change, so that others hear of it."""
        one, _ = two
        await one.write([asked(doubted=True)])
        assert await one.write([decided(1, doubted=True)]) == {"accounts-1": 2}

    async def test_decisions_about_what_is_not_there(self, two: Two) -> None:
        """Revision 0 means that there is none; a removed one has a revision."""
        one, _ = two
        assert await one.write([decided(1)]) == {}
        assert await one.write([decided(0)]) == {"accounts-1": 1}
        assert await one.write([removal(expected=1)]) == {"accounts-1": 2}
        assert await one.write([decided(0)]) == {}
        assert await one.write([decided(2)]) == {"accounts-1": 3}

    async def test_decided_once(self, two: Two) -> None:
        """Of any number of decisions about one revision, one is stored."""
        await two[0].write([asked(holder="gone")])
        done = await asyncio.gather(
            *(two[n % 2].write([decided(1, holder=f"server {n}")]) for n in range(20))
        )
        (winner,) = [n for n, stored in enumerate(done) if stored]
        found = await only(two[0])
        assert (found.holder, found.revision) == (f"server {winner}", 2)

    async def test_revisions_are_dense(self, two: Two) -> None:
        """However many write at the same time, revisions have no holes, and none comes late."""
        one, other = two
        writers = [
            asyncio.create_task(two[n % 2].write([asked(f"{n}-{m}") for m in range(3)]))
            for n in range(20)
        ]
        seen: list[int] = []
        mark: Mark | None = None
        async with asyncio.timeout(WAIT_S_MAX):
            while len(seen) < 60:
                await asyncio.sleep(0)  # a store in memory never waits
                page = await other.read(mark)
                mark = page.mark
                seen += [record.revision for record in page.records]
        await asyncio.gather(*writers)
        assert seen == list(range(1, 61))
        assert (await one.read(None)).mark == mark

    @pytest.mark.parametrize("status", ["OUT_OF_SERVICE", "UP"])
    async def test_overrides_stay(self, two: Two, status: Status) -> None:
        """A registry that does not know an override cannot undo it by a registration."""
        one, other = two
        await one.write([asked(override=status, overrides=True)])
        await other.write([asked(version="2")])
        assert (await only(one)).override == status
        await other.write([asked(version="2", overrides=True)])
        assert (await only(one)).override is None
        await one.write([asked(override=status, overrides=True)])
        await one.write([removal()])
        await other.write([asked()])
        assert (await only(one)).override is None

    async def test_an_override_alone(self, two: Two) -> None:
        """An override says nothing about the rest, and cannot bring back what was removed."""
        one, other = two
        await one.write([asked(version="2", holder="one", doubted=True)])
        override = Entry(record(holder="two", override="DRAINING"), registers=False, overrides=True)
        assert await other.write([override]) == {"accounts-1": 2}
        expected = record(version="2", holder="one", doubted=True, override="DRAINING")
        assert await only(one) == msgspec.structs.replace(expected, revision=2)
        assert await other.write([override]) == {}
        await one.write([removal()])
        assert await other.write([override]) == {}
        assert (await one.read(None)).records == []
        fresh = Entry(record("b", override="DOWN"), registers=False, overrides=True)
        assert await other.write([fresh]) == {"b": 4}

    async def test_signs_of_life(self, two: Two) -> None:
        """Signs of life are counted for each server, and forgotten when it leaves."""
        one, other = two
        assert await one.beat("one") == {"one": 1}
        assert await other.beat("two") == {"one": 1, "two": 1}
        assert await one.beat("one") == {"one": 2, "two": 1}
        await one.leave("one")
        await one.leave("one")
        assert await other.beat("two") == {"two": 2}

    async def test_changes_wake_others(self, two: Two) -> None:
        """Who waits hears of each change, of those before the call, too."""
        one, other = two
        await other.changed()  # from now on
        for version in ("1", "2", "3"):
            mark = (await other.read(None)).mark
            await one.write([asked(version=version)])
            async with asyncio.timeout(WAIT_S_MAX):
                while (await other.read(mark)).mark == mark:
                    await other.changed()

    async def test_closed(self, two: Two) -> None:
        """A closed store says so; closing twice is fine."""
        one, other = two
        await one.close()
        await one.close()
        for call in (one.read(None), one.write([asked()]), one.beat("one"), one.leave("one")):
            with pytest.raises(StoreUnavailable, match="closed: open it again") as caught:
                await call
            assert caught.value.outcome == "not stored"
        assert (await other.read(None)).records == []


__all__ = ["RegistryStoreConformance", "asked", "decided", "record", "removal"]
