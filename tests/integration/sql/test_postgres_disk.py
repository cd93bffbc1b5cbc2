"""A disk that is really full: nothing is lost, and with more room everything goes on."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.errors import DiskFull
from headwater.eventstore.postgres import PostgresEventStore
from headwater.testing.eventstore_base import log_of
from tests.integration.eventstore.test_postgres_faults import Load
from tests.integration.eventstore.test_postgres_processes import check_dense
from tests.integration.sql.rooms import ROOMS, run
from tests.postgres_server import PostgresServer

WAIT_S_MAX = 30.0
SEGMENT = 16 * 2**20  # bytes of one file of the server's log


class Disk:
    """A small file system in memory, which can grow."""

    def __init__(self, path: Path, *, megabytes: int) -> None:
        self.path = path
        path.mkdir()
        options = f"size={megabytes}m,mode=700"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")

    def hand_over(self, server: PostgresServer) -> None:
        owner = server.directory.stat()
        os.chown(self.path, owner.st_uid, owner.st_gid)

    def grow(self, *, megabytes: int) -> None:
        options = f"remount,size={megabytes}m"
        subprocess.run(["mount", "-o", options, self.path], check=True)

    def remove(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)


@contextlib.contextmanager
def disk(server: PostgresServer, *, megabytes: int) -> Iterator[Disk]:
    made = Disk(server.directory / "disk", megabytes=megabytes)
    try:
        made.hand_over(server)
        yield made
    finally:
        server.stop(signal.SIGQUIT)
        made.remove()


@pytest.mark.parametrize("kind", ROOMS, ids=[room.__name__.lower() for room in ROOMS])
async def test_tables_on_a_full_disk(own_postgres: PostgresServer, kind: Any) -> None:
    """What does not fit is refused as such, what was acknowledged stays, smaller things fit."""
    with disk(own_postgres, megabytes=8) as small:
        admin = own_postgres.url()
        space = f"CREATE TABLESPACE small LOCATION '{small.path}'"
        await run(admin, space, "ALTER ROLE postgres SET default_tablespace = 'small'")
        room = await kind.open(own_postgres.url(schema="x"))
        stored: list[int] = []

        async def fill() -> None:
            for number in range(1, 100):
                await room.put(number, 100_000)
                stored.append(number)

        with pytest.raises(DiskFull, match=r"free space; nothing was stored"):
            await fill()
        assert 5 < len(stored) < 80
        for number in (1001, 1002):
            with pytest.raises(DiskFull):
                await room.put(number, 8_000_000)
        assert await room.numbers() == stored
        small.grow(megabytes=64)
        await room.put(2000, 100_000)
        assert await room.numbers() == [*stored, 2000]
        await room.close()


async def test_log_of_the_server_on_a_full_disk(own_postgres: PostgresServer) -> None:
    """The server breaks down in commits; after it: acknowledged is stored, rejected is not."""
    with disk(own_postgres, megabytes=2 * SEGMENT // 2**20 + 8) as small:
        await asyncio.to_thread(own_postgres.stop)
        log = own_postgres.directory / "data" / "pg_wal"
        await asyncio.to_thread(_move, log, small.path / "wal")
        await asyncio.to_thread(own_postgres.start)
        url = own_postgres.url(schema="x")
        store = await PostgresEventStore.open(url, resolve_timeout_s=0.3)
        load = Load(store)
        await _fill(own_postgres, leave=2**20)
        tasks = [asyncio.ensure_future(load.caller(number)) for number in range(16)]
        await asyncio.wait_for(load.failed.wait(), WAIT_S_MAX)
        await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
        small.grow(megabytes=256)
        await asyncio.to_thread(own_postgres.start)
        await load.until(len(load.acknowledged) + 200)
        load.stopped = True
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S_MAX)
        events = await log_of(store)
        await store.close()
    check_dense(events)
    assert _broke_down(own_postgres)
    stored = {e.stream.removeprefix("s/") for e in events if e.stream.startswith("s/")}
    assert load.acknowledged.keys() <= stored
    assert not load.rejected & stored
    assert stored <= load.acknowledged.keys() | load.unknown


def _move(log: Path, target: Path) -> None:
    """Put the server's log elsewhere, as an administrator does."""
    log.rename(log.with_name("old_wal"))
    subprocess.run(["cp", "-a", log.with_name("old_wal"), target], check=True)
    log.symlink_to(target)


async def _fill(server: PostgresServer, *, leave: int) -> None:
    """Write to the server's log until so many bytes are left of the files that fit."""
    left = f"SELECT 3 * {SEGMENT}::bigint - (pg_current_wal_lsn() - '0/0')::bigint"
    (free,) = await run(server.url(), left)
    assert free > leave
    megabyte = "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))"
    await run(server.url(), *[megabyte] * ((free - leave) // 1_000_000))


def _broke_down(server: PostgresServer) -> bool:
    return "PANIC" in (server.directory / "log").read_text()
