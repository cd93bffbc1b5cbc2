"""Documents, transactions and finding: a part of the view store suite."""

import asyncio
import enum
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from headwater.errors import InvalidInput, StoreError
from headwater.testing.views_base import (
    WAIT_S_MAX,
    Numbered,
    Person,
    Renamed,
    ViewStoreSuite,
    claim,
    one_segment,
    save,
)
from headwater.views import Range, ViewStore

_ID = UUID(int=10 << 96)


class _Colour(enum.Enum):
    RED = "red"


class ViewDocuments(ViewStoreSuite):
    """Saving, loading and deleting, in transactions."""

    async def test_saved_documents_are_read_back(self, store: ViewStore) -> None:
        """What a transaction saved, `get` and `get_many` return after it, whole."""
        person = Person("p1", "Köln\0\U0001f600", 41, member=True, nickname="Jo", notes=["a", "b"])
        await save(store, person, Person("p2"), Numbered(7, "seven"))
        assert await store.get(Person, "p1") == person
        assert await store.get(Person, "absent") is None
        assert await store.get(Numbered, "7") == Numbered(7, "seven")
        found = await store.get_many(Person, ["p2", "absent", "p1", "p1"])
        assert found == {"p1": person, "p2": Person("p2")}
        assert await store.get_many(Person, []) == {}

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            (7, "7"),
            (True, "true"),
            (Decimal("1.50"), "1.5"),
            (_ID, "0000000a-0000-0000-0000-000000000000"),
            (_Colour.RED, "red"),
            (datetime(2024, 7, 1, 14, tzinfo=timezone(timedelta(hours=2))), "2024-07-01T12:00:00Z"),
            (b"a", "YQ=="),
        ],
    )
    async def test_keys_of_other_types_are_text(
        self, store: ViewStore, key: Any, text: str
    ) -> None:
        """A key that is no text is its canonical text, wherever it is given and returned."""
        await save(store, Person(text, "Rome"), Person("other"))
        assert await store.get(Person, key) == await store.get(Person, text) == Person(text, "Rome")
        assert await store.get_many(Person, [key, "absent"]) == {text: Person(text, "Rome")}
        assert (await store.find(Person, where={"id": key})).items == [Person(text, "Rome")]
        assert await store.count(Person, where={"id": Range(key, key)}) == 1
        async with store.transaction() as work:
            loaded = await work.load(Person, [key])
            assert loaded == {text: Person(text, "Rome")}
            loaded[text].city = "Oslo"
            await work.save(list(loaded.values()))
            assert await work.load(Person, [text, key]) == {text: Person(text, "Oslo")}
            await work.delete(Person, [key])
            assert await work.load(Person, [key]) == {}
        assert (await store.find(Person)).items == [Person("other")]

    async def test_none_is_the_key_of_no_document(self, store: ViewStore) -> None:
        """None finds and removes nothing, wherever it is given as a key."""
        await save(store, Person("None"), Person(""))
        nothing: Any = None
        assert await store.get(Person, nothing) is None
        assert await store.get_many(Person, [nothing, ""]) == {"": Person("")}
        async with store.transaction() as work:
            assert await work.load(Person, [nothing]) == {}
            await work.delete(Person, [nothing])
        assert await store.count(Person) == 2

    @pytest.mark.parametrize("key", [float("nan"), ["a"], {"a": 1}])
    async def test_what_has_no_text_is_no_key(self, store: ViewStore, key: Any) -> None:
        """A key without a canonical text is refused, and the store goes on."""
        with pytest.raises(InvalidInput, match="no canonical text"):
            await store.get(Person, key)
        with pytest.raises(InvalidInput, match="no canonical text"):
            await store.get_many(Person, ["a", key])
        for name in ("load", "delete"):
            with pytest.raises(InvalidInput, match="no canonical text"):
                async with store.transaction() as work:
                    await getattr(work, name)(Person, [key])
        await save(store, Person("p"))
        assert await store.count(Person) == 1

    async def test_save_replaces_by_key(self, store: ViewStore) -> None:
        """A document saved under a key replaces the one before, also within one call."""
        await save(store, Person("p", "Rome"))
        await save(store, Person("p", "Oslo"), Person("p", "Bonn", age=3))
        assert await store.get(Person, "p") == Person("p", "Bonn", age=3)
        assert (await store.find(Person, where={"city": "Rome"})).items == []
        assert await store.count(Person) == 1

    async def test_renamed_fields(self, store: ViewStore) -> None:
        """Fields with other names in JSON are found and ordered by their names in Python."""
        rows = [Renamed("b", "Oslo", 1990), Renamed("a", None, 1980), Renamed("c", "Oslo", 1970)]
        await save(store, *rows)
        assert await store.get_many(Renamed, ["a", "b"]) == {"a": rows[1], "b": rows[0]}
        found = await store.find(Renamed, where={"home_town": "Oslo"}, order_by="born_in")
        assert found.items == [rows[2], rows[0]]
        assert (await store.find(Renamed, where={"row_id": Range("b", "b")})).items == [rows[0]]
        for name in ("city", "homeTown", "bornIn"):
            with pytest.raises(InvalidInput, match=name):
                await store.find(Renamed, where={name: None})

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

    async def test_a_task_does_not_wait_for_itself(self, store: ViewStore) -> None:
        """Inside a block its task is refused what would wait for the block; the block goes on."""
        segment = await one_segment(store)
        async with store.transaction() as work:
            await work.save([Person("p")])
            for use in (
                save(store, Person("q")),
                store.claim(segment, owner="me", lease_s=1),
                store.ensure([Person], generation=2),
            ):
                with pytest.raises(StoreError, match="this task is inside a transaction"):
                    await use
        assert (await store.find(Person)).items == [Person("p")]

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


class ViewFinding(ViewStoreSuite):
    """Finding, ordering and paging."""

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

    async def test_none_comes_first(self, store: ViewStore) -> None:
        """Order is None, then text by code points; and the reverse descending."""
        values = [None, "", "10", "9", "Z", "a", "z", "ä", "\uffff", "\U0001f600"]
        await save(store, *(Person(f"{n:02}", nickname=v) for n, v in enumerate(values)))
        found = await store.find(Person, order_by="nickname")
        assert [person.id for person in found.items] == [f"{n:02}" for n in range(len(values))]
        back = await store.find(Person, order_by="nickname", descending=True)
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
    @pytest.mark.parametrize("order_by", ["", "age", "city", "member", "nickname"])
    async def test_pages_make_up_the_whole(
        self, store: ViewStore, order_by: str, descending: bool
    ) -> None:
        """Following the cursor gives every document once, in order, and ends with an empty one."""
        ages = [None, None, None, 1, 1, 2, 2.5, 3]
        people = [
            Person(f"p{n}", "xyz"[n % 3], age, member=n < 5, nickname=[None, "", "t"][n % 3])
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
        """A field without index, a wrong value, limit or cursor is refused with a remedy."""
        indexed = "id, city, age, member, nickname"
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
