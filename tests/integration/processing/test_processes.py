"""Several processes on one view store, killed with SIGKILL in the midst of their work."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.eventstore import StreamWrite
from headwater.messages import ConsistencyToken, new_metadata
from headwater.processing import Processor, StoreSource
from headwater.processing.saga_views import PendingCommand, SagaState
from tests.integration.processing.bank import CODEC, Open, TransferRequested, command_bus
from tests.integration.processing.conftest import QUICK, until
from tests.integration.processing.domain import (
    AccountView,
    Deposited,
    Ledger,
    MonthView,
    NewEvent,
    Opened,
    append,
    encode_metadata,
)
from tests.integration.processing.worker_process import open_stores


class Workers:
    """Processes that are killed at the end, if not before."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.processes: list[asyncio.subprocess.Process] = []

    async def start(self, kind: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.processing.worker_process",
            kind,
            self.place,
            f"worker-{len(self.processes)}",
            stdout=asyncio.subprocess.PIPE,
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"
        return process

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A directory for files, or the URL of a schema."""
    if request.param == "sqlite":
        return str(tmp_path)
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def workers(place: str) -> AsyncIterator[Workers]:
    made = Workers(place)
    yield made
    for process in made.processes:
        await made.kill(process)


async def test_views_agree_with_the_log_after_kills(workers: Workers, place: str) -> None:
    """Whoever is killed whenever: every event's effect is in the views exactly once."""
    store, views = await open_stores(place)
    first, second = await workers.start("ledger"), await workers.start("ledger")
    accounts = [f"a{number}" for number in range(50)]
    for name in accounts:
        await append(store, name, Opened(name, "x"))
    expected: Counter[str] = Counter()
    position = 0
    for turn in range(60):
        for name in accounts:
            expected[name] += turn
            position = await append(store, name, Deposited(name, turn, f"2024-{turn % 12 + 1:02}"))
        if turn == 20:
            await workers.kill(first)
        if turn == 40:
            await workers.start("ledger")
            await workers.kill(second)
    watching = Processor(
        Ledger, source=StoreSource(store, "ledger"), views=views, owner="me", settings=QUICK
    )
    await watching.wait_for(ConsistencyToken.at("ledger", store.epoch, position), timeout_s=30)
    found = (await views.find(AccountView, limit=1000)).items
    assert {view.id: view.balance for view in found} == dict(expected)
    assert {view.events for view in found} == {60}
    months = (await views.find(MonthView)).items
    assert sum(month.total for month in months) == expected.total()
    await watching.stop()
    await views.close()
    await store.close()


async def test_transfers_settle_once_over_kills(workers: Workers, place: str) -> None:
    """Sagas whose processes are killed anywhere settle every transfer exactly once."""
    store, views = await open_stores(place)
    bus, repository = command_bus(store)
    await bus.send(Open("shop"))
    for number in range(10):
        await bus.send(Open(f"c{number}", 1000))
    first, second = await workers.start("saga"), await workers.start("saga")
    for number in range(300):
        event = TransferRequested(f"t{number}", f"c{number % 10}", "shop", 7)
        made = CODEC.encode(event)
        new = NewEvent(made.type, made.version, made.data, encode_metadata(new_metadata()))
        await store.append([StreamWrite(f"Transfer/{number}", [new])])
        if number == 100:
            await workers.kill(first)
        if number == 200:
            await workers.start("saga")
            await workers.kill(second)

    async def settled() -> bool:
        left = [await views.count(kind) for kind in (SagaState, PendingCommand)]
        return left == [0, 0] and (await repository.state("shop")).state.balance >= 300 * 7

    await until(settled, timeout_s=30)
    assert (await repository.state("shop")).state.balance == 300 * 7
    kinds: Counter[str] = Counter()
    async for page in store.read():
        kinds.update(event.type for event in page.events)
    assert (kinds["Withdrawn"], kinds["Credited"]) == (300, 300)
    await repository.close()
    await views.close()
    await store.close()
