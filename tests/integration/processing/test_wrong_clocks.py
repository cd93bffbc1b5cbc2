"""Machines whose clocks are wrong, beside one whose clock is right."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from headwater.eventstore import EventStore, StoredEvent
from headwater.messages import ConsistencyToken
from headwater.processing import Processor, ProcessorAdmin, StoreSource
from headwater.views import ViewStore
from tests.integration.processing.conftest import Stores, until
from tests.integration.processing.domain import (
    AccountView,
    Deposited,
    Ledger,
    Opened,
    append,
    stored,
)
from tests.integration.processing.worker_process import SETTINGS, open_stores
from tests.postgres_server import POSTGRES

_YEAR_S = 365 * 86_400
_NEAR_S = 120.0
_TURNS = 3
_POISON = 666
# The dead are waited for at most this long; the living renew far more often.
_LEASE = msgspec.structs.replace(SETTINGS, lease_s=3.0)


@pytest.fixture(params=["sqlite", POSTGRES])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A directory for files, or the URL of a schema."""
    if request.param == "sqlite":
        return str(tmp_path)
    url: str = request.getfixturevalue("postgres_url")
    return url


@asynccontextmanager
async def shifted(place: str, shift_s: float) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker with a wrong clock, which has appended events before it works."""
    module = "tests.integration.processing.shifted_process"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "ledger", place, "shifted", str(shift_s)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def log_of(store: EventStore) -> list[StoredEvent]:
    return [event async for page in store.read() for event in page.events]


class Held:
    """What a processor's segments say of who holds them."""

    def __init__(self, views: ViewStore) -> None:
        self._views = views

    async def owners(self) -> list[str]:
        return sorted(s.owner for s in await self._views.segments("ledger"))

    async def fences(self) -> list[int]:
        return [s.fence for s in await self._views.segments("ledger")]

    async def leases(self) -> set[float]:
        return {s.lease_until for s in await self._views.segments("ledger")}

    async def all_renewed(self) -> None:
        """Wait until every lease was prolonged."""
        before = await self.leases()

        async def anew() -> bool:
            return not before & await self.leases()

        await until(anew, timeout_s=30.0)


@pytest.mark.parametrize("shift_s", [_YEAR_S, -_YEAR_S, -10.0])
async def test_beside_one_whose_clock_is_wrong(place: str, shift_s: float) -> None:
    """They share the work, nobody loses a lease or keeps one when dead, and time is right."""
    store, views = await open_stores(place)
    await append(store, "a/1", Opened("1", "Ada"))
    source, held = StoreSource(store, "ledger"), Held(views)
    ours = Processor(Ledger, source=source, views=views, owner="right", settings=_LEASE)
    ours.applier.segments = 2
    await ours.start()
    async with shifted(place, shift_s) as process:

        async def shared() -> bool:
            return await held.owners() == ["right", "shifted"]

        await until(shared, timeout_s=30.0)
        fences = await held.fences()
        for _ in range(_TURNS):
            await held.all_renewed()
        assert await held.owners() == ["right", "shifted"]
        assert await held.fences() == fences
        admin = ProcessorAdmin(Ledger, source=source, views=views)
        assert {s.owner for s in (await admin.status()).segments} == {"right", "shifted"}
        position = await append(store, "a/1", Deposited("1", 7))
        await ours.wait_for(ConsistencyToken.at("ledger", store.epoch, position), timeout_s=30.0)
        process.kill()
        await process.wait()

        async def inherited() -> bool:
            return await held.owners() == ["right", "right"]

        await until(inherited, timeout_s=30.0)
    account = await views.get(AccountView, "1")
    assert account is not None
    assert account.balance == 7
    log = await log_of(store)
    assert len(log) == 4
    assert all(abs(event.time / 1e6 - time.time()) < _NEAR_S for event in log)
    assert await store.position_at(time.time_ns() // 1000 + 60_000_000) == 4
    await ours.stop()
    await store.close()
    await views.close()


async def test_leases_and_members_of_a_former_fault_hold_up_nobody(place: str) -> None:
    """What a wrong clock has left in the store, a year ahead, keeps nobody from the work."""
    store, views = await open_stores(place)
    source, held = StoreSource(store, "ledger"), Held(views)
    former = Processor(Ledger, source=source, views=views, owner="former", settings=_LEASE)
    former.applier.segments = 2
    await former.start()
    await former.stop()
    for segment in await views.segments("ledger"):
        assert await views.claim(segment, owner="dead", lease_s=_YEAR_S)
    ours = Processor(Ledger, source=source, views=views, owner="right", settings=_LEASE)
    await ours.start()

    async def inherited() -> bool:
        return await held.owners() == ["right", "right"]

    await until(inherited, timeout_s=30.0)
    await ours.stop()
    await store.close()
    await views.close()


async def test_letters_stay_in_order_where_time_falls(stores: Stores) -> None:
    """An event that a wrong clock has stamped, and those behind it, are retried as they came."""
    handlers = Ledger()
    handlers.poison = {_POISON}
    store, source = stores.store, stores.source
    await append(store, "a", Opened("a", "Ada"))
    poison = stored(Deposited("a", _POISON))
    late = time.time_ns() // 1000 + _YEAR_S * 1_000_000
    event = StoredEvent(
        2, "a", 2, poison.type, poison.type_version, late, (), poison.data, poison.metadata
    )
    await store.import_events([event], epoch=store.epoch)
    processor = Processor(
        handlers, source=source, views=stores.views, owner="me", settings=SETTINGS
    )
    await stores.start(processor)
    admin = ProcessorAdmin(handlers, source=source, views=stores.views, settings=SETTINGS)
    for amount in (1, 2, 3):
        await append(store, "a", Deposited("a", amount))
        await stores.caught_up(processor)
    parked = [letter.event async for letter in admin.letters("a")]
    assert [event.position for event in parked if event] == [2, 3, 4, 5]
    assert parked[1] is not None
    assert parked[1].time < late
    handlers.poison = set()
    assert (await admin.retry("a")).handled == 4
    account = await stores.views.get(AccountView, "a")
    assert account is not None
    assert account.balance == _POISON + 6
