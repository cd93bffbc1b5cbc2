"""Instances come, go, die and differ, under continuous requests."""

import asyncio
import collections
import contextlib
import itertools
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import trustme

from headwater.discovery import RouteInfo
from headwater.gateway import Gateway
from headwater.gateway.wire import ENDPOINTS

from .conftest import ROUTES, routed, until


class Load:
    """Clients that ask without pause, and what they were answered."""

    def __init__(self, url: str) -> None:
        self.answers: collections.Counter[str] = collections.Counter()
        self.errors: list[str] = []
        self._url = url
        self._numbers = itertools.count()

    async def reads(self, session: aiohttp.ClientSession) -> None:
        await self._ask(session, "GET", "/accounts/{}", {})

    async def writes(self, session: aiohttp.ClientSession) -> None:
        await self._ask(session, "POST", "/accounts/{}/deposits", {"Idempotency-Key": "k{}"})

    async def _ask(self, session, method, path, headers) -> None:
        while True:
            number = next(self._numbers)
            sent = {name: value.format(number) for name, value in headers.items()}
            try:
                url = self._url + path.format(number)
                async with session.request(method, url, headers=sent) as answer:
                    body = await answer.text()
                    if answer.status == 200:
                        self.answers[method + " " + msgspec.json.decode(body)["name"]] += 1
                    else:
                        self.errors.append(f"{method} {answer.status} {body}")
            except aiohttp.ClientError as error:
                self.errors.append(f"{method} {error!r}")

    async def more(self, wanted: int = 200) -> None:
        """Wait until so many further answers, or an error, have come."""
        goal = self.answers.total() + wanted
        await until(lambda: self.answers.total() >= goal or bool(self.errors), within_s=20)


@contextlib.asynccontextmanager
async def under_load(url: str, *, clients: int = 4) -> AsyncIterator[Load]:
    """Run reading and writing clients around a block."""
    load = Load(url)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        kinds = (load.reads, load.writes)
        tasks = [asyncio.create_task(k(session)) for k in kinds for _ in range(clients)]
        try:
            yield load
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_killed_instance_is_invisible(gateway, registry, upstream, http):
    """SIGKILL of an instance costs no read and no keyed write, before discovery notices.

    Nor does it cost a plain write that starts later: it was never sent to the dead instance.
    """
    one, two = await upstream("one"), await upstream("two")
    await registry.put(one.instance(), two.instance())
    await routed(gateway, accounts=2)
    async with under_load(gateway.url) as load:
        await load.more()
        await one.kill()
        await load.more(600)
        for number in range(30):
            async with http.post(f"{gateway.url}/accounts/plain-{number}/deposits") as answer:
                assert (await answer.json())["name"] == "two"
        await registry.put(two.instance())
        await routed(gateway, accounts=1)
        await load.more()
    assert load.errors == []
    assert all(load.answers[f"{m} {n}"] > 0 for m in ("GET", "POST") for n in ("one", "two"))


async def test_rolling_restart_is_invisible(gateway, registry, upstream):
    """Instances may be added and drained one after the other without any failed request."""
    names = [f"n{number}" for number in range(4)]
    running = [await upstream(names[0])]
    await registry.put(running[0].instance())
    await routed(gateway, accounts=1)
    async with under_load(gateway.url) as load:
        for name in names[1:]:
            before = running[-1]
            running.append(await upstream(name))
            await registry.put(before.instance(), running[-1].instance())
            await routed(gateway, accounts=2)
            await registry.put(before.instance(status="DRAINING"), running[-1].instance())
            await routed(gateway, accounts=1)
            await load.more(100)
            before.process.terminate()
            await before.process.wait()
            await load.more(100)
    assert load.errors == []
    assert all(load.answers[f"GET {name}"] > 0 for name in names)


async def test_instance_out_of_service_gets_nothing(gateway, registry, upstream, http):
    """Only UP instances receive requests; a stream that runs on a draining one goes on."""
    one, two = await upstream("one"), await upstream("two")
    await registry.put(one.instance())
    await routed(gateway, accounts=1)
    async with http.ws_connect(f"{gateway.url}/socket") as socket:
        await socket.send_str("a")
        assert await socket.receive_str(timeout=30) == "one:a"
        for status in ("DRAINING", "OUT_OF_SERVICE", "DOWN", "STARTING"):
            await registry.put(one.instance(status=status), two.instance())
            await until(
                lambda: (
                    gateway.status().instances == {"accounts": 1} and not gateway.status().rejected
                )
            )
            await _only(http, gateway, "two")
        await socket.send_str("b")
        assert await socket.receive_str(timeout=30) == "one:b"


async def _only(http, gateway, name):
    async def answered() -> bool:
        names = set()
        for number in range(8):
            async with http.get(f"{gateway.url}/accounts/{number}") as answer:
                names.add((await answer.json())["name"])
        return names == {name}

    await until(answered)


async def test_sides_are_kept_apart(gateway, registry, upstream, http):
    """Commands go to instances of the command side, queries to those of the query side."""
    writer, reader = await upstream("writer"), await upstream("reader")
    await registry.put(writer.instance(role="command"), reader.instance(role="query"))
    await routed(gateway, accounts=2)
    for number in range(10):
        async with http.post(f"{gateway.url}/accounts/{number}/deposits") as answer:
            assert (await answer.json())["name"] == "writer"
        async with http.get(f"{gateway.url}/accounts/{number}") as answer:
            assert (await answer.json())["name"] == "reader"


