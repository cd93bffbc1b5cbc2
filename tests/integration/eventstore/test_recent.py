"""Followers in the process that appends: what they need not read, and what they must."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headwater._sql.sqlite.wake import Wake
from headwater._sql.waiting import Waiting
from headwater.eventstore import EventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.postgres.read import PageQuery as PostgresPageQuery
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.eventstore.sqlite.read import PageQuery
from headwater.testing.eventstore_base import event, log_of, put, soon, write
from tests.postgres_server import POSTGRES

pytestmark = pytest.mark.parametrize("engine", ["sqlite", POSTGRES])


@pytest.fixture
async def stores(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[list[EventStore]]:
    """Two at one place, as two processes have them."""
    opened: list[EventStore] = []
    for _ in range(2):
        if engine == "sqlite":
            opened.append(await SQLiteEventStore.open(tmp_path / "events.db"))
        else:
            url: str = request.getfixturevalue("postgres_url")
            opened.append(await PostgresEventStore.open(url))
    yield opened
    for store in opened:
        await store.close()


def noted(method: Any, calls: list[str]) -> Any:
    """Return a method that notes that it is called."""

    def call(*args: Any, **options: Any) -> Any:
        calls.append(method.__name__)
        return method(*args, **options)

    return call


def nobody_looks_for_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those who wait do so until they are woken."""
    for kind in (Waiting, Wake):
        monkeypatch.setattr(kind, "_patience_s", lambda *_: 1e6)


async def heard_since(wake: Waiting, heard: int) -> None:
    while wake.heard == heard:
        await wake.wait(wake.ticket())


class Followers:
    """Follow stores, and tell how far all of them have come."""

    def __init__(self, *stores: EventStore) -> None:
        self._reached = [0 for _ in stores]
        self._moved = asyncio.Event()
        self._tasks = [asyncio.create_task(self._follow(n, s)) for n, s in enumerate(stores)]

    async def _follow(self, number: int, store: EventStore) -> None:
        async for page in store.follow():
            self._reached[number] = page.through
            self._moved.set()

    async def reach(self, position: int) -> None:
        while min(self._reached) < position:
            self._moved.clear()
            await soon(self._moved.wait())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_what_was_appended_here_is_not_read(
    stores: list[EventStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of the own process reach a follower without a query, until others have stored some."""
    mine, other = stores
    followers = Followers(mine)
    await put(other, write("a"))
    await followers.reach(1)
    nobody_looks_for_himself(monkeypatch)
    await put(mine, write("a"))
    await followers.reach(2)
    queries: list[str] = []
    for query in (PageQuery, PostgresPageQuery):
        for name in {"fetch", "fetch_with_head"} & vars(query).keys():
            monkeypatch.setattr(query, name, noted(getattr(query, name), queries))
    for position in range(3, 33):
        await put(mine, write("a", event(data=b"own")))
        await followers.reach(position)
    assert queries == []
    await put(other, write("a"))
    await followers.reach(33)
    assert queries != []
    await followers.stop()


@pytest.mark.parametrize("seed", range(4))
async def test_others_are_heard_in_time(
    stores: list[EventStore], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What others store beside is never left lying until somebody looks for himself."""
    draw = random.Random(seed)
    followers = Followers(*stores)
    for n, store in enumerate(stores):  # both listen by now
        await put(store, write(f"{n}"))
    await followers.reach(2)
    nobody_looks_for_himself(monkeypatch)
    for turn in range(40):
        await asyncio.gather(
            *(put(draw.choice(stores), write(f"{n}")) for n in range(draw.randint(1, 4)))
        )
        await asyncio.sleep(draw.choice([0, 0, 0.003]))
        if turn % 4 == 3:
            await followers.reach(len(await log_of(stores[0])))
    await followers.stop()


async def test_others_are_heard_behind_what_was_appended_here(
    stores: list[EventStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others stored behind our own events comes with these, not with the next wake-up."""
    mine, other = stores
    pages = mine.follow()
    await put(other, write("a"))
    assert (await soon(anext(pages))).through == 1
    nobody_looks_for_himself(monkeypatch)
    wake = mine._database.wake  # type: ignore[attr-defined]
    for position in range(2, 12, 2):
        heard = wake.heard
        await put(mine, write("a"))
        await put(other, write("a"))
        await soon(heard_since(wake, heard))
        while (await soon(anext(pages))).through < position + 1:
            pass


async def test_many_events_come_in_pages(
    stores: list[EventStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events than a page takes come in several, one after the other."""
    mine, _ = stores
    pages = mine.follow(page_size=2)
    await put(mine, write("a"))
    assert (await soon(anext(pages))).through == 1
    nobody_looks_for_himself(monkeypatch)
    await put(mine, write("a", *[event() for _ in range(5)]))
    found = [(await soon(anext(pages))).through for _ in range(3)]
    assert found == [3, 5, 6]
