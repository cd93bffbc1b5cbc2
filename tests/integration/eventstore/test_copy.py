"""One store into another: complete, resumable wherever it was interrupted, and checked."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater._sql.postgres.database import Database
from headwater.errors import ImportRefused, InvalidInput, StoreUnavailable
from headwater.eventstore import (
    WHOLE,
    EventStore,
    Idempotency,
    Shard,
    Snapshot,
    StoredEvent,
    StoredKey,
    StreamWrite,
)
from headwater.eventstore.compare import compare_stores
from headwater.eventstore.copy import copy_store
from headwater.service.engines import open_event_store
from headwater.testing.eventstore_base import event, log_of, put, write
from headwater.testing.eventstore_import import key, keys_of, stored
from tests.postgres_server import PostgresServer

NAMES = ["plain", "nul\0inside", "one\1inside", "Köln/\U0001f600", "quote'\"\\"]
Open = Callable[[str], Awaitable[EventStore]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Return a function that opens a store by its URL."""
    async with contextlib.AsyncExitStack() as resources:

        async def open_one(url: str) -> EventStore:
            store = await open_event_store(url)
            resources.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture
def urls(tmp_path: Path, postgres_url: str) -> dict[str, str]:
    """Return a store of each kind to copy from or into."""
    return {
        "postgres": postgres_url,
        "sqlite": f"sqlite:{tmp_path / 'one.db'}",
        "other": f"sqlite:{tmp_path / 'other.db'}",
        "memory": "memory:",
    }


async def fill(store: EventStore, number: int = 60) -> None:
    """Append events of all kinds, most with keys, some keys without events."""
    for n in range(number):
        name = NAMES[n % len(NAMES)]
        new = [event(name, name, f"n:{n}", data=b"\0\xff%d" % n, metadata=b"m" * n)] * (n % 4 + 1)
        key = Idempotency(f"{name}{n}", name) if n % 3 else None
        await store.append([StreamWrite(f"{name}/{n % 7}", new)], idempotency=key)
        if n % 10 == 0:
            await store.append((), idempotency=Idempotency(f"alone{n}"))


async def check_same(source: EventStore, target: EventStore) -> None:
    """Both hold the same, as the stores themselves and the comparison tell."""
    assert await log_of(target) == await log_of(source)
    assert await keys_of(target) == await keys_of(source)
    assert target.epoch == source.epoch
    found = await compare_stores(source, target, page_size=7)
    assert found.difference == ""
    assert (found.events, found.keys) == (await source.head(), len(await keys_of(source)))


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("sqlite", "postgres"),
        ("postgres", "sqlite"),
        ("sqlite", "other"),
        ("memory", "sqlite"),
        ("postgres", "memory"),
    ],
)
async def test_everything_is_copied(
    opened: Open, urls: dict[str, str], one: str, another: str
) -> None:
    """Events, keys and epoch are the same afterwards; snapshots are not; appends go on."""
    source, target = await opened(urls[one]), await opened(urls[another])
    await fill(source)
    await source.save_snapshot(Snapshot("plain/0", 1, "", b"state"))
    copied = await copy_store(source, target, page_size=16)
    assert (copied.began, copied.position) == (0, await source.head())
    assert copied.keys == len(await keys_of(source))
    await check_same(source, target)
    assert await target.load_snapshot("plain/0") is None
    again = await copy_store(source, target)
    assert (again.began, again.position, again.keys) == (copied.position, copied.position, 0)
    for store in (source, target):
        assert (await store.append([write("x")], idempotency=Idempotency("alone0"))).duplicate
    assert (await put(target, write("plain/0"))).first == copied.position + 1


@pytest.mark.parametrize("another", ["postgres", "sqlite", "memory"])
async def test_a_copy_of_a_shard_is_that_shard(
    opened: Open, urls: dict[str, str], another: str
) -> None:
    """The copy takes the place of its source; one that is something else already is refused."""
    source, target = await opened(urls["other"]), await opened(urls[another])
    await source.settle_shard(Shard("s", 1, 2))
    await fill(source, 20)
    await copy_store(source, target)
    assert await target.shard() == Shard("s", 1, 2)
    await copy_store(source, target)
    await check_same(source, target)
    for mark in (WHOLE, Shard("s", 0, 2), Shard("t", 1, 2)):
        wrong = await opened("memory:")
        await wrong.settle_shard(mark)
        with pytest.raises(ImportRefused, match=r"Shard.*expected Shard\(store='s', index=1"):
            await copy_store(source, wrong)
        assert "the source is Shard" in (await compare_stores(source, wrong)).difference
    alone, shard = await opened("memory:"), await opened("memory:")
    await shard.settle_shard(Shard("s", 1, 2))
    epoch = shard.epoch
    with pytest.raises(ImportRefused, match="the target is Shard"):
        await copy_store(alone, shard)
    assert shard.epoch == epoch, "it was not changed"


