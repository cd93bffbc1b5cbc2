"""Catch-up of a projection from SQLite into SQLite, and how soon a live event is visible."""

import asyncio
import functools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import apsw
import msgspec

from benchmarks.bank import Account, AccountOpened, MoneyWithdrawn, OpenAccount, WithdrawMoney
from benchmarks.harness import Measured, benchmark
from headwater._sql.sqlite.database import connect
from headwater.dispatch.local import LocalCommandBus
from headwater.eventstore import NewEvent, StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import ConsistencyToken, Event, Metadata, new_id
from headwater.messages.codec import encode_metadata
from headwater.modelling import (
    Effects,
    End,
    Projection,
    Repository,
    Saga,
    event_handler,
    saga_handler,
)
from headwater.processing import Processor, SagaProcessor, StoreSource
from headwater.views import Key, View
from headwater.views.sqlite import SQLiteViewStore

EVENTS = 500_000
ACCOUNTS = 1_000
PAGE = 2_000
LIVE = 200
PURCHASES = 5_000
CALLERS = 64


class Balance(View):
    """What is on an account."""

    id: Annotated[str, Key]
    holder: str
    balance: int = 0
    events: int = 0


class Balances(Projection):
    """Keeps the balances."""

    @event_handler(Balance, key="account_id")
    def opened(self, event: AccountOpened) -> Balance:
        """Begin."""
        return Balance(event.account_id, event.holder)

    @event_handler(Balance, key="account_id")
    def withdrawn(self, view: Balance, event: MoneyWithdrawn) -> None:
        """Subtract."""
        view.balance -= event.amount
        view.events += 1


class PurchaseRequested(Event):
    """Somebody wants to buy something."""

    purchase_id: str
    account_id: str


class Purchase(Saga):
    """Takes the money for a purchase."""

    @saga_handler(key="purchase_id", starts=True)
    def requested(self, event: PurchaseRequested) -> Effects:
        """Take it."""
        return [WithdrawMoney(event.account_id, 1), End()]


def event_of(event: Event) -> NewEvent:
    """Return an event as a service stores it."""
    identity = new_id()
    metadata = encode_metadata(Metadata(id=identity, correlation_id=identity, time=1))
    return NewEvent(type(event).__name__, 1, msgspec.json.encode(event), metadata)


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()  # removed when the program ends


async def _filled() -> Path:
    """Return the file of a store with all events; filled once."""
    path = Path(_directory().name) / "events.db"
    if path.exists():
        return path
    store = await SQLiteEventStore.open(path)
    numbers = [f"{n}" for n in range(ACCOUNTS)]
    await store.append(
        [StreamWrite(f"Account/{n}", [event_of(AccountOpened(n, "x"))]) for n in numbers]
    )
    for _ in range(EVENTS // ACCOUNTS - 1):
        await store.append(
            [StreamWrite(f"Account/{n}", [event_of(MoneyWithdrawn(n, 1))]) for n in numbers]
        )
    await store.close()
    return path


@benchmark("projection.sqlite", unit="events/s", peer="bare loop, same pages and commits", runs=3)
async def projection_sqlite() -> Measured:
    """Catch up with 500,000 events of 1,000 accounts, from an empty view store."""
    path = await _filled()
    with tempfile.TemporaryDirectory() as directory:
        bare = await asyncio.to_thread(_bare, path, Path(directory) / "bare.db")
        store = await SQLiteEventStore.open(path)
        views = await SQLiteViewStore.open(Path(directory) / "views.db")
        processor = Processor(
            Balances, source=StoreSource(store, "bench"), views=views, owner="bench"
        )
        began = time.perf_counter()
        await processor.start()
        await processor.wait_for(ConsistencyToken.at("bench", store.epoch, EVENTS), timeout_s=120.0)
        rate = EVENTS / (time.perf_counter() - began)
        found = await views.get(Balance, "7")
        await processor.stop()
        await views.close()
        await store.close()
        assert found is not None
        assert found.events == EVENTS // ACCOUNTS - 1
        return Measured(rate, bare)


def _bare(source: Path, target: Path) -> float:
    """Read pages with the driver, decode, load and upsert documents, one commit per page."""
    events, views = connect(source), connect(target)
    views.execute("CREATE TABLE v (id TEXT PRIMARY KEY, doc BLOB) WITHOUT ROWID")
    views.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, position INTEGER)")
    began = time.perf_counter()
    position = 0
    while position < EVENTS:
        rows = events.execute(
            "SELECT position, type, data FROM events WHERE position > ? ORDER BY position LIMIT ?",
            (position, PAGE),
        ).fetchall()
        _bare_page(views, rows)
        position = int(rows[-1][0])
    rate = EVENTS / (time.perf_counter() - began)
    events.close()
    views.close()
    return rate


