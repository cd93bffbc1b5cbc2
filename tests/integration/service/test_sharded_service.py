"""A service whose event store is spread over two databases, as its users see it: over HTTP."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import pytest

from headwater.errors import ConfigurationError, ShardMismatch
from headwater.eventstore.sharded import shard_of
from headwater.messages import Command, ConsistencyToken, Event, Query, Tag, route
from headwater.messages.headers import CONSISTENCY_TOKEN, IDEMPOTENCY_KEY
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    EventMessage,
    Projection,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
)
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.service.settings import service_settings
from headwater.views import Key, View
from tests.integration.service.shop import ItemAdded, ItemSold, make_service
from tests.postgres_server import POSTGRES, PostgresServer, execute

WAIT_S_MAX = 30.0
ITEMS = [f"i{number}" for number in range(16)]


class Stock(View):
    """What is left of an item, as another service has heard."""

    id: Annotated[str, Key]
    left: int = 0
    service: str = ""


@route("GET /stock/{item_id}")
class GetStock(Query[Stock]):
    """What is left of an item."""

    item_id: str


class Stocks(Projection):
    """Listens to the shop's events on the bus."""

    source = "bus"

    @event_handler(Stock, key="item_id")
    def added(self, event: ItemAdded, message: EventMessage[ItemAdded]) -> Stock:
        return Stock(event.item_id, event.stock, message.source)

    @event_handler(Stock, key="item_id")
    def sold(self, view: Stock, event: ItemSold) -> None:
        view.left -= event.count

    @query_handler
    async def one(self, query: GetStock) -> Stock | None:
        return await self.views.get(Stock, query.item_id)


