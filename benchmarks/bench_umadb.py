"""Appends under a condition against UmaDB 0.7.8, a server made for that: same work and disk.

Its server is a process of its own, and its Python client blocks, so its callers are threads; ours
are tasks. It syncs each group commit to the disk, as we do.
"""

import asyncio
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from tests.ports import HeldPort

from benchmarks.bench_dcb import APPENDS, CALLERS, DATA, METADATA, TYPE, append_rate, tags_of
from benchmarks.engines import Engine, event_store
from benchmarks.harness import Measured, benchmark

if TYPE_CHECKING:
    from umadb import Client

PEER = "UmaDB 0.7.8"
PEER_APPENDS = 6400
SINGLE = 1600
_START_S_MAX = 30.0


@contextmanager
def _server() -> Iterator[str]:
    program = Path(sys.executable).with_name("umadb")
    with tempfile.TemporaryDirectory() as folder, HeldPort() as port:
        address = f"127.0.0.1:{port}"
        process = subprocess.Popen(
            [program, "--listen", address, "--db-path", f"{folder}/uma.db"],
            stdout=subprocess.DEVNULL,
        )
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait()


def _client(url: str) -> "Client":
    from umadb import Client

    ends = time.monotonic() + _START_S_MAX
    while True:
        try:
            client = Client(url)
            client.head()
        except Exception:  # it has several for a server that is not there yet
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
        else:
            return client


def _peer_rate(callers: int, appends: int) -> float:
    from umadb import AppendCondition, Event, Query, QueryItem

    metadata = {name: f"{value}" for name, value in msgspec.json.decode(METADATA).items()}
    with _server() as url:
        client = _client(url)

        def caller(first: int) -> None:
            for number in itertools.islice(itertools.count(first, callers), appends // callers):
                tags = list(tags_of(number))
                condition = AppendCondition(Query([QueryItem([TYPE], tags)]))
                client.append([Event(TYPE, DATA, tags, metadata=metadata)], condition)

        began = time.perf_counter()
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(caller, range(callers)))
        elapsed = time.perf_counter() - began
        assert client.head() == appends // callers * callers
        client.close()
    return appends // callers * callers / elapsed


async def _measured(engine: Engine, callers: int, appends: int) -> Measured:
    import umadb  # noqa: F401  # on the main thread, as it sets a signal handler

    peer = await asyncio.to_thread(_peer_rate, callers, min(appends, PEER_APPENDS))
    async with event_store(engine) as store:
        return Measured(await append_rate(store, callers=callers, appends=appends), peer)


@benchmark("dcb.umadb.postgres", unit="appends/s", peer=PEER, runs=3)
async def postgres() -> Measured:
    """256 callers, ours on PostgreSQL."""
    return await _measured("postgres", CALLERS, APPENDS)


@benchmark("dcb.umadb.sqlite", unit="appends/s", peer=PEER, runs=3)
async def sqlite() -> Measured:
    """256 callers, ours on SQLite."""
    return await _measured("sqlite", CALLERS, APPENDS)


@benchmark("dcb.umadb.single.postgres", unit="appends/s", peer=PEER, runs=3)
async def single_postgres() -> Measured:
    """One caller, ours on PostgreSQL."""
    return await _measured("postgres", 1, SINGLE)


@benchmark("dcb.umadb.single.sqlite", unit="appends/s", peer=PEER, runs=3)
async def single_sqlite() -> Measured:
    """One caller, ours on SQLite."""
    return await _measured("sqlite", 1, SINGLE)
