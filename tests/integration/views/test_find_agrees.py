"""The databases find what the model in memory finds, in the same order."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import Unstorable
from headwater.views import Index, Key, Range, View, ViewStore
from headwater.views.memory import MemoryViewStore
from headwater.views.postgres import PostgresViewStore
from headwater.views.sqlite import SQLiteViewStore


class Doc(View):
    id: Annotated[str, Key]
    any: Annotated[str | int | float | bool | None, Index] = None
    few: Annotated[int | None, Index] = None


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
# Values that meet: numbers equal across types, neighbours of 2**53, empty and odd texts.
odd_numbers = [0, 1, -1, 1.0, -0.0, 0.5, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63)]
infinite = [float("inf"), float("-inf"), 1e300]
odd_texts = ["", "0", "1", "a", "A", "\0", "a\0b", "ä"]
chosen = st.sampled_from([None, True, False, *odd_numbers, *infinite, *odd_texts])
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
values = chosen | texts | numbers
keys = st.sampled_from(["", "a", "b", "B", "10", "9", "a\0", "ä", "\U0001f600"]) | texts
no_values = st.sampled_from([2**63, -(2**63) - 1, float("nan"), "\ud800", b"x", [1]])
docs = st.builds(Doc, id=keys, any=values | no_values, few=st.none() | st.integers(0, 2))
ranges = st.builds(Range, least=values, most=values)
conditions = st.fixed_dictionaries(
    {},
    optional={
        "id": keys | st.builds(Range, least=st.none() | keys, most=st.none() | keys),
        "any": values | ranges,
        "few": st.none() | st.integers(0, 2) | ranges,
    },
)
queries = st.fixed_dictionaries(
    {
        "where": conditions,
        "order_by": st.sampled_from(["", "id", "any", "few"]),
        "descending": st.booleans(),
        "limit": st.integers(1, 5),
    }
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("save"), st.lists(docs, max_size=12)),
        st.tuples(st.just("delete"), st.lists(keys, max_size=4)),
        st.tuples(st.just("find"), queries),
    ),
    max_size=12,
)


async def pages(store: ViewStore, query: dict[str, Any]) -> list[tuple[list[Any], bool]]:
    found, cursor = [], ""
    while True:
        page = await store.find(Doc, **query, cursor=cursor)
        found.append(([repr(item) for item in page.items], bool(page.next)))
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
                counted = [await store.count(Doc, where=what["where"]) for store in stores]
                assert counted == [sum(len(items) for items, _ in model)] * 2
                continue
            model_said, said = [await change(store, step, what) for store in stores]
            assert said == model_said
        everything = [await pages(store, {"limit": 100}) for store in stores]
        assert everything[0] == everything[1]
    finally:
        for store in stores:
            await store.close()


@settings(max_examples=60, deadline=None)
@given(script=steps)
def test_sqlite_finds_what_the_model_finds(
    tmp_path_factory: Any, script: list[tuple[str, Any]]
) -> None:
    """After any saves and deletions both refused the same, and every query gives the same pages."""
    path = tmp_path_factory.getbasetemp() / "find-agrees.db"
    asyncio.run(compare(SQLiteViewStore.open(path), script))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=steps)
def test_postgres_finds_what_the_model_finds(
    postgres_url: str, script: list[tuple[str, Any]]
) -> None:
    """After any saves and deletions, every query gives the same pages from both."""
    asyncio.run(compare(PostgresViewStore.open(postgres_url), script))
