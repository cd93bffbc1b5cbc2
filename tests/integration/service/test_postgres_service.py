"""A service whose events, views and bus are all in PostgreSQL."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from structlog.testing import capture_logs

from headwater.client import HttpCaller
from headwater.discovery import Instance, RouteInfo, StaticDiscovery
from headwater.dispatch.remote import RemoteCommandBus
from headwater.errors import StoreUnavailable
from headwater.messages import Command
from headwater.messages.headers import CONSISTENCY_TOKEN
from headwater.service.runtime import Runtime
from tests.cutting_proxy import HOWS, CuttingProxy
from tests.integration.service.shop import SellItem, make_service
from tests.postgres_server import PostgresServer

WAIT_S_MAX = 30.0
BUS = dict.fromkeys(range(4), -1)


def settings(url: str, data: Path) -> dict[str, str]:
    return {"data": str(data), "store": url, "views": url, "bus": url}


async def sell(http: aiohttp.ClientSession, item: str, count: int) -> str:
    """Sell, and return the consistency token."""
    async with http.post(f"/items/{item}/sales", json={"count": count}) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers[CONSISTENCY_TOKEN]


async def stock(http: aiohttp.ClientSession, item: str, token: str) -> int:
    async with http.get(f"/items/{item}", headers={CONSISTENCY_TOKEN: token}) as answer:
        assert answer.status == 200, await answer.text()
        return int((await answer.json())["stock"])


def check_discreet(text: str, server: PostgresServer) -> None:
    """A caller is told what kind of store is away, and nothing about where it is."""
    assert "PostgreSQL" in text
    assert not [
        word for word in (server.directory.name, str(server.port), "schema") if word in text
    ]


def said(logs: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(str(entry.get("error", "")) for entry in logs)


async def send_from_elsewhere(running: Runtime, command: Command) -> None:
    """Send a command as another service does."""
    routes = (RouteInfo("POST", "/items/{item_id}/sales", "command", "SellItem", "item_id"),)
    port = int(running.url.rpartition(":")[2])
    discovery = StaticDiscovery(
        {"shop": [Instance("shop", "s1", "127.0.0.1", port, routes=routes)]}
    )
    caller = HttpCaller(discovery)
    try:
        await RemoteCommandBus(caller, discovery, retries=0).send(command)
    finally:
        await caller.close()


async def test_everything_in_one_database(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """Commands, queries with tokens and the bus work, in schemas named after what they hold."""
    url = own_postgres.url()
    async with Runtime(make_service(), settings(url, tmp_path)) as first:
        async with aiohttp.ClientSession(first.url) as http:
            async with http.post("/items", json={"item_id": "a", "title": "A", "stock": 9}) as made:
                assert made.status == 200, await made.text()
            assert await stock(http, "a", await sell(http, "a", 2)) == 7
            async with http.post("/items/a/sales", json={"count": 8}) as refused:
                assert refused.status == 409
        assert first.bus is not None
        async with asyncio.timeout(WAIT_S_MAX):
            async for page in first.bus.subscribe(after=BUS):
                if page[-1].event.type == "ItemSold":
                    break
    async with (
        Runtime(make_service(), settings(url, tmp_path)) as second,
        aiohttp.ClientSession(second.url) as http,
    ):
        assert await stock(http, "a", await sell(http, "a", 3)) == 4
    connection = await asyncpg.connect(url)
    found = await connection.fetch("SELECT DISTINCT schemaname::text FROM pg_tables")
    assert {"shop", "headwater_bus"} <= {name for (name,) in found}
    await connection.close()


async def test_two_instances_share_the_work(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """A query to one instance sees the command that another one has handled."""
    given = settings(own_postgres.url(), tmp_path)
    async with (
        Runtime(make_service(), {**given, "role": "command"}) as commands,
        Runtime(make_service(), {**given, "role": "query"}) as queries,
        aiohttp.ClientSession(commands.url) as writing,
        aiohttp.ClientSession(queries.url) as reading,
    ):
        async with writing.post("/items", json={"item_id": "a", "title": "A", "stock": 50}) as made:
            assert made.status == 200
        for sold in range(1, 21):
            assert await stock(reading, "a", await sell(writing, "a", 1)) == 50 - sold


@pytest.mark.parametrize("how", HOWS)
async def test_the_way_is_cut(postgres_url: str, tmp_path: Path, how: str) -> None:
    """Wherever the way to the database is cut: a command has its effect once, and its answer.

    While the database cannot be asked, the answer says as data that the outcome is unknown; the
    same key finds it out. Of a read nothing is said of storing.
    """
    async with (
        CuttingProxy(postgres_url) as proxy,
        Runtime(make_service(), settings(proxy.url, tmp_path)) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        item = {"item_id": "a", "title": "A", "stock": 9}
        async with http.post("/items", json=item) as made:
            assert made.status == 200, await made.text()
        await proxy.cut(how, only="append_single")
        assert await stock(http, "a", await sell(http, "a", 1)) == 8
        await proxy.cut(how, only="append_single", closing=True)
        keyed = {"Idempotency-Key": "k"}
        async with http.post("/items/a/sales", json={"count": 1}, headers=keyed) as answer:
            problem = await answer.json(content_type=None)
            assert answer.status == (200 if how in ("behind", "beside") else 503), problem
        if answer.status == 503:
            assert problem["outcome"] == "unknown"
            assert "unknown whether" in problem["detail"]
        async with http.get("/items/a") as answer:
            if answer.status == 503:
                problem = await answer.json(content_type=None)
                assert problem["outcome"] == "not stored"
                assert "was stored" not in problem["detail"]
        await proxy.tell()
        async with asyncio.timeout(WAIT_S_MAX):
            token = ""
            while not token:
                async with http.post("/items/a/sales", json={"count": 1}, headers=keyed) as answer:
                    assert answer.status in {200, 503}, await answer.text()
                    token = answer.headers.get(CONSISTENCY_TOKEN, "")
        assert await stock(http, "a", token) == 7


async def test_the_server_goes_and_comes(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """Without its database a service answers 503, and goes on by itself when it is back."""
    async with (
        Runtime(make_service(), settings(own_postgres.url(), tmp_path)) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        async with http.post("/items", json={"item_id": "a", "title": "A", "stock": 9}) as made:
            assert made.status == 200
        await asyncio.to_thread(own_postgres.kill)
        with capture_logs() as logs:
            async with http.post("/items/a/sales", json={"count": 1}) as answer:
                assert answer.status == 503, await answer.text()
                check_discreet(await answer.text(), own_postgres)
            async with http.get("/items/a") as answer:
                assert answer.status == 503, await answer.text()
                check_discreet(await answer.text(), own_postgres)
        assert "schema=shop" in said(logs)
        async with http.get("/health/ready") as answer:  # which is for those who run it
            assert "schema=shop" in await answer.text()
        with pytest.raises(StoreUnavailable, match=r"'PostgreSQL'.*retry"):
            await send_from_elsewhere(running, SellItem("a", 1))
        own_postgres.start()
        async with asyncio.timeout(WAIT_S_MAX):
            token = ""
            while not token:
                async with http.post("/items/a/sales", json={"count": 1}) as answer:
                    assert answer.status in {200, 503}, await answer.text()
                    token = answer.headers.get(CONSISTENCY_TOKEN, "")
        assert await stock(http, "a", token) == 8


async def test_somebody_left_a_transaction_open(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """While the log is locked commands are answered 503 in time, queries as ever; then both."""
    url = own_postgres.url()
    async with (
        Runtime(make_service(), settings(url, tmp_path)) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        async with http.post("/items", json={"item_id": "a", "title": "A", "stock": 9}) as made:
            assert made.status == 200
        assert await stock(http, "a", await sell(http, "a", 1)) == 8
        somebody = await asyncpg.connect(url)
        await somebody.execute("BEGIN; LOCK TABLE shop.events IN SHARE ROW EXCLUSIVE MODE")
        async with asyncio.timeout(WAIT_S_MAX):
            with capture_logs() as logs:
                async with http.post("/items/a/sales", json={"count": 1}) as answer:
                    assert answer.status == 503, await answer.text()
                    check_discreet(await answer.text(), own_postgres)
            assert "pg_stat_activity" in said(logs)
            async with http.get("/items/a") as answer:
                assert answer.status == 200, await answer.text()
        await somebody.close()
        assert await stock(http, "a", await sell(http, "a", 1)) == 7


async def test_only_reading_is_allowed(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """On a standby, which may be behind, all is answered 503, and the log names the primary."""
    standby = own_postgres.directory / "data" / "standby.signal"
    async with (
        Runtime(make_service(), settings(own_postgres.url(), tmp_path)) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        async with http.post("/items", json={"item_id": "a", "title": "A", "stock": 9}) as made:
            assert made.status == 200
        assert await stock(http, "a", await sell(http, "a", 1)) == 8
        await asyncio.to_thread(own_postgres.stop)
        standby.touch()
        own_postgres.start()
        async with asyncio.timeout(WAIT_S_MAX):
            with capture_logs() as logs:  # the first finds its connection broken
                while "connect to the primary" not in said(logs):
                    async with http.post("/items/a/sales", json={"count": 1}) as answer:
                        assert answer.status == 503, await answer.text()
                        check_discreet(await answer.text(), own_postgres)
            async with http.get("/items/a") as answer:
                assert answer.status == 503, await answer.text()
        await asyncio.to_thread(own_postgres.stop)
        standby.unlink()
        own_postgres.start()
        async with asyncio.timeout(WAIT_S_MAX):
            token = ""
            while not token:
                async with http.post("/items/a/sales", json={"count": 1}) as answer:
                    token = answer.headers.get(CONSISTENCY_TOKEN, "")
        assert await stock(http, "a", token) == 7