@pytest.fixture(params=["sqlite", POSTGRES])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Settings of a shop with two shards, and a bus."""
    common = {
        "data": str(tmp_path),
        "bus": "sqlite:{data}/bus.db",
        "consistency_timeout_s": WAIT_S_MAX,
    }
    if request.param == "sqlite":
        yield {**common, "store": ["sqlite:{data}/left.db", "sqlite:{data}/right.db"]}
        return
    server: str = request.getfixturevalue("postgres_server")
    joint = "&" if "?" in server else "?"
    schemas = [f"t_{uuid.uuid4().hex}_{side}" for side in ("left", "right", "views")]
    left, right, views = (f"{server}{joint}schema={schema}" for schema in schemas)
    yield {**common, "store": [left, right], "views": views}
    for schema in schemas:
        execute(server, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


async def add(http: aiohttp.ClientSession, item: str, stock: int = 100) -> str:
    """Add an item; return the consistency token."""
    body = {"item_id": item, "title": item.upper(), "stock": stock}
    async with http.post("/items", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers[CONSISTENCY_TOKEN]


async def sell(http: aiohttp.ClientSession, item: str, count: int, key: str = "") -> str:
    """Sell; return the consistency token."""
    headers = {IDEMPOTENCY_KEY: key} if key else {}
    async with http.post(f"/items/{item}/sales", json={"count": count}, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers[CONSISTENCY_TOKEN]


async def left(http: aiohttp.ClientSession, path: str, token: str = "") -> int:
    """Return what is left of an item, asking with the token."""
    async with http.get(path, headers={CONSISTENCY_TOKEN: token} if token else {}) as answer:
        assert answer.status == 200, await answer.text()
        view = await answer.json()
        return int(view["stock"] if "stock" in view else view["left"])


def shards_of(tokens: list[str]) -> set[int]:
    states = [ConsistencyToken.decode(token).sources["shop"] for token in tokens]
    assert len({state.epoch for state in states}) == 1
    return {shard for state in states for shard in state.shards}


async def test_who_uses_it_notices_nothing(given: dict[str, Any]) -> None:
    """Commands, queries with tokens, refusals, repeated keys and a restart: as with one store."""
    async with Runtime(make_service(), given) as shop, aiohttp.ClientSession(shop.url) as http:
        tokens = [await add(http, item) for item in ITEMS]
        assert shards_of(tokens) == {0, 1}
        for item in ITEMS:
            assert await left(http, f"/items/{item}", await sell(http, item, 1)) == 99
            once = [await sell(http, item, 2, key=f"key-{item}") for _ in range(2)]
            assert once[0] == once[1]
            assert await left(http, f"/items/{item}", once[1]) == 97
            async with http.post(f"/items/{item}/sales", json={"count": 98}) as refused:
                assert refused.status == 409
        assert shop.store is not None
        heads = [await log.head() for log in shop.store.shards]
        assert sum(heads) == 3 * len(ITEMS)
        assert min(heads) > 0
    async with Runtime(make_service(), given) as shop, aiohttp.ClientSession(shop.url) as http:
        assert await left(http, "/items/i0", tokens[0]) == 97
        await asyncio.gather(*(sell(http, item, 1) for item in ITEMS for _ in range(5)))
        marks = [await sell(http, item, 1) for item in ITEMS]
        for item, token in zip(ITEMS, marks, strict=True):
            assert await left(http, f"/items/{item}", token) == 91
        async with http.get("/items", params={"limit": 100}) as all_of_them:
            assert len(await all_of_them.json()) == len(ITEMS)


async def test_command_and_query_sides_apart(given: dict[str, Any]) -> None:
    """Two instances handle commands, two answer queries, and a token holds for all of them."""
    async with (
        Runtime(make_service(), {**given, "role": "command"}) as one,
        Runtime(make_service(), {**given, "role": "command"}) as two,
        Runtime(make_service(), {**given, "role": "query"}) as three,
        Runtime(make_service(), {**given, "role": "query"}) as four,
        aiohttp.ClientSession(one.url) as first,
        aiohttp.ClientSession(two.url) as second,
        aiohttp.ClientSession(three.url) as third,
        aiohttp.ClientSession(four.url) as fourth,
    ):
        for item in ITEMS:
            await add(first, item)
        for number, item in enumerate(ITEMS * 3):
            token = await sell((first, second)[number % 2], item, 1)
            wanted = 99 - number // len(ITEMS)
            assert await left((third, fourth)[number // 2 % 2], f"/items/{item}", token) == wanted


async def test_another_service_hears_of_all_shards(given: dict[str, Any]) -> None:
    """A service that follows the bus waits for tokens of any shard, and knows who the owner is."""
    listener = Service("listener", projections=[Stocks])
    bus = {name: given[name] for name in ("data", "bus", "consistency_timeout_s")}
    async with (
        Runtime(make_service(), given) as shop,
        Runtime(listener, bus) as other,
        aiohttp.ClientSession(shop.url) as http,
        aiohttp.ClientSession(other.url) as heard,
    ):
        for item in ITEMS:
            assert await left(heard, f"/stock/{item}", await add(http, item)) == 100
        for item in ITEMS:
            assert await left(heard, f"/stock/{item}", await sell(http, item, 7)) == 93
        async with heard.get(f"/stock/{ITEMS[0]}") as answer:
            assert (await answer.json())["service"] == "shop"


async def test_a_wrong_list_of_databases_is_refused(given: dict[str, Any]) -> None:
    """Another order, a missing or a foreign database: the service does not start, and says why."""
    one, two = given["store"]
    async with Runtime(make_service(), given) as shop, aiohttp.ClientSession(shop.url) as http:
        for item in ITEMS:
            await add(http, item)
    with pytest.raises(ShardMismatch, match=r"it is shard 1 of 2, expected shard 0 of 2: .*order"):
        await Runtime(make_service(), {**given, "store": [two, one]}).start()
    with pytest.raises(ShardMismatch, match=r"it is shard 0 of 2, expected a store by itself"):
        await Runtime(make_service(), {**given, "store": one}).start()
    with pytest.raises(ShardMismatch, match=r"it is a new database, expected shard 1 of 2.*URL"):
        await Runtime(
            make_service(), {**given, "store": [one, "sqlite:{data}/mistyped.db"]}
        ).start()
    with pytest.raises(ConfigurationError, match="named twice"):
        await Runtime(make_service(), {**given, "store": [one, one]}).start()
    with pytest.raises(ConfigurationError, match="names no database"):
        await Runtime(make_service(), {**given, "store": []}).start()
    async with Runtime(make_service(), given) as shop, aiohttp.ClientSession(shop.url) as http:
        assert await left(http, "/items/i3", await sell(http, "i3", 1)) == 99


async def test_passwords_are_not_told(tmp_path: Path) -> None:
    """A refusal names the database without its user and password."""
    secret = "postgresql://someone:s3cret@127.0.0.1:1/db?schema=x"
    given = {"data": str(tmp_path), "store": [secret, secret]}
    with pytest.raises(ConfigurationError) as refused:
        await Runtime(make_service(), given).start()
    assert "127.0.0.1" in str(refused.value)
    assert "s3cret" not in str(refused.value)


async def test_a_used_store_is_not_spread(tmp_path: Path) -> None:
    """A service that has been running on one database cannot be given a second one."""
    given = {"data": str(tmp_path)}
    async with Runtime(make_service(), given) as shop, aiohttp.ClientSession(shop.url) as http:
        await add(http, "i0")
    spread = {**given, "store": ["sqlite:{data}/shop/events.db", "sqlite:{data}/second.db"]}
    with pytest.raises(ShardMismatch, match=r"it is a store by itself.*begin with new databases"):
        await Runtime(make_service(), spread).start()
    async with Runtime(make_service(), given) as shop, aiohttp.ClientSession(shop.url) as http:
        assert await left(http, "/items/i0", await sell(http, "i0", 1)) == 99


async def test_one_database_away(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """While one of the databases is away its items are 503, and all others are served as ever."""
    given = {
        "data": str(tmp_path),
        "store": ["sqlite:{data}/left.db", own_postgres.url(schema="second")],
        "consistency_timeout_s": WAIT_S_MAX,
    }
    by_shard = [[i for i in ITEMS if shard_of(f"Item/{i}", 2) == shard][:3] for shard in (0, 1)]
    async with Runtime(make_service(), given) as shop, aiohttp.ClientSession(shop.url) as http:
        for item in (*by_shard[0], *by_shard[1]):
            assert await left(http, f"/items/{item}", await add(http, item)) == 100
        await asyncio.to_thread(own_postgres.kill)
        for sold in range(1, 4):
            for item in by_shard[0]:
                token = await sell(http, item, 1)
                assert await left(http, f"/items/{item}", token) == 100 - sold
        for item in by_shard[1]:
            async with http.post(f"/items/{item}/sales", json={"count": 1}) as answer:
                assert answer.status == 503, await answer.text()
            assert await left(http, f"/items/{item}") == 100
        async with http.get("/health/ready") as answer:
            assert answer.status == 503
            assert "schema=second" in await answer.text()
        own_postgres.start()
        async with asyncio.timeout(WAIT_S_MAX):
            for item in by_shard[1]:
                body: dict[str, Any] = {"json": {"count": 1}, "headers": {IDEMPOTENCY_KEY: item}}
                token = ""
                while not token:
                    async with http.post(f"/items/{item}/sales", **body) as answer:
                        assert answer.status in {200, 503}, await answer.text()
                        token = answer.headers.get(CONSISTENCY_TOKEN, "")
                # The sale that was answered with 503 had no key: it may have come through.
                assert await left(http, f"/items/{item}", token) in {98, 99}


# boundaries ---------------------------------------------------------------------------------


class Reserve(Command):
    """Reserve a name."""

    name: str


class Rename(Command):
    """Rename a user."""

    user_id: str
    name: str


class Reserved(Event):
    """A name was reserved."""

    name: Annotated[str, Tag("name")]


class Name(DecisionModel):
    """Who has a name."""

    name: Annotated[str, Tag("name")] = ""
    taken: bool = False

    @command_handler
    def reserve(self, command: Reserve) -> Reserved:
        return Reserved(command.name)

    @event_sourcing_handler
    def reserved(self, event: Reserved) -> None:
        self.taken = True


class User(Aggregate):
    """Decides by a name, too."""

    @command_handler(creates="if_missing")
    def rename(self, command: Rename, name: Name) -> Reserved:
        return Reserved(command.name)


@pytest.mark.parametrize("role", ["all", "command", "query"])
@pytest.mark.parametrize(
    ("service", "named"),
    [
        (Service("users", aggregates=[User]), r"aggregate 'User': decides by Name"),
        (Service("names", decisions=[Name]), r"decision model 'Name'"),
    ],
)
async def test_boundaries_over_streams_are_refused(
    service: Service, named: str, role: str, tmp_path: Path
) -> None:
    """A service that decides over many streams does not start on shards; nothing is made."""
    given = {
        "data": str(tmp_path),
        "role": role,
        "store": ["sqlite:{data}/left.db", "sqlite:{data}/right.db"],
    }
    with pytest.raises(ConfigurationError, match=named):
        await Runtime(service, given).start()
    assert not (tmp_path / "left.db").exists()
    async with Runtime(service, {"data": str(tmp_path), "role": role}):
        pass


# settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "urls"),
    [
        ("sqlite:a.db", ["sqlite:a.db"]),
        (["sqlite:a.db"], ["sqlite:a.db"]),
        ("sqlite:a.db, sqlite:{data}/b.db", ["sqlite:a.db", "sqlite:d/b.db"]),
        (["sqlite:a,1.db", "memory:"], ["sqlite:a,1.db", "memory:"]),
        (
            "postgresql://h1,h2/db?schema=x,postgres://h/{service}",
            ["postgresql://h1,h2/db?schema=x", "postgres://h/shop?schema=shop"],
        ),
    ],
)
def test_urls_as_a_list_or_as_text(store: Any, urls: list[str]) -> None:
    """A list may be written as one text, with commas between URLs; each is completed."""
    settings = service_settings({"service": "shop", "data": "d", "store": store}, origin="a test")
    assert list(settings.stores) == urls
