"""Idempotency keys as a client sees them: over HTTP, on every event store."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import asyncpg
import pytest

from headwater.client import HttpCaller
from headwater.discovery import Instance, StaticDiscovery
from headwater.dispatch import CommandMessage, CommandNext, CommandResult, intercepts
from headwater.dispatch.remote import RemoteCommandBus
from headwater.errors import AggregateNotFound, MalformedMessage, Rejection
from headwater.messages.headers import (
    IDEMPOTENCY_KEY,
    IF_MATCH,
    KEEP_REFUSAL,
    TIMEOUT_MS,
)
from headwater.service import Service
from headwater.service.runtime import Runtime
from tests.integration.service.shop import AddItem, Item, SellItem
from tests.integration.service.test_odd_requests import _ask, _item, _post
from tests.postgres_server import POSTGRES, execute

Answer = tuple[int, dict[str, Any]]


class Suppliers:
    """Another service that is asked before an item is added: away, willing, or not."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = True

    def interceptor(self) -> Any:
        @intercepts
        async def known(message: CommandMessage[AddItem], proceed: CommandNext) -> CommandResult:
            self.asked.append(message.command.item_id)
            if not self.away:
                raise UnknownSupplier
            return await proceed(message)

        return known


class UnknownSupplier(Rejection):
    """Nobody supplies it."""


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Settings of a shop on one event store."""
    common = {"data": str(tmp_path), "views": "memory:", "request_timeout_s": 60.0}
    if request.param == "memory":
        yield {**common, "store": "memory:"}
    elif request.param == "sqlite":
        yield {**common, "store": "sqlite:{data}/events.db"}
    else:
        server: str = request.getfixturevalue("postgres_server")
        schema = f"t_{uuid.uuid4().hex}"
        yield {**common, "store": f"{server}{'&' if '?' in server else '?'}schema={schema}"}
        execute(server, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture
def suppliers() -> Suppliers:
    return Suppliers()


def shop(suppliers: Suppliers) -> Service:
    return Service("shop", aggregates=[Item], interceptors=[suppliers.interceptor()])


@pytest.fixture
async def runtime(given: dict[str, Any], suppliers: Suppliers) -> AsyncIterator[Runtime]:
    async with Runtime(shop(suppliers), given) as running:
        yield running


@pytest.fixture
async def http(runtime: Runtime) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(runtime.url, connector=connector) as session:
        yield session


async def head(runtime: Runtime) -> int:
    assert runtime.store is not None
    return await runtime.store.shards[0].head()


async def post(http: aiohttp.ClientSession, path: str, content: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    async with http.post(path, json=content, headers=named) as answer:
        return answer.status, await answer.json(content_type=None)


async def add(http: aiohttp.ClientSession, item: str, stock: int = 1, **headers: str) -> Answer:
    content = {"item_id": item, "title": "Bach", "stock": stock}
    return await post(http, "/items", content, **headers)


async def sell(http: aiohttp.ClientSession, item: str, count: int = 1, **headers: str) -> Answer:
    return await post(http, f"/items/{item}/sales", {"count": count}, **headers)


def check_pair(one: Answer, other: Answer) -> None:
    """Check that both were told the same, and one of them that it is the same."""
    assert (one[0], other[0]) == (200, 200), (one, other)
    assert {one[1].pop("duplicate"), other[1].pop("duplicate")} == {True, False}
    assert one == other


async def test_pairs_at_once(http: aiohttp.ClientSession, runtime: Runtime) -> None:
    """Of two requests at once under one key both get 200 and the same outcome: 200 pairs."""
    makes = [
        lambda n: add(http, f"new{n}", idempotency_key=f"add{n}"),
        lambda n: sell(http, f"i{n}", idempotency_key=f"sell{n}"),
        lambda n: sell(http, f"m{n}", idempotency_key=f"match{n}", if_match='"1"'),
        lambda n: sell(http, "many", idempotency_key=f"many{n}"),
    ]
    await add(http, "many", stock=50)
    await asyncio.gather(*(add(http, f"{kind}{n}") for kind in "im" for n in range(50)))
    before = await head(runtime)
    for make in makes:
        answers = await asyncio.gather(*(make(n // 2) for n in range(100)))
        for n in range(50):
            check_pair(answers[2 * n], answers[2 * n + 1])
    assert await head(runtime) == before + 200
    again = await asyncio.gather(*(make(n) for n in range(50) for make in makes))
    assert [(status, body["duplicate"]) for status, body in again] == 200 * [(200, True)]


@pytest.mark.parametrize("seed", range(3))
async def test_repetitions_beside_plain_ones(http: aiohttp.ClientSession, seed: int) -> None:
    """Plain requests beside repetitions of an answered one are all carried out, each once."""
    chance = random.Random(seed)
    await add(http, "hot", stock=1000)
    keys = [f"k{n}" for n in range(30)]
    for key in keys:
        assert (await sell(http, "hot", idempotency_key=key))[0] == 200
    work: list[tuple[str, Any]] = [("plain", sell(http, "hot")) for _ in range(30)]
    work += [("again", sell(http, "hot", idempotency_key=keys[0])) for _ in range(30)]
    work += [("again", sell(http, "hot", idempotency_key=key)) for key in keys]
    work += [("exists", add(http, "hot", idempotency_key=f"add{n}")) for n in range(5)]
    work += [("stale", sell(http, "hot", if_match='"2"')) for n in range(5)]
    work += [("refused", sell(http, "hot", 5000, idempotency_key=f"much{n}")) for n in range(5)]
    chance.shuffle(work)
    answers = await asyncio.gather(*(each for _, each in work))
    told = {
        kind: [a for (k, _), a in zip(work, answers, strict=True) if k == kind] for kind, _ in work
    }
    assert {status for status, _ in told["plain"]} == {200}, told["plain"]
    assert sorted(body["version"] for _, body in told["plain"]) == list(range(32, 62))
    assert all(status == 200 and body["duplicate"] for status, body in told["again"])
    refused = ("exists", "stale", "refused")
    codes = {kind: {body["code"] for _, body in told[kind]} for kind in refused}
    assert codes == {
        "exists": {"aggregate-exists"},
        "stale": {"concurrency-conflict"},
        "refused": {"sold-out"},
    }


async def test_the_key_comes_before_what_may_answer_otherwise(
    http: aiohttp.ClientSession, suppliers: Suppliers
) -> None:
    """What was carried out while another service was away is not refused when that is back."""
    first = await add(http, "a", idempotency_key="k")
    suppliers.away = False
    again = await add(http, "a", idempotency_key="k")
    assert again == (200, {**first[1], "duplicate": True})
    assert suppliers.asked == ["a"]
    assert (await add(http, "b", idempotency_key="k2"))[1]["code"] == "unknown-supplier"
    other = await add(http, "b", idempotency_key="k")
    assert (other[0], other[1]["code"]) == (422, "idempotency-key-reused")
    suppliers.away = True
    assert (await add(http, "b", idempotency_key="k2"))[1]["duplicate"] is False


async def test_after_a_restart(given: dict[str, Any], suppliers: Suppliers) -> None:
    """The outcome is the first one, also told by another process that starts later."""
    if given["store"] == "memory:":
        return  # which ends with the process
    told: list[Answer] = []
    for _ in range(2):
        async with (
            Runtime(shop(suppliers), given) as running,
            aiohttp.ClientSession(running.url) as session,
        ):
            told.append(await add(session, "a", idempotency_key="k"))
            told.append(await sell(session, "a", idempotency_key="k2"))
        suppliers.away = False
    check_pair(told[0], told[2])
    check_pair(told[1], told[3])


@contextlib.asynccontextmanager
async def locked(store: str, data: str) -> AsyncIterator[None]:
    """Let somebody else hold the log locked."""
    if store.startswith("sqlite"):
        holder: Any = apsw.Connection(f"{data}/events.db")
        holder.set_busy_timeout(10_000)
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.close(True)
        return
    url, _, schema = store.partition("schema=")
    connection = await asyncpg.connect(url.rstrip("?&"))
    await connection.execute(
        "BEGIN; SELECT pg_advisory_xact_lock((1751474532::bigint << 32) "
        f"| '{schema}.events'::regclass::oid::bigint)"
    )
    yield
    await connection.close()


async def test_after_a_time_out(
    http: aiohttp.ClientSession,
    runtime: Runtime,
    suppliers: Suppliers,
    given: dict[str, Any],
) -> None:
    """Who gave up waiting and sends again learns what became of it, and nothing is asked anew."""
    if given["store"] == "memory:":
        return  # which answers at once
    await add(http, "a", stock=1)
    async with locked(given["store"], given["data"]):
        late = await asyncio.gather(
            add(http, "b", idempotency_key="kb", **{TIMEOUT_MS: "200"}),
            sell(http, "a", idempotency_key="ka", **{TIMEOUT_MS: "200"}),
        )
        assert [status for status, _ in late] == [504, 504]
        suppliers.away = False
        again = [
            asyncio.create_task(add(http, "b", idempotency_key="kb")),
            asyncio.create_task(sell(http, "a", idempotency_key="ka")),
        ]
        async with asyncio.timeout(30):
            while runtime.edge._endpoints.in_progress < 2:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
    for status, body in await asyncio.gather(*again):
        assert (status, body.get("duplicate")) == (200, True), body
    assert suppliers.asked == ["a", "b"]
    assert await head(runtime) == 3


async def test_a_kept_refusal(runtime: Runtime, given: dict[str, Any]) -> None:
    """A refusal that is kept holds for all sends under its key, also for plain clients."""
    port = int(runtime.url.rpartition(":")[2])
    instance = Instance("shop", "s1", "127.0.0.1", port, routes=runtime.edge.routes())
    discovery = StaticDiscovery({"shop": [instance]})
    caller = HttpCaller(discovery)
    away = RemoteCommandBus(caller, discovery)
    try:
        with pytest.raises(AggregateNotFound):
            await away.send(SellItem("a", 1), idempotency_key="k", keep_refusal=True)
        with pytest.raises(AggregateNotFound):
            await away.send(SellItem("a", 1), idempotency_key="another")
        await away.send(AddItem("a", "Bach", 9))
        for bus in (runtime.commands, away):
            with pytest.raises(AggregateNotFound):
                await bus.send(SellItem("a", 1), idempotency_key="k")
        await away.send(SellItem("a", 1), idempotency_key="another")
    finally:
        await caller.close()
    request = _post("/items/a/sales", b'{"count":1}', f"{KEY}: k2", f"{KEEP_REFUSAL}: maybe")
    answered, _, body = await _ask(runtime, request)
    assert (answered, b"neither true nor false" in body) == (400, True), body
    assert await head(runtime) == 2


KEY, MATCH = IDEMPOTENCY_KEY, IF_MATCH


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ([f"{KEY}: "], 400, "header idempotency-key is malformed: it is blank"),
        ([f"{KEY}:    "], 400, "header idempotency-key is malformed: it is blank"),
        ([f"{KEY}: \t"], 400, "it is blank"),
        ([f"{KEY}: \xa0"], 400, "it is blank"),
        ([f"{KEY}: k", f"{KEY}: k"], 400, "header idempotency-key is malformed: it is there more"),
        ([f"{KEY}: k", f"{KEY.upper()}: l"], 400, "more than once"),
        ([f"{KEY}: ", f"{KEY}: k"], 400, "more than once"),
        ([f"{KEY}: {'k' * 501}"], 400, "501 characters"),
        ([f"{KEY}: a\x7fb"], 400, "Invalid"),
        ([f"{MATCH}: 0", f"{MATCH}: 0"], 400, "header if-match is malformed: it is there more"),
        ([f"{MATCH}: *", f"{MATCH}: 0"], 400, "more than once"),
        ([f"{MATCH}: "], 400, "if-match"),
        ([f"{KEY}: {'k' * 500}"], 200, '"a"'),
        ([f"{KEY}:  a key, with: a comma  "], 200, '"a"'),
        ([f"{KEY}: voil\xc3\xa0"], 200, '"a"'),
        ([f"{KEY}: \xfc"], 200, '"a"'),
        ([f"{MATCH}: 0"], 200, '"a"'),
    ],
)
async def test_headers(
    runtime: Runtime, given: dict[str, Any], headers: list[str], status: int, words: str
) -> None:
    """A key is refused when it is none, or one of several; a good one works each time."""
    request = _post("/items", _item("a"), *headers)
    answered, _, body = await _ask(runtime, request)
    assert (answered, words in body.decode()) == (status, True), body
    assert await head(runtime) == (status == 200)
    if KEY in headers[0] and status == 200:
        answered, _, body = await _ask(runtime, request)
        assert (answered, b'"duplicate":true' in body) == (200, True), body


@pytest.mark.parametrize("key", [" ", "\t", "a\nb", "k" * 501])
async def test_keys_in_the_program(runtime: Runtime, key: str) -> None:
    """A program is told the same of a key that is none, wherever the handler is."""
    port = int(runtime.url.rpartition(":")[2])
    instance = Instance("shop", "s1", "127.0.0.1", port, routes=runtime.edge.routes())
    discovery = StaticDiscovery({"shop": [instance]})
    caller = HttpCaller(discovery)
    try:
        for bus in (runtime.commands, RemoteCommandBus(caller, discovery)):
            with pytest.raises(MalformedMessage, match="idempotency key"):
                await bus.send(AddItem("a", "Bach"), idempotency_key=key)
    finally:
        await caller.close()
    assert await head(runtime) == 0