async def test_commands_of_one_target_meet_one_instance(gateway, registry, upstream, http):
    """All commands of one aggregate go to one instance, whatever the route; many spread."""
    started = [await upstream(name) for name in ("one", "two", "three")]
    await registry.put(*(one.instance() for one in started))
    await routed(gateway, accounts=3)
    found: dict[str, set[str]] = collections.defaultdict(set)
    for number in range(30):
        for action in ("deposits", "withdrawals", "deposits?x=1"):
            async with http.post(f"{gateway.url}/accounts/acc-{number}/{action}") as answer:
                found[f"acc-{number}"].add((await answer.json())["name"])
    assert {len(names) for names in found.values()} == {1}
    assert set.union(*found.values()) == {"one", "two", "three"}


async def test_new_route_meets_new_instances_only(gateway, registry, upstream, http):
    """In a rolling upgrade a new route goes only to the instances that declared it."""
    old, new = await upstream("old"), await upstream("new")
    routes = (*ROUTES, RouteInfo("GET", "/accounts/{account_id}/cards", "query"))
    await registry.put(old.instance(), new.instance(routes=routes))
    await routed(gateway, accounts=2)
    for number in range(10):
        async with http.get(f"{gateway.url}/accounts/{number}/cards") as answer:
            assert (await answer.json())["name"] == "new"


async def test_reads_prefer_the_own_zone(settings, registry, upstream, http):
    """Reads stay in the gateway's zone while an instance lives there, and leave it without loss."""
    near, far = await upstream("near"), await upstream("far")
    await registry.put(near.instance(zone="a"), far.instance(zone="b"))
    async with Gateway(msgspec.structs.replace(settings, zone="a"), registry) as gateway:
        names = [await _name(http, gateway, number) for number in range(20)]
        assert set(names) == {"near"}
        await near.kill()
        names = [await _name(http, gateway, number) for number in range(20)]
        assert set(names) == {"far"}


async def _name(http, gateway, number):
    async with http.get(f"{gateway.url}/accounts/{number}") as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["name"]


async def test_weight_shares_traffic(gateway, registry, upstream, http):
    """An instance of a higher weight gets more of the requests."""
    light, heavy = await upstream("light"), await upstream("heavy")
    await registry.put(light.instance(weight=1), heavy.instance(weight=9))
    await routed(gateway, accounts=2)
    names = collections.Counter([await _name(http, gateway, n) for n in range(100)])
    assert names["heavy"] > 2 * names["light"] > 0


async def test_host_name_is_resolved(gateway, registry, upstream, http):
    """An instance may register a host name; an unknown one does not harm its neighbours."""
    one = await upstream("one")
    named = msgspec.structs.replace(one.instance(), host="localhost")
    lost = msgspec.structs.replace(one.instance(), id="lost", host="nowhere.invalid", port=9)
    await registry.put(named, lost)
    await routed(gateway, accounts=2)
    await _only(http, gateway, "one")


async def test_rival_service_is_reported(gateway, registry, upstream, http):
    """Two services that declare one route: the first registered serves, the other is reported."""
    one, two = await upstream("one"), await upstream("two")
    rival = RouteInfo("GET", "/accounts/{id}", "query")
    await registry.put(
        one.instance(started=5), two.instance(service="rival", routes=(rival,), started=9)
    )
    await routed(gateway, accounts=1)
    await until(lambda: bool(gateway.status().problems))
    (problem,) = gateway.status().problems
    assert (problem.service, problem.method, problem.path) == ("rival", "GET", "/accounts/{id}")
    assert "'accounts' registered the same method and path first" in problem.reason
    assert await _name(http, gateway, 1) == "one"


async def test_only_what_changes_is_told(gateway, registry, upstream):
    """Envoy is told what has changed; a change of metadata is none."""
    one, two = await upstream("one"), await upstream("two")
    await registry.put(one.instance())
    await routed(gateway, accounts=1)
    told = gateway._control.wanted
    before = {name: told[ENDPOINTS][name] for name in told[ENDPOINTS]}
    updates = gateway.status().updates
    await registry.put(one.instance(metadata={"a": "b"}))
    await until(lambda: gateway._services["accounts"][0].metadata == {"a": "b"})
    other = (RouteInfo("GET", "/other", "query"),)
    await registry.put(one.instance(metadata={"a": "b"}), two.instance(service="o", routes=other))
    await routed(gateway, o=1)
    assert all(told[ENDPOINTS][name] is found for name, found in before.items())
    assert gateway.status().updates == updates + 1


async def test_https_instance_is_verified(settings, registry, upstream, http, tmp_path):
    """An instance of scheme https is reached over TLS, and only if its certificate is trusted."""
    authority, stranger = trustme.CA(), trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    secure = msgspec.structs.replace(settings, ca_file=str(ca_file))
    answers = []
    for number, ca in enumerate((authority, stranger)):
        pem = tmp_path / f"{number}.pem"
        ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
        one = await upstream(f"one-{number}", str(pem))
        instance = msgspec.structs.replace(one.instance(), host="localhost", scheme="https")
        await registry.put(instance)
        own = msgspec.structs.replace(secure, data=settings.data / str(number))
        async with Gateway(own, registry) as gateway, http.get(f"{gateway.url}/accounts/7") as told:
            answers.append(told.status)
    assert answers == [200, 503]
