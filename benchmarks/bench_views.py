"""The view store against bare loops over the same rows in the same schema."""

import asyncio
import functools
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import apsw
import msgspec

from benchmarks.harness import Measured, benchmark
from headwater._sql.sqlite.database import Database, connect
from headwater.views import Index, Key, View, view_type
from headwater.views.sqlite import SQLiteViewStore
from headwater.views.sqlite.tables import Table, table

ACCOUNTS = 20_000
BATCHES = 40
KEYS_PER_BATCH = 1000
GETS = 5000


class AccountView(View):
    """A typical document."""

    id: Annotated[str, Key]
    holder: Annotated[str, Index] = ""
    balance: int = 0
    movements: int = 0


@contextmanager
def _file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "views.db"


def _batches() -> list[list[str]]:
    chosen = random.Random(1)
    return [
        [f"account-{n:06}" for n in chosen.sample(range(ACCOUNTS), KEYS_PER_BATCH)]
        for _ in range(BATCHES)
    ]


def _changed(found: dict[str, AccountView], keys: list[str]) -> list[AccountView]:
    views = []
    for key in keys:
        view = found.get(key) or AccountView(key, f"holder {key[-3:]}")
        view.balance += 5
        view.movements += 1
        views.append(view)
    return views


def _bare_upsert(sql: Table) -> float:
    """Load, decode, change, encode and store as one would by hand, on one thread."""
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(AccountView).decode
    with _file() as path:
        connection = connect(path)
        for statement in sql.create:
            connection.execute(statement)
        known = "IN (SELECT value FROM json_each(?))"
        load = f'SELECT id, document FROM "{sql.name}" WHERE id {known}'
        columns = "id = excluded.id, holder = excluded.holder, document = excluded.document"
        save = (
            f'INSERT INTO "{sql.name}" (id, holder, document) VALUES (?, ?, ?) '
            f"ON CONFLICT (id) DO UPDATE SET {columns}"
        )
        started = time.perf_counter()
        for keys in _batches():
            connection.execute("BEGIN IMMEDIATE")
            rows = connection.execute(load, (encode(keys).decode(),))
            views = _changed({key: decode(document) for key, document in rows}, keys)
            values = [(view.id, view.holder, encode(view).decode()) for view in views]
            connection.executemany(save, values)
            connection.execute("COMMIT")
        elapsed = time.perf_counter() - started
        connection.close()
    return BATCHES * KEYS_PER_BATCH / elapsed


@benchmark("views.upsert", unit="documents/s", peer="bare apsw and msgspec loop")
async def upsert() -> Measured:
    """Transactions that load, change and save 1,000 of 20,000 documents, and advance a token."""
    peer = await asyncio.to_thread(_bare_upsert, table(AccountView, 1))
    with _file() as path:
        store = await SQLiteViewStore.open(path)
        await store.ensure([AccountView])
        (segment,) = await store.open_segments("bench", count=1, token="0", generation=1)
        claimed = await store.claim(segment, owner="bench", lease_s=60)
        assert claimed is not None
        started = time.perf_counter()
        for number, keys in enumerate(_batches()):
            async with store.transaction() as work:
                found = await work.load(AccountView, keys)
                await work.save(_changed(found, keys))
                await work.advance([claimed], str(number))
        elapsed = time.perf_counter() - started
        await store.close()
    return Measured(BATCHES * KEYS_PER_BATCH / elapsed, peer)


@benchmark("views.get", unit="µs", peer="the same read on a reader thread")
async def get() -> Measured:
    """One document by its key, one after another: what a query over HTTP pays for the store."""
    kind, sql = view_type(AccountView), table(AccountView, 1)

    def point(connection: apsw.Connection, key: str) -> AccountView:
        view: AccountView = kind.decode(connection.execute(sql.get, (key,)).get)
        return view

    with _file() as path:
        store = await SQLiteViewStore.open(path)
        await store.ensure([AccountView])
        keys = [f"account-{n:06}" for n in range(GETS)]
        async with store.transaction() as work:
            await work.save(_changed({}, keys))
        random.Random(1).shuffle(keys)
        started = time.perf_counter()
        for key in keys:
            assert await store.get(AccountView, key) is not None
        direct = time.perf_counter() - started
        await store.close()
        threads = await Database.open(path, room="benchmark", migrations=[])
        started = time.perf_counter()
        for key in keys:
            await threads.read(functools.partial(point, key=key))
        on_thread = time.perf_counter() - started
        await threads.close()
    return Measured(direct / GETS * 1e6, on_thread / GETS * 1e6)
