"""Indexes of every type, conditions, totals and full text: a part of the view store suite."""

import datetime as dt
import enum
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import pytest

from headwater.errors import InvalidInput, Unstorable
from headwater.testing.views_base import Numbered, Person, ViewStoreSuite, other_form, save
from headwater.views import AnyOf, FullText, In, Index, Key, Prefix, Range, View, ViewStore

_PLUS_2 = dt.timezone(dt.timedelta(hours=2))
_UTC = dt.UTC


class Level(enum.Enum):
    """Values that are not in the order of their names."""

    LOW = "a low one"
    HIGH = "b high one"


class Rank(enum.IntEnum):
    """Numbers."""

    LAST = -1
    FIRST = 1


class Kinds(View):
    """A document with an index of each type."""

    id: Annotated[str, Key]
    day: Annotated[dt.date | None, Index] = None
    at: Annotated[dt.datetime | None, Index] = None
    price: Annotated[Decimal | None, Index] = None
    number: Annotated[uuid.UUID | None, Index] = None
    lasts: Annotated[dt.timedelta | None, Index] = None
    level: Annotated[Level | None, Index] = None
    rank: Annotated[Rank | None, Index] = None


class Page(View):
    """A document with full text."""

    id: Annotated[str, Key]
    title: Annotated[str, FullText, Index] = ""
    body: Annotated[str | None, FullText] = None
    stars: Annotated[int, Index] = 0


VALUES: dict[str, list[Any]] = {  # by field, in order
    "day": [dt.date.min, dt.date(999, 12, 31), dt.date(2024, 2, 29), dt.date(2024, 10, 1),
            dt.date.max],
    "at": [
        dt.datetime(1, 1, 1, tzinfo=_UTC),
        dt.datetime(2024, 7, 1, 13, 59, 59, 999_999, tzinfo=_PLUS_2),
        dt.datetime(2024, 7, 1, 12, tzinfo=_UTC),
        dt.datetime(2024, 7, 1, 14, 0, 0, 1, tzinfo=_PLUS_2),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=_UTC),
    ],
    "price": [
        Decimal("-1e499"), Decimal(-100), Decimal("-99.99"), Decimal("-9.5"), Decimal("-0.12"),
        Decimal("-0.1"), Decimal("-0.001"), Decimal("-1e-499"), Decimal("0.00"), Decimal("1e-499"),
        Decimal("0.001"), Decimal("0.1"), Decimal("0.10000000000000000000000000000000000001"),
        Decimal("0.12"), Decimal("9.5"), Decimal("9.50000001"), Decimal("99.99"), Decimal(100),
        Decimal("1" + "0" * 100), Decimal("9" * 499),
    ],
    "number": [uuid.UUID(int=n) for n in (0, 1, 10 << 96, 2**127, 2**128 - 1)],
    "lasts": [
        dt.timedelta(microseconds=-(2**63)), dt.timedelta(days=-1), dt.timedelta(microseconds=-1),
        dt.timedelta(), dt.timedelta(microseconds=1), dt.timedelta(hours=25),
        dt.timedelta(microseconds=2**63 - 1),
    ],
    "level": [Level.LOW, Level.HIGH],
    "rank": [Rank.LAST, Rank.FIRST],
}  # fmt: skip
SAME = [
    ("price", Decimal("0.10"), Decimal("0.1")),
    ("price", 100, Decimal(100)),
    ("price", Decimal("1E+2"), Decimal(100)),
    ("price", Decimal("-0"), Decimal("0.00")),
    ("at", dt.datetime(2024, 7, 1, 14, tzinfo=_PLUS_2), dt.datetime(2024, 7, 1, 12, tzinfo=_UTC)),
    ("level", "a low one", Level.LOW),
    ("rank", 1, Rank.FIRST),
]
UNORDERED = [
    ("at", dt.datetime(2024, 7, 1, 12), r"at is .*, which has no time zone"),  # noqa: DTZ001  # that is the rule
    ("at", dt.datetime(1, 1, 1, tzinfo=_PLUS_2), "outside of the years 1 to 9999"),
    ("price", Decimal("Infinity"), "price is Decimal.*, which is no number that has a place"),
    ("price", Decimal("1e1000"), "takes 500 digits"),
    ("price", Decimal("0." + "1" * 501), "takes 500 digits"),
    ("lasts", dt.timedelta.max, "more than 64 bits of microseconds"),
]
FOREIGN = [
    ("day", dt.datetime(2024, 7, 1, tzinfo=_UTC), "give a date"),
    ("day", "2024-07-01", "give a date"),
    ("at", dt.date(2024, 7, 1), "give a datetime"),
    ("at", dt.datetime(2024, 7, 1), "no time zone"),  # noqa: DTZ001  # that is the rule
    ("price", 0.1, "give a Decimal"),
    ("price", Decimal("NaN"), "no number that has a place"),
    ("number", "0", "give a UUID"),
    ("lasts", 5, "give a timedelta"),
    ("level", 5, "give text"),
    ("rank", "1", "give a whole number"),
    ("id", ["a"], "no canonical text"),
]