async def test_a_store_by_itself_may_be_settled_before_or_after(opened: Open) -> None:
    """Whether source and copy have been used as a store by themselves makes no difference."""
    for settled in ((True, False), (False, True), (True, True), (False, False)):
        source, target = await opened("memory:"), await opened("memory:")
        for store, wanted in zip((source, target), settled, strict=True):
            if wanted:
                await store.settle_shard(WHOLE)
        await fill(source, 5)
        await copy_store(source, target)
        await check_same(source, target)


async def test_digest_is_that_of_the_content(opened: Open, urls: dict[str, str]) -> None:
    """The digest does not depend on engines and page sizes, but on every event and key."""
    source, target = await opened(urls["sqlite"]), await opened(urls["postgres"])
    await fill(source)
    await copy_store(source, target)
    digests = {
        (await compare_stores(one, another, page_size=size)).digest
        for one, another in ((source, target), (target, source))
        for size in (5, 1000)
    }
    assert len(digests) == 1
    await source.append((), idempotency=Idempotency("one more"))
    await copy_store(source, target)
    assert (await compare_stores(source, target)).digest not in digests


async def test_empty_store(opened: Open, urls: dict[str, str]) -> None:
    """Copying nothing leaves an empty store of the same epoch."""
    source, target = await opened(urls["sqlite"]), await opened(urls["postgres"])
    copied = await copy_store(source, target)
    assert (copied.position, copied.keys) == (0, 0)
    await check_same(source, target)


class Failing:
    """A target that is lost at one of its imports, before or after it was stored."""

    def __init__(self, store: EventStore, at: int, *, late: bool) -> None:
        self._store = store
        self._left = at
        self._late = late

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def import_events(
        self, events: Sequence[StoredEvent], *, epoch: str, keys: Sequence[StoredKey] = ()
    ) -> None:
        self._left -= 1
        if self._left < 0 and not self._late:
            raise StoreUnavailable(store="target", reason="lost")
        await self._store.import_events(events, epoch=epoch, keys=keys)
        if self._left < 0:
            raise StoreUnavailable(store="target", reason="lost")


@pytest.mark.parametrize("late", [False, True])
async def test_goes_on_wherever_it_was_interrupted(opened: Open, late: bool) -> None:
    """Lost at its first import, its second and so on, a copy is complete after another call."""
    source = await opened("memory:")
    await fill(source, 20)
    for at in range(100):
        target = await opened("memory:")
        with contextlib.suppress(StoreUnavailable):
            await copy_store(source, Failing(target, at, late=late), page_size=5)
            break
        before = await target.head()
        await source.append((), idempotency=Idempotency(f"late{at}"))
        await put(source, write("late"))
        copied = await copy_store(source, target, page_size=5)
        assert copied.began == before
        await check_same(source, target)
    assert at > 10


async def test_source_in_use(opened: Open, urls: dict[str, str]) -> None:
    """While others append, copies follow; one more without writers has everything."""
    source, target = await opened(urls["sqlite"]), await opened(urls["postgres"])
    await fill(source)
    done = asyncio.Event()
    turns = asyncio.Semaphore(40)  # else there is more to copy each time, the slower that is

    async def work(name: str) -> None:
        n = 0
        while await turns.acquire() and not done.is_set():
            n += 1
            key = Idempotency(f"{name}{n}\0", "f")
            await source.append([write(f"s{n % 5}")] if n % 3 else (), idempotency=key)

    def give_turns(*_: int) -> None:
        for _turn in range(5):
            turns.release()

    tasks = [asyncio.create_task(work(name)) for name in "abcd"]
    try:
        for _ in range(5):
            before = await source.head()
            copied = await copy_store(source, target, page_size=10, progress=give_turns)
            assert copied.position >= before
            found = await compare_stores(source, target)
            assert found.events == copied.position
    finally:
        done.set()
        give_turns()
        await asyncio.gather(*tasks)
    await copy_store(source, target)
    await check_same(source, target)


@pytest.mark.parametrize("another", ["other", "memory", "postgres"])
async def test_wrong_target(opened: Open, urls: dict[str, str], another: str) -> None:
    """A target that is not a beginning of the source is refused, and stays as it is."""
    source, target = await opened(urls["sqlite"]), await opened(urls[another])
    await fill(source, 5)
    await put(target, write("own"))
    log = await log_of(target)
    with pytest.raises(ImportRefused, match="epoch"):
        await copy_store(source, target)
    assert await log_of(target) == log


