"""What benchmarks of several engines share: stores, and the bank over them."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from benchmarks.bank import Account, MoneyWithdrawn, OpenAccount, WithdrawMoney
from benchmarks.postgres import schema
from headwater.dispatch.interceptors import Validating, logging_commands
from headwater.dispatch.local import LocalCommandBus
from headwater.eventstore import EventStore, NewEvent, StreamWrite
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.modelling import Repository

ACCOUNTS = 1000

Engine = Literal["sqlite", "postgres"]


class Bank(NamedTuple):
    """A command bus as a service sets it up, and what is below it."""

    bus: LocalCommandBus
    repository: Repository[Account]
    store: EventStore


@asynccontextmanager
async def event_store(engine: Engine) -> AsyncIterator[EventStore]:
    """Give a new store."""
    with tempfile.TemporaryDirectory() as directory:
        if engine == "sqlite":
            store: EventStore = await SQLiteEventStore.open(Path(directory) / "events.db")
            try:
                yield store
            finally:
                await store.close()
        else:
            async with postgres_store() as store:
                yield store


@asynccontextmanager
async def postgres_store() -> AsyncIterator[PostgresEventStore]:
    """Give a new store in a schema of its own."""
    async with schema() as url:
        store = await PostgresEventStore.open(url)
        try:
            yield store
        finally:
            await store.close()


@asynccontextmanager
async def bank(engine: Engine) -> AsyncIterator[Bank]:
    """Give a bank over a new store, with all accounts opened."""
    async with event_store(engine) as store, bank_over(store) as one:
        await open_accounts(one.bus)
        yield one


@asynccontextmanager
async def bank_over(store: EventStore) -> AsyncIterator[Bank]:
    """Give a bank over a store."""
    repository = Repository(Account, store, source="bench")
    handlers = repository.handlers()
    bus = LocalCommandBus([handlers], always=[logging_commands], interceptors=[Validating()])
    try:
        yield Bank(bus, repository, store)
    finally:
        await repository.close()


async def open_accounts(bus: LocalCommandBus) -> None:
    """Open all accounts."""
    await asyncio.gather(*(bus.send(OpenAccount(f"{n}", "holder")) for n in range(ACCOUNTS)))


async def rate(
    bus: LocalCommandBus, *, callers: int, commands: int, accounts: int = ACCOUNTS
) -> float:
    """Return how many commands a second so many concurrent callers get answered."""

    async def caller(number: int) -> None:
        for step in range(commands // callers):
            await bus.send(WithdrawMoney(f"{(number * 37 + step * 7) % accounts}", 1))

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    return commands // callers * callers / (time.perf_counter() - began)


async def append_long(store: EventStore, events: int) -> None:
    """Append a long stream of withdrawals for the account ``long``."""
    data = msgspec.json.encode(MoneyWithdrawn("0", 1))
    event = NewEvent("MoneyWithdrawn", 1, data, b'{"id":"x"}')
    await store.append([StreamWrite("Account/long", [event] * events)])
