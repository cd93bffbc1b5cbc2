"""What grows while everything goes on: it should be the event log, and nothing else.

For ``HEADWATER_BENCH_FLAT_S`` seconds (default 60) appends under idempotency keys, views and a bus
are written without a pause, and read by readers that overlap, while keys and events of the bus
are forgotten after a second. The value is the longest write-ahead log of the three files; the
other figures are what was added from half-time to the end.
"""

import asyncio
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import apsw

from benchmarks.harness import Measured, benchmark
from headwater.eventbus import BusEvent
from headwater.eventbus.retention import Retention
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.eventstore import Idempotency, NewEvent, StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import Metadata, new_id
from headwater.messages.codec import encode_metadata
from headwater.views import Index, Key, View
from headwater.views.sqlite import SQLiteViewStore

SECONDS = float(os.environ.get("HEADWATER_BENCH_FLAT_S", "60"))
CALLERS = 32
DOCUMENTS = 20_000
KEPT_S = 1.0
_MB = 1 << 20
_DATA = b'{"text":"' + b"x" * 500 + b'"}'
_METADATA = encode_metadata(Metadata(id=new_id(), correlation_id=new_id(), time=1))


class Document(View):
    """A view that is written again and again."""

    id: Annotated[str, Key]
    number: Annotated[int, Index]
    text: str


def _read(path: Path, stop: threading.Event) -> None:
    """Read so that some snapshot is always in use, and none for long."""
    held, free = (apsw.Connection(str(path)) for _ in range(2))
    for reader in (held, free):
        reader.set_busy_timeout(10_000)
    while not stop.wait(0.005):
        free.execute("BEGIN")
        free.execute("SELECT count(*) FROM sqlite_master").fetchall()
        if held.in_transaction:
            held.execute("COMMIT")
        held, free = free, held
    held.close()
    free.close()


def _memory() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


class Load:
    """Three files, and what is done to them until the time is up."""

    def __init__(
        self, directory: Path, store: SQLiteEventStore, views: SQLiteViewStore, bus: SQLiteEventBus
    ) -> None:
        self.files = [directory / name for name in ("events.db", "views.db", "bus.db")]
        self.store, self.views, self.bus = store, views, bus
        self.wal_max = 0
        self.ends = 0.0
        self.done = {"events": 0, "documents": 0, "published": 0}

    async def run(self) -> Measured:
        stop = threading.Event()
        readers = [asyncio.create_task(asyncio.to_thread(_read, f, stop)) for f in self.files]
        self.ends = time.monotonic() + SECONDS
        half: dict[str, float] = {}
        tasks = [self._append(n) for n in range(CALLERS)]
        tasks += [self._save(), self._publish(), self._forget(), self._look(half)]
        try:
            await asyncio.gather(*tasks)
        finally:
            stop.set()
            await asyncio.gather(*readers)
        end = await self._sizes()
        added = {f"{name}_added": end[name] - half[name] for name in end}
        rates = {f"{name}_per_s": count / SECONDS for name, count in self.done.items()}
        return Measured(self.wal_max / _MB, more={**added, **rates})

    def _goes_on(self) -> bool:
        return time.monotonic() < self.ends

    async def _append(self, caller: int) -> None:
        event = NewEvent("Written", 1, _DATA, _METADATA)
        for number in itertools.takewhile(lambda _: self._goes_on(), itertools.count()):
            await self.store.append(
                [StreamWrite(f"s/{caller}", [event])], idempotency=Idempotency(new_id(), "")
            )
            self.done["events"] = self.done["events"] + 1
            assert number >= 0

    async def _save(self) -> None:
        for number in itertools.takewhile(lambda _: self._goes_on(), itertools.count()):
            async with self.views.transaction() as work:
                rows = [(number * 7919 + n * 101) % DOCUMENTS for n in range(20)]
                await work.save([Document(f"{row}", number, "x" * 500) for row in rows])
            self.done["documents"] += 20
            await asyncio.sleep(0)

    async def _publish(self) -> None:
        for number in itertools.takewhile(lambda _: self._goes_on(), itertools.count()):
            first = number * 20 + 1
            await self.bus.publish(
                [
                    BusEvent("s", "e", n, f"s/{n % 9}", n, "T", 1, 1, (), _DATA, _METADATA)
                    for n in range(first, first + 20)
                ]
            )
            self.done["published"] += 20

    async def _forget(self) -> None:
        await self._every(KEPT_S, self._forget_once)

    async def _forget_once(self) -> None:
        await self.store.forget_keys(KEPT_S)
        await self.bus.forget(Retention(age_s=KEPT_S))

    async def _look(self, half: dict[str, float]) -> None:
        middle = self.ends - SECONDS / 2

        async def look() -> None:
            logs = [file.with_name(f"{file.name}-wal") for file in self.files]
            self.wal_max = max(self.wal_max, *(log.stat().st_size for log in logs))
            if not half and time.monotonic() > middle:
                half.update(await self._sizes())

        await self._every(0.02, look)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while self._goes_on():
            await work()
            await asyncio.sleep(seconds)

    async def _sizes(self) -> dict[str, float]:
        connection = apsw.Connection(str(self.files[0]), flags=apsw.SQLITE_OPEN_READONLY)
        keys = float(connection.execute("SELECT count(*) FROM event_keys").get)
        connection.close()
        sizes = {f"{f.stem}_mb": f.stat().st_size / _MB for f in self.files[1:]}
        return {"memory_mb": _memory(), "keys": keys, **sizes}


@benchmark("flat.sqlite", unit="MB of log", runs=1)
async def flat_sqlite() -> Measured:
    """Write and read three files for a while."""
    with tempfile.TemporaryDirectory(prefix="hwflat") as name:
        place = Path(name)
        store = await SQLiteEventStore.open(place / "events.db")
        views = await SQLiteViewStore.open(place / "views.db")
        bus = await SQLiteEventBus.open(place / "bus.db")
        await views.ensure([Document])
        try:
            return await Load(place, store, views, bus).run()
        finally:
            for opened in (bus, views, store):
                await opened.close()