_opened = msgspec.json.Decoder(AccountOpened).decode
_withdrawn = msgspec.json.Decoder(MoneyWithdrawn).decode
_balance = msgspec.json.Decoder(Balance).decode


def _bare_page(views: apsw.Connection, rows: list[Any]) -> None:
    decoded = [
        _opened(data) if kind == "AccountOpened" else _withdrawn(data) for _, kind, data in rows
    ]
    views.execute("BEGIN IMMEDIATE")
    keys = list({event.account_id for event in decoded})
    marks = ",".join("?" * len(keys))
    found = views.execute(f"SELECT id, doc FROM v WHERE id IN ({marks})", keys)
    documents: dict[str, Balance] = {str(key): _balance(doc) for key, doc in found}
    for event in decoded:
        if isinstance(event, AccountOpened):
            documents[event.account_id] = Balance(event.account_id, event.holder)
        else:
            document = documents[event.account_id]
            document.balance -= event.amount
            document.events += 1
    views.executemany(
        "INSERT OR REPLACE INTO v VALUES (?, ?)",
        [(key, msgspec.json.encode(document)) for key, document in documents.items()],
    )
    views.execute("INSERT OR REPLACE INTO t VALUES (1, ?)", (rows[-1][0],))
    views.execute("COMMIT")


@benchmark("projection.live", unit="ms", peer="the append alone", runs=3)
async def projection_live() -> Measured:
    """Median time from before a durable append until its effect is visible to a query."""
    with tempfile.TemporaryDirectory() as directory:
        store = await SQLiteEventStore.open(Path(directory) / "events.db")
        views = await SQLiteViewStore.open(Path(directory) / "views.db")
        processor = Processor(
            Balances, source=StoreSource(store, "bench"), views=views, owner="bench"
        )
        await processor.start()
        await store.append([StreamWrite("Account/1", [event_of(AccountOpened("1", "x"))])])
        visible, appended = [], []
        for _ in range(LIVE):
            began = time.perf_counter()
            done = await store.append(
                [StreamWrite("Account/1", [event_of(MoneyWithdrawn("1", 1))])]
            )
            appended.append(time.perf_counter() - began)
            token = ConsistencyToken.at("bench", store.epoch, done.last)
            await processor.wait_for(token, timeout_s=10.0)
            visible.append(time.perf_counter() - began)
        await processor.stop()
        await views.close()
        await store.close()
        return Measured(statistics.median(visible) * 1000, statistics.median(appended) * 1000)


@benchmark("sagas.sqlite", unit="commands/s", peer="the command bus alone, 64 callers", runs=3)
async def sagas_sqlite() -> Measured:
    """5,000 sagas of one command each, until all commands are durable."""
    with tempfile.TemporaryDirectory() as directory:
        store = await SQLiteEventStore.open(Path(directory) / "events.db")
        views = await SQLiteViewStore.open(Path(directory) / "views.db")
        repository = Repository(Account, store, source="bench")
        bus = LocalCommandBus([repository.handlers()])
        await asyncio.gather(*(bus.send(OpenAccount(f"{n}", "x")) for n in range(ACCOUNTS)))
        bare = await _purchases(bus)
        requests = [PurchaseRequested(f"p{n}", f"{n % ACCOUNTS}") for n in range(PURCHASES)]
        await store.append(
            [StreamWrite(f"Purchase/{r.purchase_id}", [event_of(r)]) for r in requests]
        )
        head = await store.head()
        sagas = SagaProcessor(
            Purchase,
            source=StoreSource(store, "bench"),
            views=views,
            owner="bench",
            commands=bus,
            concurrency=CALLERS,
        )
        began = time.perf_counter()
        await sagas.start()
        async for page in store.follow(after=head):
            if page.through == head + PURCHASES:
                break
        rate = PURCHASES / (time.perf_counter() - began)
        await sagas.stop()
        await repository.close()
        await views.close()
        await store.close()
        return Measured(rate, bare)


async def _purchases(bus: LocalCommandBus) -> float:
    async def caller(number: int) -> None:
        for n in range(number, PURCHASES, CALLERS):
            await bus.send(WithdrawMoney(f"{n % ACCOUNTS}", 1), idempotency_key=f"k{n}")

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return PURCHASES / (time.perf_counter() - began)
