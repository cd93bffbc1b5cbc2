"""The write-ahead log stays short, whoever reads and writes meanwhile."""

import asyncio
import contextlib
import functools
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated

import apsw
import msgspec
import pytest
from structlog.testing import capture_logs

from headwater._sql.sqlite import database
from headwater._sql.sqlite.log import LogKeeper
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.testing.eventbus import bus_event
from headwater.testing.eventstore_base import event, put, write
from headwater.views import Key, View
from headwater.views.sqlite import SQLiteViewStore

_PAGES = 100
_BYTES_MAX = 4 * _PAGES * 4096
_WRITES = 1500
_TEXT = "x" * 3000

Put = Callable[[int], Awaitable[object]]


class Doc(View):
    id: Annotated[str, Key]
    text: str


@contextlib.asynccontextmanager
async def events(path: Path) -> AsyncIterator[Put]:
    store = await SQLiteEventStore.open(path)
    yield lambda n: put(store, write(f"s/{n % 7}", event(data=f'"{_TEXT}"'.encode())))
    await store.close()


@contextlib.asynccontextmanager
async def views(path: Path) -> AsyncIterator[Put]:
    store = await SQLiteViewStore.open(path)
    await store.ensure([Doc])

    async def save(number: int) -> None:
        async with store.transaction() as work:
            await work.save([Doc(f"{number % 50}", f"{number}{_TEXT}")])

    yield save
    await store.close()


@contextlib.asynccontextmanager
async def bus(path: Path) -> AsyncIterator[Put]:
    opened = await SQLiteEventBus.open(path)
    data = f'"{_TEXT}"'.encode()
    yield lambda n: opened.publish([msgspec.structs.replace(bus_event(n + 1), data=data)])
    await opened.close()


def read_on(path: Path, stop: threading.Event) -> None:
    """Read so that there is always a snapshot in use, and none for long."""
    readers = [apsw.Connection(str(path)) for _ in range(2)]
    for reader in readers:
        reader.set_busy_timeout(10_000)
    held, free = readers
    _begin(held)
    while not stop.wait(0.001):
        _begin(free)
        held.execute("COMMIT")
        held, free = free, held
    for reader in readers:
        reader.close()


def _begin(reader: apsw.Connection) -> None:
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sqlite_master").fetchall()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the path of a file whose log shall stay short."""
    monkeypatch.setattr(database, "LogKeeper", functools.partial(LogKeeper, pages=_PAGES))
    return tmp_path / "some.db"


@pytest.mark.parametrize("opened", [events, views, bus])
async def test_while_it_is_read_and_written_without_a_pause(
    file: Path, opened: Callable[[Path], contextlib.AbstractAsyncContextManager[Put]]
) -> None:
    """With a writer that goes on and readers that overlap the log is begun anew all the same."""
    log, stop = file.with_name("some.db-wal"), threading.Event()
    largest = 0
    async with opened(file) as store:
        reading = asyncio.create_task(asyncio.to_thread(read_on, file, stop))
        try:
            for number in range(_WRITES):
                await store(number)
                largest = max(largest, log.stat().st_size)
        finally:
            stop.set()
            await reading
    assert largest < _BYTES_MAX


async def test_a_read_that_does_not_end_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing goes on, a warning names the cause, and once it is gone the log is short again."""
    monkeypatch.setattr("headwater._sql.sqlite.log.LOG_BYTES_MAX", _BYTES_MAX)
    monkeypatch.setattr("headwater._sql.sqlite.log._READERS_S_MAX", 0.001)
    log = file.with_name("some.db-wal")
    async with events(file) as store:
        reader = apsw.Connection(str(file))
        _begin(reader)
        with capture_logs() as logs:
            number = 0
            while not logs:
                await store(number)
                number += 1
        assert "end the program that has a transaction open" in logs[0]["event"]
        assert log.stat().st_size > _BYTES_MAX
        reader.close()
        grown = log.stat().st_size
        for _ in range(_PAGES):
            await store(number)
        assert log.stat().st_size <= grown + _PAGES * 4096


async def test_it_is_lengthened_ahead(tmp_path: Path) -> None:
    """Nearly all commits overwrite what is there: the file grows by many pages at a time."""
    path = tmp_path / "some.db"
    log, sizes = path.with_name("some.db-wal"), set()
    async with events(path) as store:
        for number in range(_WRITES // 3):
            await store(number)
            sizes.add(log.stat().st_size)
    assert len(sizes) < _WRITES // 3 / 10 + 64


async def test_what_is_added_is_nobodys(tmp_path: Path) -> None:
    """Who opens the file as a crash has left it finds all commits, of all who have written."""
    path, left = tmp_path / "some.db", tmp_path / "left"
    left.mkdir()
    async with events(path) as one, events(path) as other:
        for number in range(_WRITES // 5):
            await asyncio.gather(one(2 * number), other(2 * number + 1))
            if number % 50 == 49:
                for file in path, path.with_name("some.db-wal"):
                    shutil.copyfile(file, left / file.name)
                found = apsw.Connection(str(left / path.name))
                assert found.execute("PRAGMA integrity_check").get == "ok"
                assert found.execute("SELECT count(*) FROM events").get == 2 * number + 2
                found.close()
