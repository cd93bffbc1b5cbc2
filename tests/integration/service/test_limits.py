"""A process that runs out of something answers 503, and goes on when there is some again."""

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from headwater.client import HttpCaller, Request
from headwater.discovery import Instance, StaticDiscovery
from headwater.errors import Unavailable
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.service.runtime import Runtime
from tests.integration.service.shop import make_service

WAIT_S_MAX = 60.0
ITEM = {"item_id": "a", "title": "A", "stock": 9}


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more within the block."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 20, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_without_descriptors(tmp_path: Path) -> None:
    """Reading a store, and calling others, fail as unavailable, and work again afterwards."""
    async with Runtime(make_service(), {"data": str(tmp_path)}) as running:
        port = int(running.url.rpartition(":")[2])
        near, far = (
            HttpCaller(StaticDiscovery({"shop": [Instance("shop", host, host, port)]}))
            for host in ("127.0.0.1", "localhost")
        )
        other = await SQLiteEventStore.open(tmp_path / "other.db")
        request = Request("GET", "/health/live", "shop")
        try:
            assert (await near.call(request)).status == 200
            with no_descriptors():
                with pytest.raises(Unavailable) as failed:
                    await far.call(request)
                assert failed.value.status == 503
                with pytest.raises(Unavailable):
                    await other.version("a")  # its readers connect when they are needed
            async with asyncio.timeout(WAIT_S_MAX):
                assert (await far.call(request)).status == 200
            assert await other.version("a") == 0
        finally:
            await near.close()
            await far.close()
            await other.close()


async def test_too_many_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes while all connections are in use is told 503; those who have one go on."""
    monkeypatch.setattr("headwater._http.server.connections_max", lambda: 3)
    async with (
        Runtime(make_service(), {"data": str(tmp_path)}) as running,
        aiohttp.ClientSession(running.url) as first,
        aiohttp.ClientSession(running.url) as second,
    ):
        port = int(running.url.rpartition(":")[2])
        async with first.get("/health/live") as answer:
            assert answer.status == 200
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        async with second.post("/items", json=ITEM) as answer:
            problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"]) == (503, "overloaded")
            assert problem["outcome"] == "not stored"
            assert answer.headers["Retry-After"] == "1"
        async with first.post("/items", json=ITEM) as answer:
            assert answer.status == 200
        late, _ = pair = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(WAIT_S_MAX):
            assert await late.read() == b""  # says nothing, and is not waited for
        for _, writer in (*idle, pair):
            writer.close()
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                async with second.get("/items/a") as answer:
                    if answer.status == 200:
                        break


async def test_health_says_what_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is nearly full is degraded, not refused; it is said while nothing happens."""
    async with (
        Runtime(make_service(), {"data": str(tmp_path)}) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        async with http.get("/health/ready") as answer:
            assert answer.status == 200
        monkeypatch.setattr("headwater._os.limits._FREE_BYTES_MIN", 2**62)
        running.health._looked_at = 0.0
        async with http.get("/health/ready") as answer:
            content = await answer.json()
            assert (answer.status, content["status"]) == (200, "degraded")
            (reason,) = [t for name, t in content["concerns"].items() if name.startswith("disk")]
            assert "MiB are free, expected" in reason
            assert "free some" in reason
