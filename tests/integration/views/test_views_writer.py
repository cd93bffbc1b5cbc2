"""Where the view store's writes run, and what becomes of its log."""

import asyncio
from pathlib import Path
from typing import Annotated

import apsw
import pytest

from headwater.views import Key, View
from headwater.views.sqlite import SQLiteViewStore


class Doc(View):
    id: Annotated[str, Key]
    text: str = ""


async def test_a_lock_is_awaited_beside_the_event_loop(tmp_path: Path) -> None:
    """While another process holds the lock the event loop goes on, and then the write is done."""
    store = await SQLiteViewStore.open(tmp_path / "views.db")
    await store.ensure([Doc])
    other = apsw.Connection(str(tmp_path / "views.db"))
    other.execute("BEGIN IMMEDIATE")

    async def write() -> None:
        async with store.transaction() as work:
            await work.save([Doc("a")])

    writing = asyncio.ensure_future(write())
    for _ in range(20):  # a loop that waited itself would not get here before the timeout
        await asyncio.sleep(0.001)
    assert not writing.done()
    other.execute("ROLLBACK")
    other.close()
    await writing
    assert await store.get(Doc, "a") == Doc("a")
    await store.close()


async def test_cancelled_while_it_waits_for_the_lock(tmp_path: Path) -> None:
    """A block that is cancelled while it waits for the lock stores nothing; the next one works."""
    store = await SQLiteViewStore.open(tmp_path / "views.db")
    await store.ensure([Doc])
    other = apsw.Connection(str(tmp_path / "views.db"))
    other.execute("BEGIN IMMEDIATE")

    async def load_and_write(name: str) -> None:
        async with store.transaction() as work:
            await work.load(Doc, ["a"])
            await work.save([Doc(name)])

    writing = asyncio.ensure_future(load_and_write("never"))
    for _ in range(3):  # turns of the loop: it has met the lock in the first one
        await asyncio.sleep(0)
    writing.cancel()
    other.execute("ROLLBACK")
    other.close()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await load_and_write("b")
    assert (await store.find(Doc)).items == [Doc("b")]
    await store.close()


async def test_synced_where_it_is_asked_for(tmp_path: Path) -> None:
    """A transaction is synced when it asks for that, and the next one only when it does, too."""
    store = await SQLiteViewStore.open(tmp_path / "views.db")
    await store.ensure([Doc])

    async def level() -> int:
        found: int = await store._writer.run(lambda c: c.execute("PRAGMA synchronous").get)
        return found

    for synced, expected in ((False, 1), (True, 2), (True, 2), (False, 1)):  # 1: NORMAL, 2: FULL
        async with store.transaction(synced=synced) as work:
            await work.load(Doc, ["a"])
            assert await level() == expected
            await work.save([Doc("a", f"{synced}")])
        assert await store.get(Doc, "a") == Doc("a", f"{synced}")
    async with store.transaction(synced=True) as work:
        await work.save([Doc("b")])
    assert await level() == 2
    await store.open_segments("p", count=1, token="", generation=1)
    assert await level() == 1
    await store.close()


async def test_what_was_saved_is_seen_within_the_transaction(tmp_path: Path) -> None:
    """Reads see all that was saved and deleted before, in order, also beyond what is kept back."""
    store = await SQLiteViewStore.open(tmp_path / "views.db")
    await store.ensure([Doc])
    many = [Doc(f"{n:04}") for n in range(1000)]
    async with store.transaction() as work:
        await work.save([*many, Doc("0001", "later")])
        await work.delete(Doc, ["0000", "none"])
        assert await work.load(Doc, ["0000", "0001", "0002"]) == {
            "0001": Doc("0001", "later"),
            "0002": many[2],
        }
        await work.save([Doc("0000", "again")])
        assert (await work.find(Doc, limit=1)).items == [Doc("0000", "again")]
    assert await store.count(Doc) == len(many)
    await store.close()
