"""A view store on a file that is bad, locked or on a full disk."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import apsw
import pytest

from headwater.errors import DiskFull, StoreCorrupt, StoreError, StoreUnavailable
from headwater.views import Key, View
from headwater.views.sqlite import SQLiteViewStore


class Doc(View):
    id: Annotated[str, Key]
    text: str = ""


BIG = [Doc(f"big{n}", "x" * 1000) for n in range(2000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "views.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteViewStore]:
    store = await SQLiteViewStore.open(path, busy_timeout_s=0.05)
    await store.ensure([Doc])
    async with store.transaction() as work:
        await work.save([Doc("kept")])
    yield store
    await store.close()


async def save(store: SQLiteViewStore, *docs: Doc) -> None:
    async with store.transaction() as work:
        await work.save(docs)


async def limit_pages(store: SQLiteViewStore, pages: int) -> None:
    def limit(writer: apsw.Connection) -> None:
        present = writer.execute("PRAGMA page_count").get
        writer.execute(f"PRAGMA max_page_count = {present + pages}").fetchall()

    await store._writer.run(limit)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """The error names the file and what to do, and the file is left as it is."""
    path.write_text("not a database, but long enough to look at" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match=r"views\.db.*not a database.*move the file away"):
        asyncio.run(SQLiteViewStore.open(path))
    assert path.read_bytes() == before


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A path that is a directory is refused by name."""
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await SQLiteViewStore.open(tmp_path)


async def test_a_locked_file_is_unavailable_for_writes_only(
    store: SQLiteViewStore, path: Path
) -> None:
    """While another process writes, reads go on, writes fail after the timeout, then work again."""
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    for write in (
        lambda: save(store, Doc("a")),
        lambda: store.open_segments("p", count=1, token="", generation=1),
        lambda: store.ensure([Doc], generation=2),
    ):
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            await write()
    assert await store.get(Doc, "kept") == Doc("kept")
    assert await store.count(Doc) == 1
    other.execute("ROLLBACK")
    other.close()
    await save(store, Doc("a"))
    assert await store.count(Doc) == 2


async def test_a_full_disk_stores_nothing(store: SQLiteViewStore) -> None:
    """A transaction that does not fit is rolled back whole, and the store works on."""
    await limit_pages(store, 20)
    with pytest.raises(DiskFull, match=r"views\.db.*nothing was stored"):
        await save(store, Doc("small"), *BIG)
    assert (await store.find(Doc)).items == [Doc("kept")]
    await save(store, Doc("small"))
    await limit_pages(store, 100_000)
    await save(store, *BIG)
    assert await store.count(Doc) == 2 + len(BIG)


async def test_what_follows_a_full_disk_is_not_stored_either(store: SQLiteViewStore) -> None:
    """A block that goes on after the disk was full cannot store half of its work."""
    await limit_pages(store, 20)

    async def go_on() -> None:
        async with store.transaction() as work:
            await work.save([Doc("before")])
            with pytest.raises(DiskFull):
                await work.save(BIG)
            await work.save([Doc("after")])

    with pytest.raises((DiskFull, StoreError)):
        await go_on()
    assert (await store.find(Doc)).items == [Doc("kept")]


async def test_a_transaction_ends_with_its_block(store: SQLiteViewStore) -> None:
    """A transaction kept beyond its block refuses to store anything."""
    async with store.transaction() as work:
        pass
    with pytest.raises(StoreError, match="only inside its block"):
        await work.save([Doc("late")])
    assert await store.count(Doc) == 1


async def test_doubt_ends_the_claim(path: Path) -> None:
    """After a commit of which nobody can say what became of it, the claim counts as lost.

    Whoever claims the segment anew reads its token anew, and goes on from there.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.views.failing_disk", path),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert out.decode().splitlines() == ["stored", "unknown", "claim lost", "stored"]
