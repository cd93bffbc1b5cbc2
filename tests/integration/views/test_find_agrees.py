"""The databases find what the model in memory finds, in the same order."""

import asyncio
import datetime as dt
import enum
from collections import ChainMap
from collections.abc import Awaitable
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import InvalidInput, Unstorable
from headwater.views import AnyOf, FullText, In, Index, Key, Prefix, Range, View, ViewStore
from headwater.views.memory import MemoryViewStore
from headwater.views.postgres import PostgresViewStore
from headwater.views.sqlite import SQLiteViewStore


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Doc(View):
    id: Annotated[str, Key]
    text: Annotated[str | None, Index] = None
    few: Annotated[int | None, Index] = None
    real: Annotated[float | None, Index] = None
    price: Annotated[Decimal | None, Index] = None
    at: Annotated[dt.datetime | None, Index] = None
    day: Annotated[dt.date | None, Index] = None
    lasts: Annotated[dt.timedelta | None, Index] = None
    number: Annotated[UUID | None, Index] = None
    colour: Annotated[Colour | None, Index] = None
    body: Annotated[str, FullText] = ""


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
# Values that meet: neighbours of 2**53, empty and odd texts, the same instant in several zones.
odd_texts = ["", "0", "1", "a", "ab", "A", "\0", "a\0b", "ä", "a\U0010ffff"]
odd_numbers = [0, 1, -1, 1.0, -0.0, 0.5, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63)]
keys = st.sampled_from(["", "a", "b", "B", "10", "9", "a\0", "ä", "\U0001f600"]) | texts
near = dt.datetime(2024, 7, 1, 12)  # noqa: DTZ001  # the zones are drawn
aware = st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=2))])
hours = st.integers(9, 15)
fields: dict[str, Any] = {
    "text": st.sampled_from(odd_texts) | texts,
    "few": st.integers(0, 2) | st.integers(-(2**63), 2**63 - 1),
    "real": st.sampled_from(odd_numbers) | st.floats(allow_nan=False, allow_infinity=False),
    "price": st.decimals(-2, 2, places=2)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.sampled_from([Decimal("1.0"), Decimal("1.00"), Decimal("-0"), Decimal("1e499")]),
    "at": st.builds(lambda zone, hour: near.replace(tzinfo=zone, hour=hour), aware, hours)
    | st.datetimes(timezones=aware),
    "day": st.sampled_from([dt.date(2024, 1, 1), dt.date(2024, 1, 2)]) | st.dates(),
    "lasts": st.integers(-1, 1).map(lambda n: dt.timedelta(seconds=n)) | st.timedeltas(),
    "number": st.sampled_from([UUID(int=0), UUID(int=1)]) | st.uuids(),
    "colour": st.sampled_from(Colour),
}
words = st.sampled_from(["one", "two", "oné", "ONE", "on", "привет", "日本", "x_y", "o'ne", "ﬁne"])
bodies = st.lists(words | texts, max_size=4).map(" ".join) | texts
endless = [2**64, float("inf"), float("nan"), Decimal("NaN"), dt.timedelta.max]
odd = ["x", 5, 2.5, b"x", [1], dt.date(2024, 1, 1), near, Decimal(1), Decimal("1e501"), "\ud800"]
wrong = st.sampled_from([*odd, *endless])
rows = st.fixed_dictionaries({"id": keys}, optional={**fields, "body": bodies})
good = rows.map(lambda row: Doc(**row))
bad = st.builds(
    lambda row, name, value: Doc(**{**row, name: value}), rows, st.sampled_from([*fields]), wrong
)
docs = st.lists(good, max_size=12) | st.lists(good, max_size=12) | st.lists(good | bad, max_size=3)


def conditions_on(values: Any) -> Any:
    some = st.none() | values
    return (
        some | st.builds(Range, least=some, most=some) | st.builds(In, st.lists(some, max_size=3))
    )


one_condition = st.one_of(
    st.fixed_dictionaries({"id": conditions_on(keys) | st.builds(Prefix, keys)}),
    st.fixed_dictionaries({"text": st.builds(Prefix, fields["text"])}),
    *(st.fixed_dictionaries({name: conditions_on(values)}) for name, values in fields.items()),
)
sets = st.lists(one_condition, max_size=2).map(lambda some: dict(ChainMap(*some)))
wrong_sets = st.builds(
    lambda name, value: {name: value}, st.sampled_from([*fields]), conditions_on(wrong)
)
asked = st.lists(words | words.map("{}*".format) | texts, min_size=1, max_size=2).map(" ".join)
queries = st.fixed_dictionaries(
    {
        "where": sets
        | sets
        | st.lists(sets, max_size=3).map(lambda found: AnyOf(*found))
        | wrong_sets,
        "order_by": st.sampled_from(["", "id", *fields]),
        "descending": st.booleans(),
        "limit": st.integers(1, 5),
        "include_total": st.booleans(),
    },
    optional={"matching": asked},
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("save"), docs),
        st.tuples(st.just("delete"), st.lists(keys, max_size=4)),
        st.tuples(st.just("find"), queries),
    ),
    max_size=12,
)
scripts = st.builds(
    lambda first, rest: [("save", first), *rest], st.lists(good, min_size=3, max_size=12), steps
)


async def pages(store: ViewStore, query: dict[str, Any]) -> Any:
    """Return all pages, or why the query was refused."""
    found, cursor = [], ""
    while True:
        try:
            page = await store.find(Doc, **query, cursor=cursor)
        except InvalidInput as error:
            return str(error)
        found.append(([repr(item) for item in page.items], bool(page.next), page.total))
        cursor = page.next
        if not cursor:
            return found


async def change(store: ViewStore, step: str, what: list[Any]) -> str:
    """Save or delete; return why it was refused, if it was."""
    async with store.transaction() as work:
        try:
            await (work.save(what) if step == "save" else work.delete(Doc, what))
        except Unstorable as error:
            return str(error)
    return ""


async def compare(opening: Awaitable[ViewStore], script: list[tuple[str, Any]]) -> None:
    stores: list[ViewStore] = [MemoryViewStore(), await opening]
    try:
        for store in stores:
            await store.ensure([Doc], generation=None)
            async with store.transaction() as work:
                old = await work.find(Doc, limit=10_000)
                await work.delete(Doc, [doc.id for doc in old.items])
        for step, what in script:
            if step == "find":
                model, real = [await pages(store, what) for store in stores]
                assert real == model
                if not isinstance(model, str):
                    which = {key: what[key] for key in ("where", "matching") if key in what}
                    counted = [await store.count(Doc, **which) for store in stores]
                    assert counted == [sum(len(items) for items, *_ in model)] * 2
                continue
            model_said, said = [await change(store, step, what) for store in stores]
            assert said == model_said
        everything = [await pages(store, {"limit": 100}) for store in stores]
        assert everything[0] == everything[1]
    finally:
        for store in stores:
            await store.close()


@settings(max_examples=60, deadline=None)
@given(script=scripts)
def test_sqlite_finds_what_the_model_finds(
    tmp_path_factory: Any, script: list[tuple[str, Any]]
) -> None:
    """After any saves and deletions both refused the same, and every query gives the same pages."""
    path = tmp_path_factory.getbasetemp() / "find-agrees.db"
    asyncio.run(compare(SQLiteViewStore.open(path), script))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=scripts)
def test_postgres_finds_what_the_model_finds(
    postgres_url: str, script: list[tuple[str, Any]]
) -> None:
    """After any saves and deletions, every query gives the same pages from both."""
    asyncio.run(compare(PostgresViewStore.open(postgres_url), script))
