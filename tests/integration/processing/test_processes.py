"""Several processes on one view store, killed with SIGKILL in the midst of their work."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import ConsistencyToken, new_metadata
from headwater.processing import Processor, ProcessorAdmin, Schedule, StoreSource
from headwater.processing.sagas.processor import saga_applier
from headwater.processing.sagas.views import PendingCommand, SagaState
from headwater.processing.scheduling.views import ScheduledCommand
from headwater.processing.sources.tokens import token_of
from tests.integration.processing.bank import (
    Credit,
    MoneyTransfer,
    Open,
    TransferRequested,
    command_bus,
)
from tests.integration.processing.conftest import QUICK, until
from tests.integration.processing.domain import (
    AccountView,
    Deposited,
    Ledger,
    MonthView,
    Opened,
    append,
)
from tests.integration.processing.worker_process import open_stores
from tests.postgres_server import POSTGRES


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


@pytest.fixture(params=["sqlite", POSTGRES])
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


async def test_views_agree_over_kills_and_resizes(workers: Workers, place: str) -> None:
    """Split and merged while processes are killed, each event still has its effect exactly once."""
    store, views = await open_stores(place)
    source = StoreSource(store, "ledger")
    admin = ProcessorAdmin(Ledger, source=source, views=views, settings=QUICK)
    running = [await workers.start("ledger") for _ in range(2)]
    accounts = [f"a{number}" for number in range(30)]
    for name in accounts:
        await append(store, name, Opened(name, "x"))
    position = 0
    for turn, count in enumerate((8, 2, 5, 1, 6, 3)):
        for name in accounts:
            position = await append(
                store, name, *[Deposited(name, turn, f"2024-{turn + 1:02}")] * 3
            )
        if turn % 2:
            kill = asyncio.create_task(workers.kill(running.pop(0)))
            await admin.resize(count)
            await kill
            running.append(await workers.start("ledger"))
        else:
            await admin.resize(count)
    watching = Processor(Ledger, source=source, views=views, owner="me", settings=QUICK)
    await watching.wait_for(ConsistencyToken.at("ledger", store.epoch, position), timeout_s=30)
    found = (await views.find(AccountView, limit=1000)).items
    assert {(view.balance, view.events) for view in found} == {(3 * sum(range(6)), 18)}
    assert {month.total for month in (await views.find(MonthView)).items} == {
        90 * turn for turn in range(6)
    }
    assert len((await admin.status()).segments) == 3
    await watching.stop()
    await views.close()
    await store.close()


async def test_segments_of_a_killed_process_are_taken_over_when_its_lease_ends(
    workers: Workers, place: str
) -> None:
    """The others take each segment at the end of its lease, not a turn of renewal later."""
    store, views = await open_stores(place)
    slow_turns = msgspec.structs.replace(QUICK, lease_s=1.0, renew_s=30.0)
    victim = await workers.start("ledger")
    source = StoreSource(store, "ledger")
    other = Processor(Ledger, source=source, views=views, owner="other", settings=slow_turns)
    await other.start()
    await workers.kill(victim)
    other.wake()  # it sees the lease of the dead once more, and then waits for its end
    position = 0
    for number in range(20):
        position = await append(store, f"a{number}", Opened(f"a{number}", "x"))
    await other.wait_for(ConsistencyToken.at("ledger", store.epoch, position), timeout_s=10)
    assert len(other.claims.held) == other.claims.count == 4
    await other.stop()
    await views.close()
    await store.close()


async def test_processes_rebuild_together_while_queries_are_answered(
    workers: Workers, place: str
) -> None:
    """Three rebuild, one of them is killed; readers with a token see all of it, all the time."""
    store, views = await open_stores(place)
    source = StoreSource(store, "ledger")
    serving = Processor(Ledger, source=source, views=views, owner="me", settings=QUICK)
    await serving.start()
    for number in range(40):
        await append(store, f"a{number}", Opened(f"a{number}", "x"))
    total = 0

    async def read() -> None:
        nonlocal total
        total += 1
        position = await append(store, f"a{total % 40}", Deposited(f"a{total % 40}", 1))
        await serving.wait_for(ConsistencyToken.at("ledger", store.epoch, position), timeout_s=30)
        found = (await views.find(AccountView, limit=1000)).items
        assert sum(view.balance for view in found) == total, "a reader saw less"

    applier = serving.applier
    assert await views.next_generation("ledger", applier.code, applier.views, after=1) == 2
    await views.ensure(applier.views, generation=2, processor="ledger")
    token = (await source.begin()).text
    segments = await views.open_segments("ledger", count=4, token=token, generation=2)
    brake = await views.claim(segments[3], owner="z", lease_s=60)  # takes its share, and no work
    assert brake is not None
    rebuilding = [await workers.start("rebuild") for _ in range(3)]

    async def owners() -> set[str]:
        found = [s for s in await views.segments("ledger") if s.generation == 2]
        return {s.owner for s in found if s.index != 3 and token_of(s.token).position("ledger")}

    async with asyncio.timeout(60):
        while len(await owners() - {""}) < 3:
            await read()
        await workers.kill(rebuilding[0])
        while not all(o.startswith(("worker-1/", "worker-2/")) for o in await owners()):
            await read()
        assert await views.generation("ledger") == 1
        await views.release([brake])
        while await views.generation("ledger") == 1:
            await read()
        codes = [await worker.wait() for worker in rebuilding[1:]]
    await read()
    assert codes == [0, 0]
    assert {s.count for s in await views.segments("ledger")} == {4}
    await serving.stop()
    await views.close()
    await store.close()


async def test_transfers_settle_once_over_kills(workers: Workers, place: str) -> None:
    """Sagas whose processes are killed anywhere, split and merged, settle each transfer once."""
    store, views = await open_stores(place)
    bus, repository = command_bus(store)
    await bus.send(Open("shop"))
    for number in range(10):
        await bus.send(Open(f"c{number}", 1000))
    first, second = await workers.start("saga"), await workers.start("saga")
    source = StoreSource(store, "ledger")
    sagas = ProcessorAdmin(
        saga_applier(MoneyTransfer, source=source), source=source, views=views, settings=QUICK
    )
    for number in range(300):
        event = TransferRequested(f"t{number}", f"c{number % 10}", "shop", 7)
        new = NewEvent.of(event, new_metadata())
        await store.append([StreamWrite(f"Transfer/{number}", [new])])
        if number == 50:
            await sagas.resize(7)
        if number == 100:
            await workers.kill(first)
        if number == 150:
            await sagas.resize(2)
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


async def test_what_is_due_is_sent_once_over_kills(workers: Workers, place: str) -> None:
    """Whoever is killed while commands come due: each is carried out exactly once."""
    store, views = await open_stores(place)
    bus, repository = command_bus(store)
    await bus.send(Open("a", 0))
    schedule = Schedule(views, service="bank")
    await schedule.open()
    running = [await workers.start("schedule") for _ in range(2)]
    wanted = [f"x{number}" for number in range(400)]
    for number, reference in enumerate(wanted):
        await schedule.add(Credit("a", 1, reference), after=timedelta(milliseconds=number % 50))
        if number % 100 == 50:
            await workers.kill(running.pop(0))
            running.append(await workers.start("schedule"))

    async def all_sent() -> bool:
        rows = [await views.count(view) for view in (ScheduledCommand, PendingCommand)]
        return not any(rows)

    await until(all_sent, timeout_s=60.0)
    credited = []
    async for page in store.read():
        credited += [event.data for event in page.events if event.type == "Credited"]
    assert len(credited) == len(set(credited)) == len(wanted)
    await repository.close()
    await views.close()
    await store.close()
