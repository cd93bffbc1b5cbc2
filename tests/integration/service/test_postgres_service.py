"""A service whose events, views and bus are all in PostgreSQL."""

import asyncio
from pathlib import Path

import aiohttp
import asyncpg

from headwater.messages.headers import CONSISTENCY_TOKEN
from headwater.service.runtime import Runtime
from tests.integration.service.shop import make_service
from tests.postgres_server import PostgresServer

WAIT_S_MAX = 20.0
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


async def test_the_server_goes_and_comes(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """Without its database a service answers 503, and goes on by itself when it is back."""
    async with (
        Runtime(make_service(), settings(own_postgres.url(), tmp_path)) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        async with http.post("/items", json={"item_id": "a", "title": "A", "stock": 9}) as made:
            assert made.status == 200
        await asyncio.to_thread(own_postgres.kill)
        async with http.post("/items/a/sales", json={"count": 1}) as answer:
            assert answer.status == 503, await answer.text()
        async with http.get("/items/a") as answer:
            assert answer.status == 503, await answer.text()
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
            async with http.post("/items/a/sales", json={"count": 1}) as answer:
                assert answer.status == 503, await answer.text()
                assert "pg_stat_activity" in await answer.text()
            async with http.get("/items/a") as answer:
                assert answer.status == 200, await answer.text()
        await somebody.close()
        assert await stock(http, "a", await sell(http, "a", 1)) == 7


async def test_only_reading_is_allowed(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """On a standby commands are answered 503 and name the primary; queries are answered."""
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
            text = ""
            while "connect to the primary" not in text:  # the first finds its connection broken
                async with http.post("/items/a/sales", json={"count": 1}) as answer:
                    assert answer.status == 503, await answer.text()
                    text = await answer.text()
            async with http.get("/items/a") as answer:
                assert answer.status == 200, await answer.text()
        await asyncio.to_thread(own_postgres.stop)
        standby.unlink()
        own_postgres.start()
        async with asyncio.timeout(WAIT_S_MAX):
            token = ""
            while not token:
                async with http.post("/items/a/sales", json={"count": 1}) as answer:
                    token = answer.headers.get(CONSISTENCY_TOKEN, "")
        assert await stock(http, "a", token) == 7
