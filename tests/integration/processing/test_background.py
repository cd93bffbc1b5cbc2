"""Background tasks: one at a time over all, cancelled cleanly, tried again after errors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from headwater.errors import StoreUnavailable
from headwater.processing import BackgroundTask
from headwater.views import Segment
from tests.integration.processing.conftest import QUICK, Stores, until

NAME = "background-watch"
STEADY_S = 600.0  # a lease that no pause of the machine outlasts


class Work:
    """A function that notes where it runs."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.most = 0
        self.began: list[str] = []
        self.cancelled: list[str] = []

    def of(self, owner: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            self.began.append(owner)
            self.running.append(owner)
            self.most = max(self.most, len(self.running))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.append(owner)
                raise
            finally:
                self.running.remove(owner)

        return run


@pytest.fixture
async def start(stores: Stores) -> AsyncIterator[Callable[..., Awaitable[BackgroundTask]]]:
    started: list[BackgroundTask] = []

    async def begin(
        function: Callable[[], Awaitable[None]],
        owner: str,
        *,
        views: object = None,
        lease_s: float = QUICK.lease_s,
    ) -> BackgroundTask:
        task = BackgroundTask(
            function,
            name=NAME,
            views=views or await stores.another(),  # type: ignore[arg-type]  # one with faults
            owner=owner,
            settings=msgspec.structs.replace(QUICK, lease_s=lease_s),
        )
        await task.start()
        started.append(task)
        return task

    yield begin
    for task in started:
        await task.stop()


async def test_one_at_a_time(stores: Stores, start) -> None:
    """Of several instances one runs it; when that stops, it is cancelled, and runs elsewhere."""
    work = Work()
    tasks = {
        owner: await start(work.of(owner), owner, lease_s=STEADY_S) for owner in ("a", "b", "c")
    }
    for turn in range(3):
        await until(lambda turn=turn: len(work.began) > turn and work.running, timeout_s=30.0)
        [owner] = work.running
        assert tasks[owner].status().active
        await tasks[owner].stop()
        assert work.cancelled[-1] == owner
        assert not tasks[owner].status().active
    assert sorted(work.began) == ["a", "b", "c"]
    assert work.most == 1


async def test_a_lost_claim_cancels(stores: Stores, start) -> None:
    """Whose claim was taken is cancelled; it runs again where the claim is."""
    work = Work()
    task = await start(work.of("a"), "a")
    await until(lambda: work.running, timeout_s=30.0)
    taken: list[Segment] = []

    async def take() -> bool:
        [segment] = await stores.views.segments(NAME)
        await stores.views.reset(NAME, token=segment.token, generation=1)
        [segment] = await stores.views.segments(NAME)
        claimed = await stores.views.claim(segment, owner="other", lease_s=60.0)
        taken.extend([claimed] if claimed is not None else [])
        return claimed is not None

    await until(take, timeout_s=30.0)
    await until(lambda: work.cancelled and not work.running, timeout_s=30.0)
    await stores.views.release(taken)
    await until(lambda: work.running == ["a"], timeout_s=30.0)
    assert task.status().active


async def test_a_store_that_is_away_cancels_in_time(stores: Stores, start) -> None:
    """Who cannot renew the claim cancels the task before somebody else may begin."""

    class Away:
        on = False

        def __getattr__(self, name: str) -> object:
            return getattr(stores.views, name)

        async def renew(self, segments: list[Segment], *, lease_s: float) -> list[Segment]:
            if self.on:
                raise StoreUnavailable(store="views", reason="away")
            return await stores.views.renew(segments, lease_s=lease_s)

    work, views = Work(), Away()
    await start(work.of("a"), "a", views=views)
    await until(lambda: work.running, timeout_s=30.0)
    views.on = True
    await until(lambda: work.cancelled, timeout_s=30.0)
    views.on = False
    await until(lambda: len(work.began) > 1 and work.running == ["a"], timeout_s=30.0)
    assert work.most == 1


async def test_after_an_error_again(stores: Stores, start) -> None:
    """What raises is started again with back-off, counted, and told when it goes on failing."""
    fails = [True]
    runs = []
    begun = asyncio.Event()

    async def run() -> None:
        runs.append(1)
        if fails[0]:
            msg = "not today"
            raise LookupError(msg)
        begun.set()
        await asyncio.Event().wait()

    task = await start(run, "a")
    await until(lambda: len(runs) >= 4, timeout_s=30.0)
    await until(lambda: "LookupError: not today" in task.concern, timeout_s=30.0)
    fails[0] = False
    await asyncio.wait_for(begun.wait(), 30.0)
    status = task.status()
    assert status.active
    assert status.failures >= 3


async def test_what_returns_is_done(stores: Stores, start) -> None:
    """A task that returns is done while its instance is there, and runs once more elsewhere."""
    runs: list[str] = []

    def of(owner: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            runs.append(owner)

        return run

    first = await start(of("a"), "a", lease_s=STEADY_S)
    await until(lambda: first.status().done, timeout_s=30.0)
    await start(of("b"), "b", lease_s=STEADY_S)
    held = (await stores.views.segments(NAME))[0].lease_until

    async def renewed() -> bool:
        return (await stores.views.segments(NAME))[0].lease_until > held

    await until(renewed, timeout_s=30.0)
    assert runs == ["a"]
    await first.stop()
    await until(lambda: runs == ["a", "b"], timeout_s=30.0)


async def test_after_a_crash_elsewhere(stores: Stores, start) -> None:
    """When an instance dies, the task runs elsewhere as soon as the lease has ended."""

    class Dead:
        """A view store that says nothing any more to who is dead."""

        on = False

        def __getattr__(self, name: str) -> object:
            method = getattr(stores.views, name)

            async def call(*args: object, **options: object) -> object:
                if self.on:
                    await asyncio.Event().wait()
                return await method(*args, **options)

            return call

    work, views = Work(), Dead()
    await start(work.of("a"), "a", views=views)
    await until(lambda: work.running, timeout_s=30.0)
    await start(work.of("b"), "b")
    views.on = True
    await until(lambda: work.running == ["b"], timeout_s=30.0)
