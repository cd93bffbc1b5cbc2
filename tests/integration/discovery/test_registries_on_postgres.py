"""Several registry processes on one database: killed, stopped, cut off from it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headwater.discovery import Instance, postgres
from headwater.discovery.client import DiscoveryClient
from headwater.discovery.postgres import PostgresRegistryStore
from headwater.discovery.server import DiscoveryServer
from headwater.errors import SchemaTooNew, StoreUnavailable
from tests.integration.discovery.conftest import RegistryProcess, until
from tests.postgres_server import PostgresServer, execute

Start = Callable[[str], Awaitable[RegistryProcess]]

LEASE_S = 3.0
LONG_S = 3600.0


def body(id: str, lease_s: float = LEASE_S) -> dict[str, Any]:
    port = 8001 + sum(map(ord, id))
    return {"service": "shop", "id": id, "host": "127.0.0.1", "port": port, "lease_s": lease_s}


class Instances:
    """Registers and renews by hand, at the registry that the test chooses."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def __call__(self, method: str, url: str, path: str, json: Any = None) -> Any:
        async with self._http.request(method, f"{url}/v1/instances{path}", json=json) as answer:
            assert answer.status < 400, await answer.text()
            return await answer.json(content_type=None) if answer.status != 204 else None

    async def register(self, url: str, id: str, lease_s: float = LEASE_S) -> None:
        await self("POST", url, "", body(id, lease_s))

    @asynccontextmanager
    async def renewing(self, url: str, id: str) -> AsyncIterator[None]:
        """Renew an instance at one registry, as its process does, until the end of the block."""

        async def renew() -> None:
            while True:
                await self("PUT", url, f"/{id}/lease")
                await asyncio.sleep(LEASE_S / 4)

        task = asyncio.create_task(renew())
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Seen:
    """All states of the shop's instances that a client of one registry has seen."""

    def __init__(self, client: DiscoveryClient) -> None:
        self._client = client
        self.states: list[dict[str, str]] = []

    async def follow(self) -> None:
        async for services in self._client.changes():
            self.states.append({i.id: i.status for i in services.get("shop", ())})

    @property
    def now(self) -> dict[str, str]:
        return self.states[-1] if self.states else {}

    def of(self, id: str) -> list[str]:
        """Return how an instance went on, without repetitions; "-" is absent."""
        states = [state.get(id, "-") for state in self.states]
        return [s for n, s in enumerate(states) if n == 0 or s != states[n - 1]]


