"""Upgrades and roll backs of a service under load, with real processes over HTTP."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headwater.discovery import DiscoveryClient, DiscoveryServer, Instance
from tests.postgres_server import POSTGRES

VERSIONS = Path(__file__).parent / "versions"
TALLIES = [f"t{number}" for number in range(5)]
TOKEN = "headwater-consistency-token"
WAIT_S_MAX = 60.0


class System:
    """A registry, instances as processes of their own, and callers who check what they get."""

    def __init__(self, registry: str, discovery: DiscoveryClient, given: list[str]) -> None:
        self.discovery = discovery
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.answers = {"old": 0, "new": 0}
        self._options = [*given, "--discovery", registry, "--port", "0"]
        self._counted = {tally: [0, 0, 0] for tally in TALLIES}  # total, times, notes
        self._random = random.Random(7)
        self._http = aiohttp.ClientSession()

    async def start(self, version: str, name: str) -> None:
        """Start an instance, and wait until it takes traffic."""
        await self.begin(version, name)
        await self.until(lambda: name in {i.id for i in self.up()})

    async def begin(self, version: str, name: str) -> None:
        """Start an instance."""
        self.processes[name] = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headwater.cli", "run", "tally:service"),
            *(*self._options, "--set", f"instance={name}"),
            cwd=VERSIONS / version,
            env={**os.environ, "NO_COLOR": "1"},
        )

    async def stop(self, name: str) -> None:
        """Stop an instance as an operator does."""
        process = self.processes.pop(name)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), WAIT_S_MAX) == 0

    async def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            await process.wait()
        await self._http.close()

    def up(self) -> list[Instance]:
        return [i for i in self.discovery.instances("tally") if i.status == "UP"]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait, with callers at work all the time."""
        async with asyncio.timeout(WAIT_S_MAX):
            while not condition():
                await self.work()

    async def work(self) -> None:
        """Write through one instance, and ask all of them what there is."""
        instances = self.up()
        if not instances:
            await asyncio.sleep(0.01)
            return
        tally = self._random.choice(TALLIES)
        counted = self._counted[tally]
        writer = self._random.choice(instances)
        if writer.version == "new" and counted[1] and self._random.random() < 0.3:
            token = await self._send(writer, f"/tallies/{tally}/notes", {"text": "x"})
            counted[2] += 1
        else:
            by = self._random.randrange(1, 9)
            token = await self._send(writer, f"/tallies/{tally}", {"by": by})
            counted[0] += by
            counted[1] += 1
        await asyncio.gather(*(self._check(i, tally, token) for i in instances))

    async def _check(self, instance: Instance, tally: str, token: str) -> None:
        total, times, notes = self._counted[tally]
        found = await self._get(instance, f"/tallies/{tally}", token)
        expected = {"id": tally, "total": total}
        if instance.version == "new":
            expected |= {"times": times, "notes": notes}
            often = await self._get(instance, f"/tallies?times={times}", token)
            assert expected in often, instance.id
        assert found == expected, instance.id
        self.answers[instance.version] += 1

    async def _send(self, instance: Instance, path: str, body: dict[str, Any]) -> str:
        async with self._http.post(_url(instance, path), json=body) as answer:
            assert answer.status == 200, (instance.id, await answer.text())
            return answer.headers[TOKEN]

    async def _get(self, instance: Instance, path: str, token: str) -> Any:
        async with self._http.get(_url(instance, path), headers={TOKEN: token}) as answer:
            assert answer.status == 200, (instance.id, await answer.text())
            return await answer.json()

    async def some(self, version: str, answers: int = 20) -> None:
        """Let callers work until so many more answers of a version were right."""
        wanted = self.answers[version] + answers
        await self.until(lambda: self.answers[version] >= wanted)


def _url(instance: Instance, path: str) -> str:
    return f"http://{instance.host}:{instance.port}{path}"


@pytest.fixture(params=["sqlite", POSTGRES])
async def system(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[System]:
    """A service whose instances share one store of events and one of views."""
    given = ["--set", f"data={tmp_path}", "--log-level", "warning"]
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        given += ["--set", f"store={url}", "--set", f"views={url}"]
    async with DiscoveryServer() as registry, DiscoveryClient([registry.url]) as discovery:
        made = System(registry.url, discovery, given)
        yield made
        await made.close()


async def test_a_rolling_upgrade_and_back(system: System) -> None:
    """Instances are replaced one by one, by the new version and by the old one again, under load.

    No request fails, and no answer lacks a field or is wrong, whichever version it is from.
    """
    await system.start("old", "old-1")
    await system.start("old", "old-2")
    await system.some("old")
    await system.start("new", "new-1")
    await system.some("new")
    await system.stop("old-1")
    await system.start("new", "new-2")
    await system.some("old")
    await system.stop("old-2")
    await system.some("new")
    await system.start("old", "old-3")
    await system.stop("new-1")
    await system.some("old")
    await system.stop("new-2")
    await system.some("old")


async def test_versions_that_start_at_the_same_time(system: System) -> None:
    """Whatever starts first, old and new instances serve all there is as they know it."""
    starting: list[Awaitable[None]] = [
        system.begin(name.partition("-")[0], name) for name in ("new-1", "old-1", "new-2", "old-2")
    ]
    await asyncio.gather(*starting)
    await system.until(lambda: len(system.up()) == 4)
    await system.some("old")
    await system.some("new")
    for name in ("old-1", "new-1", "new-2"):
        await system.stop(name)
        await system.some("old", 5)
