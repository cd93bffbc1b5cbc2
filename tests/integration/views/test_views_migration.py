"""View stores that an earlier release has made: what is there stays, and is the first code's."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from headwater._sql.postgres import database as postgres
from headwater._sql.resources import script
from headwater._sql.sqlite import database as sqlite
from headwater.errors import ConfigurationError
from headwater.views import Generation, Key, View, ViewStore
from headwater.views import postgres as postgres_views
from headwater.views import sqlite as sqlite_views
from tests.postgres_server import POSTGRES

BEFORE = {
    "sqlite": ("sqlite_1.sql", "sqlite_fences_2.sql"),
    "postgres": ("postgres_1.sql", "postgres_steps_2.sql", "postgres_fences_3.sql"),
}
ROWS = """
    INSERT INTO view_shapes (view, generation, name, columns)
    VALUES ('{doc}', 3, 'Doc', '["id"]'), ('{doc}', 4, 'Doc', '["id"]');
    INSERT INTO view_generations (kind, name, generation, fence)
    VALUES ('view', 'Doc', 3, 0), ('processor', 'docs', 3, 7);
    INSERT INTO view_segments (processor, generation, number, count, token)
    VALUES ('docs', 3, 0, 1, 'far'), ('docs', 4, 0, 1, 'begun'), ('saga', 1, 0, 1, 's');
"""
TABLE = 'CREATE TABLE "view_Doc_{n}" ("id" TEXT PRIMARY KEY NOT NULL, document TEXT);'
DOCUMENT = """INSERT INTO "view_Doc_3" VALUES ('a', '{"id":"a"}');"""


class Doc(View):
    id: Annotated[str, Key]


@pytest.fixture(params=["sqlite", POSTGRES])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ViewStore]:
    """The store of the release before, opened by this one."""
    scripts = [script("headwater.views", name) for name in BEFORE[request.param]]
    tables = TABLE.format(n=3) + TABLE.format(n=4) + DOCUMENT
    opened: Any
    if request.param == "sqlite":
        path = tmp_path / "views.db"
        text = ROWS.format(doc="Doc") + tables
        database: Any = await sqlite.Database.open(path, room="views", migrations=scripts)
        await database.write(lambda writer: writer.execute(text).fetchall())
        await database.close()
        opened = await sqlite_views.SQLiteViewStore.open(path)
    else:
        url = request.getfixturevalue("postgres_url")
        text = ROWS.format(doc="doc") + tables
        database = await postgres.Database.open(
            url, room="views", migrations=scripts, schema="headwater"
        )
        async with database.transaction() as connection:
            await connection.execute(text)
        await database.close()
        opened = await postgres_views.PostgresViewStore.open(url)
    yield opened
    await opened.close()


async def test_what_was_active_is_the_first_code_s(store: ViewStore) -> None:
    """The active generation is read and taken over as it is; what was begun beside it goes."""
    assert await store.get(Doc, "a") == Doc("a")
    assert await store.generation("docs") == 3
    expected = [Generation("docs", 3, complete=True), Generation("saga", 1, complete=True)]
    assert await store.generations() == expected
    assert await store.settle_generation("docs", "code", [Doc]) == 3
    assert await store.get(Doc, "a") == await store.get(Doc, "a", generation=3) == Doc("a")
    (segment,) = await store.open_segments("docs", count=4, token="", generation=3)
    assert segment.token == "far"
    following = await store.next_generation("docs", "code", [Doc], after=3)
    assert following == 5
    await store.ensure([Doc], generation=following, processor="docs")
    await store.activate("docs", following, [Doc])
    assert [s.processor for s in await store.segments()] == ["saga"]
    assert await store.get(Doc, "a") is None


async def test_another_form_begins_anew(store: ViewStore) -> None:
    """A program with views of another form leaves them alone, until nobody uses them."""
    assert await store.settle_generation("docs", "new", [Doc, Other]) == 5
    await store.ensure([Doc, Other], generation=5, processor="docs")
    assert await store.get(Doc, "a", generation=3) == Doc("a")
    await store.activate("docs", 5, [Doc, Other])
    assert await store.get(Doc, "a", generation=3) == Doc("a")
    assert await store.drop_unused("docs", code="new", idle_s=60) == [3]
    with pytest.raises(ConfigurationError):
        await store.get(Doc, "a", generation=3)


class Other(View):
    id: Annotated[str, Key]
