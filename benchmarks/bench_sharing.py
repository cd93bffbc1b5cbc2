"""What it costs to have more of something on one machine: stores (tenants), and readers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from benchmarks.engines import Engine, bank, bank_over, event_store, open_accounts, rate
from benchmarks.harness import Measured, benchmark
from headwater.eventstore import EventStore

CALLERS = 256
COMMANDS = 12_800
STORES = (1, 4, 16)
READERS = (0, 1, 4, 16)

Each = Callable[[Engine, int], Awaitable[dict[str, float]]]


async def _with_stores(engine: Engine, stores: int) -> dict[str, float]:
    """Divide the callers among so many stores of one process."""
    sizes = {"callers": CALLERS // stores, "commands": COMMANDS // stores}
    async with AsyncExitStack() as stack:
        banks = [await stack.enter_async_context(bank(engine)) for _ in range(stores)]
        began = time.perf_counter()
        await asyncio.gather(*(rate(one.bus, **sizes) for one in banks))
        return {"commands/s": COMMANDS / (time.perf_counter() - began)}


async def _follow(store: EventStore, after: int, count: int) -> None:
    async for page in store.follow(after=after):
        if page.through >= after + count:
            break


async def _with_readers(engine: Engine, readers: int) -> dict[str, float]:
    """Send commands while so many readers follow the store; it ends when all have read all."""
    async with event_store(engine) as store, bank_over(store) as one:
        await open_accounts(one.bus)
        head = await store.head()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(readers):
                group.create_task(_follow(store, head, COMMANDS))
            await rate(one.bus, callers=CALLERS, commands=COMMANDS)
            answered = time.perf_counter() - began
        read = time.perf_counter() - began
        return {
            "commands/s": COMMANDS / answered,
            "events read/s, all readers": COMMANDS * readers / read,
        }


async def _measured(engine: Engine, each: Each, numbers: tuple[int, ...]) -> Measured:
    curve: dict[str, dict[float, float]] = {}
    for number in numbers:
        for line, value in (await each(engine, number)).items():
            curve.setdefault(line, {})[number] = value
    commands = curve["commands/s"]
    return Measured(commands[numbers[-1]], commands[numbers[0]], curve=curve)


_PEER_STORES = "one store"
_PEER_READERS = "no reader"


@benchmark("stores.sqlite", unit="commands/s", peer=_PEER_STORES, runs=3)
async def stores_sqlite() -> Measured:
    """256 callers divided among up to 16 stores, a file each, in one process."""
    return await _measured("sqlite", _with_stores, STORES)


@benchmark("stores.postgres", unit="commands/s", peer=_PEER_STORES, runs=3)
async def stores_postgres() -> Measured:
    """256 callers divided among up to 16 stores, a schema each, in one process."""
    return await _measured("postgres", _with_stores, STORES)


@benchmark("readers.sqlite", unit="commands/s", peer=_PEER_READERS, runs=3)
async def readers_sqlite() -> Measured:
    """256 callers, and up to 16 readers that follow the store in the same process."""
    return await _measured("sqlite", _with_readers, READERS)


@benchmark("readers.postgres", unit="commands/s", peer=_PEER_READERS, runs=3)
async def readers_postgres() -> Measured:
    """256 callers, and up to 16 readers that follow the store in the same process."""
    return await _measured("postgres", _with_readers, READERS)
