"""``/health/ready`` says what is true now, with traffic and without."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import pytest

from headwater.service.runtime import Runtime
from tests.integration.service.shop import make_service
from tests.integration.sql.test_postgres_disk import Disk
from tests.postgres_server import PostgresServer, execute

WAIT_S_MAX = 60.0
ITEM = {"item_id": "a", "title": "A", "stock": 9}


async def ready(running: Runtime) -> dict[str, str]:
    """Return the problems that are told; none means 200."""
    async with (
        aiohttp.ClientSession(running.url) as http,
        http.get("/health/ready") as answer,
    ):
        problems: dict[str, str] = (await answer.json())["problems"]
        assert (answer.status == 200) is (not problems), problems
        return problems


async def until(running: Runtime, *parts: str) -> None:
    """Wait until these parts, if any, have problems; without any: until none has."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            problems = await ready(running)
            if parts and set(parts) <= problems.keys():
                return
            if not parts and not problems:
                return
            await asyncio.sleep(0.1)


async def check_refused(running: Runtime) -> None:
    """A command is answered 503, and nothing of it is stored."""
    async with (
        aiohttp.ClientSession(running.url) as http,
        http.post("/items", json=ITEM) as answer,
    ):
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["outcome"]) == (503, "not stored"), problem


async def check_stored(running: Runtime) -> None:
    async with (
        aiohttp.ClientSession(running.url) as http,
        http.post("/items", json=ITEM) as answer,
    ):
        assert answer.status == 200, await answer.text()


def on_postgres(url: str, data: Path, **more: str) -> dict[str, Any]:
    return {"data": str(data), "store": url, "views": url, "bus": url, **more}


async def test_a_server_that_is_back_needs_no_event(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """After an outage instances are ready again without an event; so is a relay without a claim."""
    given = on_postgres(own_postgres.url(), tmp_path)
    async with (
        Runtime(make_service(), given) as first,
        Runtime(make_service(), given) as second,
    ):
        await asyncio.gather(until(first), until(second))
        await asyncio.to_thread(own_postgres.kill)
        for running in (first, second):
            await until(running, "event store", "view store", "event bus")
            await until(running, "items", "relay-shop")  # whatever follows it has noticed, too
        await asyncio.to_thread(own_postgres.start)
        await asyncio.gather(until(first), until(second))
        await check_stored(first)


async def test_tables_that_are_gone(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """A database that answers and cannot be written is not ready (PostgreSQL)."""
    async with Runtime(make_service(), on_postgres(own_postgres.url(), tmp_path)) as running:
        await until(running)
        url = own_postgres.url()
        await asyncio.to_thread(execute, url, "ALTER TABLE shop.event_tags RENAME TO gone")
        await until(running, "event store")
        await asyncio.to_thread(execute, url, "ALTER TABLE shop.gone RENAME TO event_tags")
        await until(running)
        await check_stored(running)
        await asyncio.to_thread(execute, url, "DROP TABLE shop.events CASCADE")
        await until(running, "event store")
        await check_refused(running)


async def test_a_file_whose_tables_are_gone(tmp_path: Path) -> None:
    """So it is in SQLite."""
    async with Runtime(make_service(), {"data": str(tmp_path)}) as running:
        await until(running)
        with apsw.Connection(str(tmp_path / "shop" / "events.db")) as other:
            other.execute("ALTER TABLE event_keys RENAME TO gone")
        await until(running, "event store")
        with apsw.Connection(str(tmp_path / "shop" / "events.db")) as other:
            other.execute("ALTER TABLE gone RENAME TO event_keys")
        await until(running)
        await check_stored(running)


async def test_damaged_pages(tmp_path: Path) -> None:
    """A file whose pages are damaged is not ready, and writes are answered 503."""
    file = tmp_path / "shop" / "events.db"
    async with Runtime(make_service(), {"data": str(tmp_path)}) as running:
        await check_stored(running)
    async with Runtime(make_service(), {"data": str(tmp_path)}) as running:
        with apsw.Connection(str(file)) as other:
            other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            pages = other.execute(
                "SELECT rootpage FROM sqlite_master WHERE name LIKE 'event%' AND rootpage > 0 "
                "AND name NOT LIKE 'event_store%'"
            ).fetchall()
            size = other.execute("PRAGMA page_size").get
            other.execute("UPDATE event_store SET value = value")  # so that caches are dropped
        with file.open("r+b") as damaged:
            for (page,) in pages:
                damaged.seek((page - 1) * size)
                damaged.write(b"\xff" * size)
        await until(running, "event store")
        async with (
            aiohttp.ClientSession(running.url) as http,
            http.post("/items", json={**ITEM, "item_id": "b"}) as answer,
        ):
            assert answer.status == 503, await answer.text()
            assert (await answer.json(content_type=None))["outcome"] == "not stored"


async def test_a_full_disk(tmp_path: Path) -> None:
    """A full disk is not ready, also while nothing is written, and heals when there is room."""
    disk = Disk(tmp_path / "disk", megabytes=4)
    try:
        async with Runtime(make_service(), {"data": str(disk.path)}) as running:
            await until(running)
            with (
                (disk.path / "filler").open("wb", buffering=0) as filler,
                pytest.raises(OSError, match="No space"),
            ):
                filler.writelines(itertools.repeat(b"x" * 4096))
            await until(running, "event store")
            await check_refused(running)
            (disk.path / "filler").unlink()
            await until(running)
            await check_stored(running)
    finally:
        disk.remove()


async def test_asking_is_bounded(tmp_path: Path) -> None:
    """A part that does not answer at all delays nobody who asks for health."""
    async with Runtime(make_service(), {"data": str(tmp_path)}) as running:
        for part in running.health._parts.values():
            part._ask = asyncio.Event().wait
            part._good_until = 0.0
        async with asyncio.timeout(WAIT_S_MAX):
            assert await ready(running) == {}  # it may only be slow
            for part in running.health._parts.values():
                part._asked_at -= 60
            assert "has not answered for 6" in (await ready(running))["event store"]


async def test_asking_processors_is_bounded(tmp_path: Path) -> None:
    """A processor whose store does not answer delays nobody either, filling its views or not."""
    async with Runtime(make_service(), {"data": str(tmp_path)}) as running:
        for processor in running.processors.readers:
            processor.concerns = asyncio.Event().wait  # type: ignore[method-assign,assignment]
            processor.unfilled = asyncio.Event().wait  # type: ignore[method-assign,assignment]
            processor._filled.clear()
        async with asyncio.timeout(WAIT_S_MAX):
            assert "its views are being filled" in (await ready(running)).values()
