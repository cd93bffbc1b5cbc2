"""Processes that share a view store in SQLite, or in PostgreSQL."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.views import ViewStore
from tests.integration.views.peer_views import ROUNDS, Entry, Total, open_views
from tests.integration.views.processes import peer
from tests.postgres_server import POSTGRES

SCRIPT = Path(__file__).with_name("peer_views.py")


class Clock:
    """The real time, and what the test adds to it instead of sleeping."""

    added = 0.0

    def __call__(self) -> float:
        return time.time() + self.added


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", POSTGRES])
def path(request: pytest.FixtureRequest, tmp_path: str) -> str:
    """A file, or the URL of a schema."""
    if request.param == "sqlite":
        return str(tmp_path / "views.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def store(path: str, clock: Clock) -> AsyncIterator[ViewStore]:
    store = await open_views(path, clock=clock)
    await store.ensure([Entry, Total])
    yield store
    await store.close()


async def test_two_processes_never_own_one_segment(store: ViewStore, path: str) -> None:
    """Every fence has one owner, and the work of both is there exactly once, without gaps."""
    await store.open_segments("p", count=3, token="0", generation=1)
    async with peer(SCRIPT, "work", path, "a") as a, peer(SCRIPT, "work", path, "b") as b:
        assert [await a.end(), await b.end()] == ["done\n", "done\n"]
    entries = (await store.find(Entry, limit=10_000)).items
    assert len(entries) >= 2 * ROUNDS
    assert {entry.owner for entry in entries} == {"a", "b"}
    for segment in await store.segments("p"):
        mine = sorted((e for e in entries if e.segment == segment.index), key=lambda e: e.number)
        assert [e.number for e in mine] == list(range(1, int(segment.token) + 1))
        fences = [e.fence for e in mine]
        assert fences == sorted(set(fences))
        assert segment.fence == len(mine)
        assert segment.owner == ""


async def test_work_on_the_same_documents_loses_nothing(store: ViewStore, path: str) -> None:
    """Processes that read and change the same documents at the same time lose no change."""
    names = ("a", "b", "c")
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(SCRIPT, "together", path, n)) for n in names]
        assert [await one.end() for one in peers] == [f"done {name}\n" for name in names]
    totals = (await store.find(Total)).items
    assert sum(total.total for total in totals) == 3 * ROUNDS * len(names)


async def test_a_killed_owner_is_replaced_after_its_lease(
    store: ViewStore, path: str, clock: Clock
) -> None:
    """SIGKILL in a transaction leaves nothing of it and no lock; the claim ends with the lease."""
    (segment,) = await store.open_segments("p", count=1, token="0", generation=1)
    async with peer(SCRIPT, "hang", path, "dead") as dead:
        assert await dead.hear() == "inside"
        await dead.kill()
    assert await store.claim(segment, owner="heir", lease_s=60) is None
    clock.added = 61
    async with asyncio.timeout(30):  # a server may need a moment to see that its client is gone
        while (claimed := await store.claim(segment, owner="heir", lease_s=60)) is None:
            pass
    assert (claimed.token, claimed.fence) == ("0", 2)
    assert await store.count(Entry) == 0
    async with store.transaction() as work:
        await work.advance([claimed], "1")
    assert (await store.segments("p"))[0].token == "1"


async def test_a_zombie_leaves_nothing(store: ViewStore, path: str, clock: Clock) -> None:
    """An owner that was replaced while it slept gets `ClaimLost`, and nothing of it is stored."""
    (segment,) = await store.open_segments("p", count=1, token="0", generation=1)
    async with peer(SCRIPT, "zombie", path, "zombie") as zombie:
        assert await zombie.hear() == "claimed"
        clock.added = 61
        claimed = await store.claim(segment, owner="heir", lease_s=60)
        await zombie.tell()
        assert "segment 0 of 'p' is owned by another process" in await zombie.hear()
        assert await zombie.end() == "0\n"
    assert await store.segments("p") == [claimed]
    assert await store.get(Entry, "zombie") is None


async def test_commits_wake_other_processes(store: ViewStore, path: str) -> None:
    """A commit of another process is noticed, and seen, within milliseconds."""
    delays = []
    async with peer(SCRIPT, "commit", path, "a") as other:
        changes = store.changes()
        await anext(changes)
        for number in range(20):
            waiting = asyncio.ensure_future(anext(changes))
            await other.tell(str(number))
            await asyncio.wait_for(waiting, 10)
            while (found := await store.get(Entry, "0/0")) is None or found.number < number:
                await asyncio.wait_for(anext(changes), 10)  # it may tell of something else
            delays.append(time.monotonic() - float(await other.hear()))
        await other.tell("stop")
        await other.end()
    assert statistics.median(delays) < 0.1  # a lost wake-up would take a second


async def test_an_activation_is_seen_at_once(store: ViewStore, path: str) -> None:
    """Readers that have read one generation read the next right after its activation elsewhere."""
    other = await open_views(path)
    for generation in range(2, 6):
        await store.ensure([Entry], generation=generation)
        async with store.transaction(generations={"Entry": generation}) as work:
            await work.save([Entry("e", generation, 0, "", 0)])
        await store.activate("p", generation, [Entry])
        for reader in (store, other):
            found = await reader.get(Entry, "e")
            assert found is not None
            assert found.segment == generation
            assert (await reader.find(Entry)).items == [found]
            assert await reader.count(Entry, where={"segment": generation}) == 1
    async with other.transaction() as work:
        assert await work.load(Entry, ["e"]) == {"e": Entry("e", 5, 0, "", 0)}
    await other.close()


@pytest.mark.parametrize("path", ["sqlite"], indirect=True)
async def test_a_read_during_a_recovery_does_not_block_the_loop(
    store: ViewStore, path: str
) -> None:
    """While another process recovers the file a read waits elsewhere, and then gets its answer."""
    async with store.transaction() as work:
        await work.save([Entry("e", 0, 0, "", 0)])
    async with peer(SCRIPT.with_name("peer_recovery.py"), path) as recovering:
        assert await recovering.hear() == "recovering"
        reading = asyncio.create_task(store.get(Entry, "e"))
        before = time.monotonic()
        for _ in range(100):
            await asyncio.sleep(0)
        assert time.monotonic() - before < 1
        assert not reading.done()
        await recovering.tell()
        await recovering.end()
        assert await asyncio.wait_for(reading, 10) == Entry("e", 0, 0, "", 0)