@pytest.fixture
def instances(http: aiohttp.ClientSession) -> Instances:
    return Instances(http)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start registries on a database; all end with the test."""
    async with AsyncExitStack() as stack:

        async def started(database: str) -> RegistryProcess:
            process = RegistryProcess(database)
            stack.push_async_callback(process.close)
            await process.start()
            return process

        yield started


@asynccontextmanager
async def watching(*registries: RegistryProcess) -> AsyncIterator[list[Seen]]:
    """Follow registries, each with a client of its own."""
    async with AsyncExitStack() as stack:
        views = []
        for registry in registries:
            client = await stack.enter_async_context(DiscoveryClient(registry.url))
            view = Seen(client)
            task = asyncio.create_task(view.follow())
            stack.callback(task.cancel)
            views.append(view)
        yield views


async def error_of(http: aiohttp.ClientSession, registry: RegistryProcess) -> str:
    """Return what a registry says about its store."""
    async with http.get(f"{registry.url}/health/ready") as answer:
        assert answer.status == 200
        error: str = (await answer.json())["store"]["error"]
        return error


async def shared(http: aiohttp.ClientSession, *registries: RegistryProcess) -> None:
    """Return when registries have their database."""

    async def have_it() -> bool:
        return not any([await error_of(http, registry) for registry in registries])

    await eventually(have_it)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when a condition holds; fail when it does not in time."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - what others say sends no event
            await asyncio.sleep(0.02)


async def test_one_list(start: Start, postgres_url: str, instances: Instances) -> None:
    """What is registered, changed, overridden or removed at one registry is seen at the others."""
    one, two, three = [await start(postgres_url) for _ in range(3)]
    async with watching(one, two, three) as views:
        await instances.register(one.url, "a", LONG_S)
        await until(lambda: all(v.now == {"a": "UP"} for v in views))
        await instances("PUT", two.url, "/a/status", {"status": "OUT_OF_SERVICE"})
        await until(lambda: all(v.now == {"a": "OUT_OF_SERVICE"} for v in views))
        await instances("PUT", three.url, "/a", body("a", LONG_S) | {"version": "2"})
        await instances("DELETE", one.url, "/a/status")
        await until(lambda: all(v.now == {"a": "UP"} for v in views))
        assert (await instances("GET", two.url, "/a"))["version"] == "2"
        await instances("DELETE", two.url, "/a")
        await until(lambda: all(v.now == {} for v in views))


async def test_renewed_anywhere_it_never_expires(
    start: Start, postgres_url: str, instances: Instances
) -> None:
    """An instance that renews at another registry than it registered with stays UP for all.

    When it falls silent, it is DOWN once and removed once.
    """
    one, two = [await start(postgres_url) for _ in range(2)]
    async with watching(one, two) as views:
        await instances.register(one.url, "witness", LEASE_S)  # silent: shows that time passes
        await instances.register(one.url, "a")
        await until(lambda: all("a" in v.now for v in views))
        async with instances.renewing(two.url, "a"):
            await until(lambda: all(v.now == {"a": "UP"} for v in views))
        await until(lambda: all(v.now == {} for v in views))
        for view in views:
            assert [s for s in view.of("a") if s != "-"] == ["UP", "DOWN"]
            assert view.of("a")[-1] == "-"


async def test_a_killed_registry(start: Start, postgres_url: str, instances: Instances) -> None:
    """What it held is taken over: who renews elsewhere stays UP, the dead are removed once."""
    one, two, three = [await start(postgres_url) for _ in range(3)]
    async with watching(two, three) as views:
        for id in ("living", "dead"):
            await instances.register(one.url, id)
        await until(lambda: all(len(v.now) == 2 for v in views))
        await one.kill()
        async with instances.renewing(two.url, "living"):
            await until(lambda: all(v.now == {"living": "UP"} for v in views))
            for view in views:
                assert [s for s in view.of("living") if s != "-"] == ["UP"]
                assert [s for s in view.of("dead") if s != "-"] == ["UP", "DOWN"]


async def test_restart_of_all(start: Start, postgres_url: str, instances: Instances) -> None:
    """Registries that are killed and come back know everything at once, operators' words too."""
    one, two = [await start(postgres_url) for _ in range(2)]
    async with watching(one, two) as views:
        await instances.register(one.url, "a", LONG_S)
        await until(lambda: all("a" in v.now for v in views))
        await instances("PUT", two.url, "/a/status", {"status": "OUT_OF_SERVICE"})
        await instances.register(two.url, "b", LONG_S)
        await until(lambda: all(v.now == {"a": "OUT_OF_SERVICE", "b": "UP"} for v in views))
    await one.kill()
    await two.kill()
    await one.start()
    assert (await instances("GET", one.url, "/a"))["status"] == "OUT_OF_SERVICE"
    assert (await instances("GET", one.url, "/b"))["status"] == "UP"
    await instances.register(one.url, "a", LONG_S)
    assert (await instances("GET", one.url, "/a"))["status"] == "OUT_OF_SERVICE"


async def test_the_database_stops_and_comes_back(
    start: Start,
    own_postgres: PostgresServer,
    instances: Instances,
    http: aiohttp.ClientSession,
) -> None:
    """Without it registries go on, and say so; with it they agree again, and nothing is lost."""
    one, two = [await start(own_postgres.url()) for _ in range(2)]
    async with watching(one, two) as views:
        await instances.register(one.url, "a")
        await instances.register(one.url, "gone", LONG_S)
        await until(lambda: all(len(v.now) == 2 for v in views))
        async with instances.renewing(one.url, "a"):
            await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
            await instances.register(two.url, "witness")
            await instances.register(two.url, "b", LONG_S)
            await instances("PUT", two.url, "/b/status", {"status": "DRAINING"})
            await instances("DELETE", one.url, "/gone")
            await until(lambda: views[1].of("witness")[-2:] == ["DOWN", "-"])
            assert "cannot be reached" in await error_of(http, one)
            assert "cannot be reached" in await error_of(http, two)
            assert views[0].now == {"a": "UP"}
            assert views[1].now == {"a": "UP", "b": "DRAINING", "gone": "UP"}
            await asyncio.to_thread(own_postgres.start)
            await until(lambda: all(v.now == {"a": "UP", "b": "DRAINING"} for v in views))
            await shared(http, one, two)
        await until(lambda: all(v.now == {"b": "DRAINING"} for v in views))
        for view in views:
            assert [s for s in view.of("a") if s != "-"] == ["UP", "DOWN"]


async def test_a_registry_starts_without_its_database(
    start: Start,
    own_postgres: PostgresServer,
    instances: Instances,
    http: aiohttp.ClientSession,
) -> None:
    """It lists what registers, and shares it once the database is there; overrides stay."""
    one = await start(own_postgres.url())
    await instances.register(one.url, "a", LONG_S)
    await instances("PUT", one.url, "/a/status", {"status": "OUT_OF_SERVICE"})
    await shared(http, one)
    await asyncio.to_thread(own_postgres.stop)
    two = await start(own_postgres.url())
    assert "cannot be reached" in await error_of(http, two)
    for id in ("a", "b"):
        await instances.register(two.url, id, LONG_S)
    async with watching(one, two) as views:
        assert views
        await asyncio.to_thread(own_postgres.start)
        expected = {"a": "OUT_OF_SERVICE", "b": "UP"}
        await until(lambda: all(v.now == expected for v in views))