async def test_target_that_was_written_to(opened: Open, urls: dict[str, str]) -> None:
    """A copy that got events of its own is refused: shorter, longer, or of the same length."""
    source, target = await opened(urls["sqlite"]), await opened(urls["other"])
    await put(source, write("a"), write("b"))
    await copy_store(source, target)
    await put(target, write("a"))
    with pytest.raises(ImportRefused, match="has 3 events, the source only 2"):
        await copy_store(source, target)
    for _ in range(2):
        await put(source, write("b"))
        with pytest.raises(ImportRefused, match="event at position 3"):
            await copy_store(source, target)
    assert (await compare_stores(source, target)).difference.startswith("the event at position 3: ")


async def test_target_with_keys_of_its_own(opened: Open, urls: dict[str, str]) -> None:
    """A target without events but with keys is not empty."""
    source, target = await opened(urls["sqlite"]), await opened(urls["other"])
    await put(source, write("a"))
    await target.append((), idempotency=Idempotency("own"))
    with pytest.raises(ImportRefused, match="epoch"):
        await copy_store(source, target)


async def test_server_that_stops(opened: Open, tmp_path, own_postgres: PostgresServer) -> None:
    """When the server goes away in the middle, another call goes on where it ended."""
    source = await opened(f"sqlite:{tmp_path / 'one.db'}")
    await fill(source)
    target = await opened(own_postgres.url(schema="copied"))

    def stop(position: int, head: int) -> None:
        if position >= 50 < head:
            own_postgres.kill()

    with pytest.raises(StoreUnavailable):
        await copy_store(source, target, page_size=10, progress=stop)
    own_postgres.start()
    copied = await copy_store(source, target, page_size=10)
    assert copied.began == 50
    await check_same(source, target)


MANIPULATIONS = [
    (
        "UPDATE events SET data = convert_to('{}', 'UTF8') WHERE position = 30",
        r"^the event at position 30: data is b'\\x00\\xff\d+' in the source, b'{}' in the target$",
    ),
    ("UPDATE events SET time = time + 1 WHERE position = 31", "position 31: time is"),
    ("UPDATE events SET tags = '' WHERE position = 1", "position 1: tags is"),
    ("DELETE FROM events WHERE position = 40", "the target has no event at position 40"),
    (
        "DELETE FROM events WHERE position = (SELECT max(position) FROM events)",
        "the target has 149 events, the source 150",
    ),
    (
        """
        INSERT INTO events
        SELECT position + 1, version + 1, time, type_version, stream, type, tags, data, metadata
        FROM events ORDER BY position DESC LIMIT 1
        """,
        "the source has 150 events, the target 151",
    ),
    ("DELETE FROM event_keys WHERE key = 'alone20'", "target does not have idempotency key 'alone"),
    ("UPDATE event_keys SET key = 'bad' WHERE key = 'alone20'", "not have idempotency key 'alone2"),
    (
        "INSERT INTO event_keys VALUES ('zzz', '', 1, 1, 1, '{}', '{}')",
        "the source does not have idempotency key 'zzz'",
    ),
    ("UPDATE event_keys SET last = last - 1 WHERE key = 'alone20'", "key 'alone20': outcome is"),
    ("UPDATE event_store SET value = 'other'", "epoch"),
]


@pytest.mark.parametrize(("statement", "expected"), MANIPULATIONS)
async def test_manipulations_are_found(
    opened: Open, urls: dict[str, str], statement: str, expected: str
) -> None:
    """Whatever was changed, removed or added in the copy is found and named."""
    source = await opened(urls["sqlite"])
    await fill(source)
    assert await source.head() == 150
    target = await open_event_store(urls["postgres"])
    await copy_store(source, target)
    await target.close()
    database = await Database.open(urls["postgres"], room="test", migrations=())
    async with database.connection() as connection:
        await connection.execute(statement)
    await database.close()
    found = await compare_stores(source, await opened(urls["postgres"]), page_size=20)
    assert re.search(expected, found.difference), found.difference


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    "wrong", [{"type_version": "x"}, {"data": None}, {"stream": "\ud800"}, {"tags": ("\ud800",)}]
)
async def test_what_cannot_be_stored(
    opened: Open, urls: dict[str, str], kind: str, wrong: dict[str, Any]
) -> None:
    """An event that the database cannot hold is refused with all that came with it."""
    store = await opened(urls[kind])
    good = stored(1, "a", 1)
    bad = msgspec.structs.replace(stored(2, "b", 1), **wrong)
    with pytest.raises(InvalidInput):
        await store.import_events([good, bad], epoch="new", keys=[key("k")])
    assert (await store.head(), await store.outcome("k"), store.epoch == "new") == (0, None, False)
    await store.import_events([good], epoch="new", keys=[key("k")])
    assert await log_of(store) == [good]