class ViewQueries(ViewStoreSuite):
    """What can be indexed, and asked for."""

    @pytest.mark.parametrize("field", VALUES)
    async def test_each_type_is_found_and_ordered(self, store: ViewStore, field: str) -> None:
        """Values of each type come back, are found, and are ordered by value, page by page."""
        await store.ensure([Kinds])
        values = VALUES[field]
        documents = [Kinds(f"{n:02}", **{field: v}) for n, v in enumerate([None, *values])]
        await save(store, *reversed(documents))
        for n, value in enumerate(values, 1):
            assert await store.get(Kinds, f"{n:02}") == documents[n]
            await self._check(store, {field: value}, [documents[n]])
            await self._check(store, {field: In([value, None])}, [documents[0], documents[n]])
            await self._check(store, {field: Range(least=value)}, documents[n:])
            await self._check(store, {field: Range(most=value)}, documents[1 : n + 1])
        await self._check(store, {field: None}, documents[:1])
        await self._check(store, {field: Range()}, documents[1:])
        for descending in (False, True):
            found, cursor = [], ""
            while True:
                page = await store.find(
                    Kinds, order_by=field, descending=descending, limit=2, cursor=cursor
                )
                found += page.items
                cursor = page.next
                if not cursor:
                    break
            assert found == (documents[::-1] if descending else documents)

    @pytest.mark.parametrize(("field", "asked", "kept"), SAME)
    async def test_what_is_equal_is_found(
        self, store: ViewStore, field: str, asked: Any, kept: Any
    ) -> None:
        """A value is found by what is equal to it, however that is written."""
        await store.ensure([Kinds])
        document = Kinds("a", **{field: kept})
        await save(store, document, Kinds("b"))
        for condition in (asked, In([asked]), Range(asked, asked)):
            await self._check(store, {field: condition}, [document])

    @pytest.mark.parametrize(("field", "value", "told"), UNORDERED)
    async def test_what_has_no_place_in_an_order_is_refused(
        self, store: ViewStore, field: str, value: Any, told: str
    ) -> None:
        """A document with such a value is refused by name, and the store goes on."""
        await store.ensure([Kinds])
        with pytest.raises(Unstorable, match=told):
            await save(store, Kinds("a", **{field: value}))
        assert await store.count(Kinds) == 0

    @pytest.mark.parametrize(("field", "value", "told"), FOREIGN)
    async def test_an_index_is_compared_with_values_of_its_type(
        self, store: ViewStore, field: str, value: Any, told: str
    ) -> None:
        """A value of another type is refused, alone, in a list and as a bound."""
        await store.ensure([Kinds])
        for condition in (value, In([value]), Range(most=value)):
            with pytest.raises(InvalidInput, match=told):
                await store.find(Kinds, where={field: condition})

    async def test_several_values(self, store: ViewStore) -> None:
        """`In` finds what is equal to one of its values, None included; without any, nothing."""
        cities = ["Rome", "Oslo", "Bonn", "Rome"]
        people = [Person(f"p{n}", city, n) for n, city in enumerate(cities)]
        people += [Person("p4", "Rome", None), Person("p5", "\0", 7.5)]
        await save(store, *people)
        await self._check(store, {"city": In(["Oslo", "Bonn", "Oslo", "\0"])}, people, "125")
        await self._check(store, {"age": In([0, None, 3.0, 7.5, 2**70])}, people, "0345")
        await self._check(store, {"id": In(["p1", "p9", None])}, people, "1")
        await self._check(store, {"city": In([])}, people, "")
        await self._check(store, {"city": In(["Rome"]), "age": Range(1, 9)}, people, "3")
        await self._check(store, {"age": In(list(range(2, 1000)))}, people, "23")
        for bad in (In("Rome"), In(list(range(1001)))):
            with pytest.raises(InvalidInput, match="give In a list of at most 1000"):
                await store.find(Person, where={"age": bad})
        with pytest.raises(InvalidInput, match="give text"):
            await store.find(Person, where={"city": ["Rome"]})

    async def test_alternatives(self, store: ViewStore) -> None:
        """`AnyOf` finds what meets one of its sets, once; of each all conditions hold."""
        people = [Person(f"p{n}", "ab"[n % 2], n, member=n > 5) for n in range(10)]
        await save(store, *people)
        either = AnyOf({"city": "a", "age": Range(most=3)}, {"member": True, "city": "b"})
        await self._check(store, either, people, "0279")
        await self._check(store, AnyOf({"city": "a"}, {"age": Range(4, 5)}), people, "024568")
        await self._check(store, AnyOf({"city": "c"}), people, "")
        await self._check(store, AnyOf({"city": "c"}, {}), people, "0123456789")
        await self._check(store, AnyOf(), people, "")
        with pytest.raises(InvalidInput, match="AnyOf has 51 sets: give at most 50"):
            await store.find(Person, where=AnyOf(*({"id": f"{n}"} for n in range(51))))

    async def test_prefixes(self, store: ViewStore) -> None:
        """`Prefix` finds texts that begin with a text, as they are written."""
        texts = ["ab", "abc", "ab\0", "ab\U0010ffff", "ab\U0010ffff\U0010ffff", "ac", "Ab", "a", ""]
        people = [Person(f"p{n}", text) for n, text in enumerate(texts)]
        await save(store, *people, Numbered(12), Numbered(120), Numbered(21))
        await self._check(store, {"city": Prefix("ab")}, people, "01234")
        await self._check(store, {"city": Prefix("ab\U0010ffff")}, people, "34")
        await self._check(store, {"city": Prefix("ab\0")}, people, "2")
        await self._check(store, {"city": Prefix("")}, people, "012345678")
        await self._check(store, {"city": Prefix("\ud7ff")}, people, "")
        await self._check(store, {"id": Prefix("p"), "city": Prefix("A")}, people, "6")
        await self._check(store, {"nickname": Prefix("")}, people, "")
        numbered = (await store.find(Numbered, where={"number": Prefix("12")})).items
        assert numbered == [Numbered(12), Numbered(120)]
        with pytest.raises(InvalidInput, match=r"age holds a number, which has no Prefix"):
            await store.find(Person, where={"age": Prefix("1")})

    async def test_pages_of_conditions_make_up_the_whole(self, store: ViewStore) -> None:
        """With any conditions, following the cursor gives each document once, and the total."""
        people = [Person(f"p{n:02}", "abc"[n % 3], [None, n // 4][n % 5 > 0]) for n in range(24)]
        await save(store, *people)
        where = AnyOf({"city": In(["a", "c"])}, {"age": None}, {"id": Prefix("p1")})
        for order_by, descending in (("age", False), ("age", True), ("city", False), ("", True)):
            query: dict[str, Any] = {
                "where": where, "order_by": order_by, "descending": descending,
            }  # fmt: skip
            whole = (await store.find(Person, **query)).items
            assert len(whole) == await store.count(Person, where=where)
            found, cursor = [], ""
            while True:
                page = await store.find(Person, **query, limit=3, cursor=cursor, include_total=True)
                assert page.total == len(whole)
                found += page.items
                cursor = page.next
                if not cursor:
                    break
            assert found == whole

    async def test_the_total_is_counted_when_asked_for(self, store: ViewStore) -> None:
        """`total` is the number of all that is found, on any page and in a transaction; or None."""
        await save(store, *(Person(f"p{n}", "ab"[n % 2]) for n in range(5)))
        assert (await store.find(Person, limit=2)).total is None
        for limit in (1, 3, 10):
            page = await store.find(Person, where={"city": "a"}, limit=limit, include_total=True)
            assert page.total == 3
        none = await store.find(Person, where={"city": "c"}, include_total=True)
        assert (none.items, none.total) == ([], 0)
        async with store.transaction() as work:
            await work.save([Person("p6", "a")])
            page = await work.find(Person, where={"city": "a"}, limit=1, include_total=True)
            assert page.total == 4

    async def test_a_cursor_belongs_to_its_conditions(self, store: ViewStore) -> None:
        """A cursor of other conditions or words is refused; the order of values does not count."""
        await store.ensure([Page])
        await save(store, *(Page(f"p{n}", "a word", stars=n) for n in range(4)))
        among = In([0, 1, 2, 3])
        page = await store.find(Page, where={"stars": among}, matching="a word", limit=1)
        again = In([3, 2, 1, 0])
        rest = await store.find(
            Page, where={"stars": again}, matching="WORD, a", cursor=page.next, include_total=True
        )
        assert ([one.id for one in rest.items], rest.total) == (["p1", "p2", "p3"], 4)
        for query in (
            {"matching": "a word"}, {"where": {"stars": among}},
            {"where": {"stars": In([0])}, "matching": "a word"},
            {"where": {"stars": among}, "matching": "a wor*"},
        ):  # fmt: skip
            with pytest.raises(InvalidInput, match="of another query"):
                await store.find(Page, cursor=page.next, **query)

    async def test_words_are_found(self, store: ViewStore) -> None:
        """All words must be there, in any field; a prefix is one; case and accents do not count."""
        await store.ensure([Page])
        pages = [
            Page("p0", "Hello, World", "It's a small world; and round."),
            Page("p1", "Crème brûlée", "STRASSE 12b, Ünlü's café"),
            Page("p2", "Привет, мир", "日本語 テキスト हिन्दी भाषा"),
            Page("p3", "hello_there", None),
            Page("p4", "", "worldwide x" + "y" * 100),
            Page("p5"),
        ]
        await save(store, *pages)
        for matching, ids in {
            "hello": "03", "HELLO world": "0", "world": "0", "world*": "04", "wor* hel*": "0",
            "hello hello": "03", "it": "0", "s": "01", "and round small": "0", "and square": "",
            "creme": "1", "BRÛLÉE": "1", "brulee creme": "1", "straße": "1", "strasse": "1",
            "12b": "1", "12": "", "12*": "1", "unlu": "1", "cafe*": "1",
            "привет": "2", "МИР": "2", "при*": "2", "日本*": "2", "日本": "", "テキスト": "2",
            "हिन्दी": "2", "भाषा": "2", "there": "3", "x" + "y" * 100: "4", "x" + "y" * 99: "4",
            "xyyy": "", "world-wide": "", "'world'": "0", "a:*b | !c": "", "NOT": "", "and": "0",
        }.items():  # fmt: skip
            found = await store.find(Page, matching=matching)
            assert [page.id[1] for page in found.items] == [*ids], matching
            assert await store.count(Page, matching=matching) == len(ids)

    async def test_words_follow_the_documents(self, store: ViewStore) -> None:
        """What is saved is found by its present words, in its transaction at once."""
        await store.ensure([Page])
        await save(store, Page("a", "one two"), Page("b", "two three"), Page("c", "three"))
        async with store.transaction() as work:
            await work.save([Page("a", "four"), Page("d", "two", stars=5)])
            await work.delete(Page, ["b"])
            assert [p.id for p in (await work.find(Page, matching="two")).items] == ["d"]
            await work.save([Page("d", "two", stars=7)])
        found = await store.find(Page, matching="two", where={"stars": Range(6)})
        assert found.items == [Page("d", "two", stars=7)]
        assert [p.id for p in (await store.find(Page, matching="t*")).items] == ["c", "d"]
        assert [p.id for p in (await store.find(Page, matching="four")).items] == ["a"]
        with pytest.raises(RuntimeError):
            async with store.transaction() as work:
                await work.save([Page("a", "gone")])
                assert await work.find(Page, matching="gone")
                raise RuntimeError
        assert await store.count(Page, matching="gone") == 0
        assert await store.count(Page, matching="four") == 1

    async def test_words_that_cannot_be_asked_for(self, store: ViewStore) -> None:
        """Without a word, or without full text, a query by words is refused."""
        await store.ensure([Page])
        with pytest.raises(InvalidInput, match="has 0 words for Page: give 1 to 50"):
            await store.find(Page, matching="... *")
        with pytest.raises(InvalidInput, match=r"Person has no full text .* FullText"):
            await store.count(Person, matching="word")
        large = " ".join(f"{n:050}" for n in range(5000))
        with pytest.raises(Unstorable, match=r"title and body is .* words, and at most 200000"):
            await save(store, Page("a", body=large))
        await save(store, Page("a", body="word " * 300_000))
        assert await store.count(Page, matching="word") == 1

    async def test_words_have_generations(self, store: ViewStore) -> None:
        """Each generation has its own words; full text that was not declared before is refused."""
        await store.ensure([Page], generation=1, processor="p")
        await store.ensure([Page], generation=2, processor="p")
        async with store.transaction(generations={"Page": 1}) as work:
            await work.save([Page("a", "old")])
        async with store.transaction(generations={"Page": 2}) as work:
            await work.save([Page("a", "new")])
        assert await store.count(Page, matching="old", generation=1) == 1
        assert await store.count(Page, matching="old", generation=2) == 0
        await store.activate("p", 2, [Page])
        assert await store.count(Page, matching="new") == 1
        again = other_form("Numbered", number=Annotated[int, Key], text=Annotated[str, FullText])
        with pytest.raises(Exception, match="rebuild the projection"):
            await store.ensure([again])

    async def _check(
        self, store: ViewStore, where: Any, documents: Sequence[Any], digits: str | None = None
    ) -> None:
        """Check what is found of documents: all, or those whose ids end in these digits."""
        if digits is not None:
            documents = [document for document in documents if document.id[-1] in digits]
        kind: Any = Kinds if digits is None else Person
        found = (await store.find(kind, where=where, limit=1000)).items
        assert found == list(documents), where
        assert await store.count(kind, where=where) == len(found)
