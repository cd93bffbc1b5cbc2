"""The suite that every view store passes: one test per sentence of `headwater.views.api`.

A backend's whole test module::

    class TestMyViewStore(ViewStoreConformance):
        shared = True

        async def open_store(self, place: Path, clock: Callable[[], float]) -> ViewStore:
            return await MyViewStore.open(place / "views", clock=clock)
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import pytest_asyncio

from headwater.errors import (
    ClaimLost,
    ConfigurationError,
    InvalidInput,
    StoreError,
    StoreUnavailable,
)
from headwater.views import Index, Key, Range, Segment, View, ViewStore

WAIT_S_MAX = 10.0


class Person(View):
    """A document with indexes of every kind."""

    id: Annotated[str, Key]
    city: Annotated[str, Index] = ""
    age: Annotated[int | float | None, Index] = 0
    member: Annotated[bool, Index] = False
    mixed: Annotated[str | float | None, Index] = None
    notes: list[str] = []


class Numbered(View):
    """A document whose key is a number, without indexes."""

    number: Annotated[int, Key]
    text: str = ""


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        """Start somewhere."""
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def other_form(name: str, **fields: Any) -> type[View]:
    """Return another view class of the same name, as a later release would declare it."""
    return type(name, (View,), {"__annotations__": fields, "__module__": __name__})


class ViewStoreConformance:
    """Subclass it, say how to open a store, and whether stores at one place share their data."""

    pytestmark = pytest.mark.asyncio
    shared: ClassVar[bool]

    async def open_store(self, place: Path, clock: Callable[[], float]) -> ViewStore:
        """Open a store whose data is in the directory ``place``."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Clock:
        """Return the clock of the stores' leases."""
        return Clock()

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path, clock: Clock) -> AsyncIterator[ViewStore]:
        """Open a store with room for the suite's documents."""
        store = await self.open_store(tmp_path, clock)
        await store.ensure([Person, Numbered])
        yield store
        await store.close()

    # --- documents ---

    async def test_saved_documents_are_read_back(self, store: ViewStore) -> None:
        """What a transaction saved, `get` and `get_many` return after it, whole."""
        person = Person("p1", "Köln\0\U0001f600", 41, member=True, mixed=2.5, notes=["a", "b"])
        await save(store, person, Person("p2"), Numbered(7, "seven"))
        assert await store.get(Person, "p1") == person
        assert await store.get(Person, "absent") is None
        assert await store.get(Numbered, "7") == Numbered(7, "seven")
        found = await store.get_many(Person, ["p2", "absent", "p1", "p1"])
        assert found == {"p1": person, "p2": Person("p2")}
        assert await store.get_many(Person, []) == {}

    async def test_save_replaces_by_key(self, store: ViewStore) -> None:
        """A document saved under a key replaces the one before, also within one call."""
        await save(store, Person("p", "Rome"))
        await save(store, Person("p", "Oslo"), Person("p", "Bonn", age=3))
        assert await store.get(Person, "p") == Person("p", "Bonn", age=3)
        assert (await store.find(Person, where={"city": "Rome"})).items == []
        assert await store.count(Person) == 1

    async def test_delete_ignores_what_does_not_exist(self, store: ViewStore) -> None:
        """Deleting removes the keys that exist and ignores the others."""
        await save(store, Person("a"), Person("b"))
        async with store.transaction() as work:
            await work.delete(Person, ["a", "absent"])
        assert await store.get(Person, "a") is None
        assert await store.count(Person) == 1

    async def test_many_documents_at_once(self, store: ViewStore) -> None:
        """Thousands of keys are loaded, saved and deleted in one call."""
        people = [Person(f"p{n}", age=n) for n in range(5000)]
        keys = [person.id for person in people]
        await save(store, *people)
        async with store.transaction() as work:
            loaded = await work.load(Person, [*keys, "absent"])
            await work.delete(Person, keys[:4000])
        assert loaded == {person.id: person for person in people}
        assert await store.get_many(Person, keys) == {p.id: p for p in people[4000:]}

    async def test_documents_are_copies(self, store: ViewStore) -> None:
        """Changing a document in the program changes nothing in the store."""
        person = Person("p", notes=["kept"])
        await save(store, person)
        person.notes.append("lost")
        read = await store.get(Person, "p")
        assert read is not None
        read.notes.append("lost too")
        assert await store.get(Person, "p") == Person("p", notes=["kept"])

    async def test_an_index_takes_64_bits(self, store: ViewStore) -> None:
        """An indexed number beyond 64 bits, or not a number, is refused, the largest are kept."""
        for value in (2**63, -(2**63) - 1, float("nan")):
            with pytest.raises(InvalidInput, match=r"Person\.age is .* 64 bits"):
                await save(store, Person("p", age=value))
        await save(store, Person("max", age=2**63 - 1), Person("min", age=-(2**63)))
        found = await store.find(Person, order_by="age")
        assert [person.id for person in found.items] == ["min", "max"]

    # --- transactions ---

    async def test_a_transaction_sees_itself(self, store: ViewStore) -> None:
        """Inside a transaction its own changes are seen; outside only after the commit."""
        await save(store, Person("old", "Rome"), Person("gone", "Rome"))
        async with store.transaction() as work:
            await work.save([Person("new", "Rome"), Person("old", "Oslo")])
            await work.delete(Person, ["gone"])
            assert await work.load(Person, ["old", "gone", "new"]) == {
                "old": Person("old", "Oslo"),
                "new": Person("new", "Rome"),
            }
            inside = await work.find(Person, where={"city": "Rome"})
            assert inside.items == [Person("new", "Rome")]
            outside = await store.find(Person, where={"city": "Rome"})
            assert [person.id for person in outside.items] == ["gone", "old"]
            assert await store.get(Person, "new") is None
        assert await store.get(Person, "new") == Person("new", "Rome")
        assert await store.count(Person, where={"city": "Rome"}) == 1

    async def test_an_error_rolls_back(self, store: ViewStore) -> None:
        """When the block raises, nothing of it is stored, and the next one works."""
        claimed = await claim(store, await one_segment(store))
        with pytest.raises(ZeroDivisionError):
            async with store.transaction() as work:
                await work.save([Person("p")])
                await work.advance([claimed], "1")
                raise ZeroDivisionError
        assert await store.get(Person, "p") is None
        assert [segment.token for segment in await store.segments("p")] == ["0"]
        await save(store, Person("q"))
        assert await store.count(Person) == 1

    async def test_cancellation_rolls_back(self, store: ViewStore) -> None:
        """When the block is cancelled, nothing of it is stored, and the next one works."""
        inside = asyncio.Event()

        async def hang() -> None:
            async with store.transaction() as work:
                await work.save([Person("p")])
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hang())
        await asyncio.wait_for(inside.wait(), WAIT_S_MAX)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.get(Person, "p") is None
        await save(store, Person("q"))
        assert await store.count(Person) == 1

    async def test_cancellation_at_any_step_leaves_all_or_nothing(self, store: ViewStore) -> None:
        """Wherever a transaction is cancelled, both of its changes are stored or neither."""

        async def change(n: int) -> None:
            async with store.transaction() as work:
                await work.save([Person(f"a{n}")])
                await work.save([Person(f"b{n}")])

        for n in range(40):
            task = asyncio.create_task(change(n))
            for _ in range(n):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            both = await store.get_many(Person, [f"a{n}", f"b{n}"])
            assert len(both) in {0, 2}
            assert len(both) == 2 or task.cancelled()
        await save(store, Person("after"))
        assert await store.get(Person, "after") == Person("after")

    async def test_transactions_do_not_overlap(self, store: ViewStore) -> None:
        """Read, wait, write from many tasks loses no update."""

        async def count_up() -> None:
            for _ in range(5):
                async with store.transaction() as work:
                    found = await work.load(Person, ["n"])
                    age = found["n"].age if found else 0
                    await asyncio.sleep(0)
                    await work.save([Person("n", age=(age or 0) + 1)])

        await asyncio.gather(*(count_up() for _ in range(8)))
        assert await store.get(Person, "n") == Person("n", age=40)

    # --- finding ---

    async def test_find_by_equality_and_range(self, store: ViewStore) -> None:
        """All conditions hold for what is found: equal values, inclusive ranges, open ends."""
        await save(store, *(Person(f"p{n}", "ab"[n % 2], n, member=n > 5) for n in range(10)))

        async def ids(**where: Any) -> str:
            page = await store.find(Person, where=where)
            assert await store.count(Person, where=where) == len(page.items)
            return "".join(person.id[1] for person in page.items)

        assert await ids(city="a") == "02468"
        assert await ids(age=Range(3, 5)) == "345"
        assert await ids(age=Range(least=8)) == "89"
        assert await ids(age=Range(most=1)) == "01"
        assert await ids(age=Range()) == "0123456789"
        assert await ids(age=Range(5, 3)) == ""
        assert await ids(city="b", age=Range(2, 8), member=True) == "7"
        assert await ids(member=True) == "6789"
        assert await ids(id="p4") == "4"
        assert await ids(id=Range("p3", "p4")) == "34"
        assert await ids(city="c") == ""
        assert await ids() == "0123456789"

    async def test_values_are_ordered_none_numbers_text(self, store: ViewStore) -> None:
        """Order is None, numbers by value, text by code points; and the reverse descending."""
        values = [None, float("-inf"), -2.5, -1.0, 0.0, 3.25, 1e300, "", "10", "9", "Z", "a"]
        values += ["z", "ä", "\uffff", "\U0001f600"]
        await save(store, *(Person(f"{n:02}", mixed=v) for n, v in enumerate(values)))
        found = await store.find(Person, order_by="mixed")
        assert [person.id for person in found.items] == [f"{n:02}" for n in range(len(values))]
        back = await store.find(Person, order_by="mixed", descending=True)
        assert back.items == found.items[::-1]

    async def test_none_is_found_by_equality_only(self, store: ViewStore) -> None:
        """A document whose value is None is found by equality with None, and in no range."""
        await save(store, Person("none", age=None), Person("zero", age=0))
        for where, ids in ({"age": None}, ["none"]), ({"age": Range()}, ["zero"]):
            page = await store.find(Person, where=where)
            assert [person.id for person in page.items] == ids

    async def test_ties_are_in_order_of_the_key(self, store: ViewStore) -> None:
        """Equal values come in order of the key, descending in the reverse order."""
        await save(store, Person("b", "x"), Person("c", "x"), Person("a", "x"), Person("d", "w"))
        up = await store.find(Person, order_by="city")
        down = await store.find(Person, order_by="city", descending=True)
        assert [person.id for person in up.items] == ["d", "a", "b", "c"]
        assert [person.id for person in down.items] == ["c", "b", "a", "d"]

    async def test_number_keys_are_text(self, store: ViewStore) -> None:
        """A key that is a number is found as a number or text, and ordered as text."""
        await save(store, *(Numbered(n) for n in (9, 10, 100)))
        assert [doc.number for doc in (await store.find(Numbered)).items] == [10, 100, 9]
        for key in (9, "9"):
            assert (await store.find(Numbered, where={"number": key})).items == [Numbered(9)]

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("order_by", ["", "age", "city", "mixed"])
    async def test_pages_make_up_the_whole(
        self, store: ViewStore, order_by: str, descending: bool
    ) -> None:
        """Following the cursor gives every document once, in order, and ends with an empty one."""
        ages = [None, None, None, 1, 1, 2, 2.5, 3]
        people = [
            Person(f"p{n}", "xyz"[n % 3], age, mixed=[None, 1.5, "t"][n % 3])
            for n, age in enumerate(ages)
        ]
        await save(store, *people)
        query: dict[str, Any] = {"order_by": order_by, "descending": descending}
        whole = (await store.find(Person, **query)).items
        assert len(whole) == len(people)
        for size in range(1, 9):
            pages, cursor = [], ""
            while True:
                page = await store.find(Person, **query, limit=size, cursor=cursor)
                pages += page.items
                cursor = page.next
                assert len(page.items) == size or not cursor
                if not cursor:
                    break
            assert pages == whole

    async def test_a_cursor_survives_changes(self, store: ViewStore) -> None:
        """Documents stored or removed between two pages neither repeat nor hide others."""
        await save(store, *(Person(f"p{n}", age=n) for n in (2, 4, 6, 8)))
        page = await store.find(Person, order_by="age", limit=2)
        async with store.transaction() as work:
            await work.delete(Person, ["p2", "p4"])
            await work.save([Person("p1", age=1), Person("p5", age=5)])
        rest = await store.find(Person, order_by="age", limit=10, cursor=page.next)
        assert [person.age for person in rest.items] == [5, 6, 8]

    async def test_bad_queries_are_refused(self, store: ViewStore) -> None:
        """A field without index, a wrong value, limit or cursor is refused, saying what would do."""
        indexed = "id, city, age, member, mixed"
        with pytest.raises(
            InvalidInput, match=rf"Person\.notes is not indexed: use one of {indexed}"
        ):
            await store.find(Person, where={"notes": "x"})
        with pytest.raises(InvalidInput, match=indexed):
            await store.find(Person, order_by="absent")
        with pytest.raises(InvalidInput, match=indexed):
            await store.count(Person, where={"absent": 1})
        with pytest.raises(InvalidInput, match=r"Person\.city is compared with \[1\]"):
            await store.find(Person, where={"city": [1]})
        for limit in (0, -1, 10_001):
            with pytest.raises(InvalidInput, match="1 to 10000"):
                await store.find(Person, limit=limit)
        async with store.transaction() as work:
            with pytest.raises(InvalidInput, match=indexed):
                await work.find(Person, where={"notes": "x"})

    async def test_foreign_cursors_are_refused(self, store: ViewStore) -> None:
        """A cursor that is damaged or of another query is refused."""
        await save(store, *(Person(f"p{n}", age=n) for n in range(3)))
        cursor = (await store.find(Person, limit=1)).next
        for query in ({"order_by": "age"}, {"descending": True}, {"where": {"city": ""}}):
            with pytest.raises(InvalidInput, match="of another query"):
                await store.find(Person, cursor=cursor, **query)
        for damaged in (cursor[:-3], "?", "é", "A" * 500):
            with pytest.raises(InvalidInput, match="send back `next`"):
                await store.find(Person, cursor=damaged)

    # --- shapes and generations ---

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
            with pytest.raises(ConfigurationError, match="Numbered.*rebuild the projection"):
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
        with pytest.raises(StoreError, match="does not fit the class.*rebuild"):
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
        await store.drop_generation("p", 2, [Person])
        await store.drop_generation("p", 2, [Person])
        assert await store.segments("p") == [kept]
        assert await store.get(Person, "p") == Person("p")
        await store.ensure([Person], generation=2)
        async with store.transaction(generations={"Person": 2}) as work:
            assert await work.load(Person, ["half"]) == {}

    # --- segments and claims ---

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

    async def test_an_ended_lease_can_be_taken(self, store: ViewStore, clock: Clock) -> None:
        """After its lease a segment can be taken, with a risen fence and the present token."""
        first = await claim(store, await one_segment(store), owner="a")
        async with store.transaction() as work:
            await work.advance([first], "5")
        clock.now += 10.1
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

    # --- changes, sharing, closing ---

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
        ):  # fmt: skip
            with pytest.raises(StoreUnavailable, match="closed"):
                await use

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
        await save(store, Person("p", "Rome"))
        await store.close()
        again = await self.open_store(tmp_path, clock)
        await again.ensure([Person])
        assert (await again.find(Person)).items == [Person("p", "Rome")] * self.shared
        await again.close()


async def save(store: ViewStore, *views: View) -> None:
    """Save documents in a transaction of their own."""
    async with store.transaction() as work:
        await work.save(views)


async def one_segment(store: ViewStore, *, processor: str = "p", generation: int = 1) -> Segment:
    """Make and return the one segment of a processor."""
    (segment,) = await store.open_segments(processor, count=1, token="0", generation=generation)
    return segment


async def claim(store: ViewStore, segment: Segment, *, owner: str = "me") -> Segment:
    """Claim a segment that is free, for 10 seconds."""
    claimed = await store.claim(segment, owner=owner, lease_s=10)
    assert claimed is not None
    return claimed


async def count_all(iterator: AsyncIterator[Any]) -> int:
    """Count the items until the iterator ends."""
    return len([item async for item in iterator])