async def test_a_database_that_does_not_answer(
    start: Start,
    own_postgres: PostgresServer,
    instances: Instances,
    http: aiohttp.ClientSession,
) -> None:
    """While the database hangs requests are answered, and what they say is stored later."""
    one, two = [await start(own_postgres.url()) for _ in range(2)]
    await shared(http, one, two)
    with frozen(own_postgres):
        for n in range(3):
            async with asyncio.timeout(30):
                await instances.register(one.url, f"a{n}", LONG_S)

        async def said() -> bool:
            return "did not answer" in await error_of(http, one)

        await eventually(said)
    async with watching(two) as (view,):
        await until(lambda: view.now == dict.fromkeys(("a0", "a1", "a2"), "UP"))


@contextlib.contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Stop all processes of a server, without ending them."""
    main = int((server.directory / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    pids = [main, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def test_a_database_that_lost_everything(
    start: Start, postgres_url: str, instances: Instances
) -> None:
    """A schema that was made anew is told everything again; nobody is missed meanwhile."""
    one, two = [await start(postgres_url) for _ in range(2)]
    schema = postgres_url.rpartition("=")[2]
    async with watching(one, two) as views:
        await instances.register(one.url, "a", LONG_S)
        await until(lambda: all(v.now == {"a": "UP"} for v in views))
        await asyncio.to_thread(
            execute,
            postgres_url,
            f"WITH gone AS (DELETE FROM {schema}.registry_instances) "
            f"UPDATE {schema}.registry_state SET revision = 0, store = gen_random_uuid()",
        )
        count = f"SELECT count(*) FROM {schema}.registry_instances"

        async def told_again() -> bool:
            return bool(await asyncio.to_thread(execute, postgres_url, count))

        await eventually(told_again)
        await instances.register(two.url, "b", LONG_S)
        await until(lambda: all(v.now == {"a": "UP", "b": "UP"} for v in views))
        assert all(view.of("a")[-1] == "UP" and "DOWN" not in view.of("a") for view in views)


async def test_renewals_write_nothing(
    postgres_url: str, instances: Instances, start: Start
) -> None:
    """However often instances renew, at whichever registry, their rows stay as they are."""
    one, two = [await start(postgres_url) for _ in range(2)]
    await instances.register(one.url, "a", LONG_S)
    async with watching(two) as (view,):
        await until(lambda: view.now == {"a": "UP"})
    schema = postgres_url.rpartition("=")[2]
    versions = f"SELECT xmin::text || ctid::text FROM {schema}.registry_instances"
    before = await asyncio.to_thread(execute, postgres_url, versions)
    for url in (one.url, two.url) * 20:
        await instances("PUT", url, "/a/lease")
        await instances.register(url, "a", LONG_S)
    assert await asyncio.to_thread(execute, postgres_url, versions) == before


async def test_clear_errors_at_the_start(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong user, database or right, or a newer schema, ends the start with its reason."""
    monkeypatch.setattr(postgres, "_WAIT_S", 60.0)  # one that is slow counts as away
    await asyncio.to_thread(execute, own_postgres.url(), "CREATE ROLE guest LOGIN")
    url = own_postgres.url()
    for wrong, reason in (
        (url.replace("postgres@", "nobody@"), "refuses the user"),
        (own_postgres.url(database="missing"), "there is no such database"),
        (url.replace("postgres@", "guest@"), "the user lacks a right"),
    ):
        with pytest.raises(StoreUnavailable, match=reason):
            await PostgresRegistryStore.open(wrong)
    await (await PostgresRegistryStore.open(url)).close()
    raised = "UPDATE headwater_discovery.headwater_schema SET version = 99"
    await asyncio.to_thread(execute, url, raised)
    with pytest.raises(SchemaTooNew, match="has schema 99"):
        await PostgresRegistryStore.open(url)


async def test_stopping_stores_what_waits(postgres_url: str) -> None:
    """What a registry decided last is stored when it stops; what it held stays known."""
    store = await PostgresRegistryStore.open(postgres_url)
    async with DiscoveryServer(store=store) as server:
        server.registry.register(Instance(**body("a")))
    async with DiscoveryServer(store=await PostgresRegistryStore.open(postgres_url)) as server:
        assert [i.id for i in server.registry.live("shop")] == ["a"]
