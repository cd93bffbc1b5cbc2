"""Instances whose views are being filled: live, but not ready."""

import asyncio
import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from headwater.processing.running.projector import applier_of
from headwater.processing.sources.store import StoreSource
from headwater.service.runtime import Runtime
from headwater.views import Segment
from headwater.views.sqlite import SQLiteViewStore
from tests.integration.processing.conftest import until

NEW = Path(__file__).parent / "versions" / "new"


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the service."""
    spec = importlib.util.spec_from_file_location("tally", NEW / "tally.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tally", module)
    spec.loader.exec_module(module)
    return module


class Brake:
    """Somebody who holds all segments of the views, and does no work."""

    def __init__(self, views: SQLiteViewStore, held: list[Segment]) -> None:
        self._views, self._held = views, held

    async def release(self) -> None:
        await self._views.release(self._held)


@pytest.fixture
async def brake(tally: Any, tmp_path: Path) -> AsyncIterator[Brake]:
    """The views that the service's code would make, held by somebody, and an event to handle."""
    given = {"data": str(tmp_path)}
    async with Runtime(tally.service, given) as running:
        await running.commands.send(tally.Count("t", 3))
        source = StoreSource(running.store, "tally")  # type: ignore[arg-type]  # it is there
    path = tmp_path / "tally" / "views.db"
    for file in path.parent.glob("views.db*"):
        file.unlink()
    views = await SQLiteViewStore.open(path)
    applier = applier_of(tally.Tallies, source=source, views=views)
    number = await views.settle_generation(applier.name, applier.code, applier.views)
    await views.ensure(applier.views, generation=number, processor=applier.name)
    made = await views.open_segments(
        applier.name, count=2, token=(await source.begin()).text, generation=number
    )
    held = [await views.claim(segment, owner="brake", lease_s=600) for segment in made]
    yield Brake(views, [segment for segment in held if segment])
    await views.close()


async def test_an_instance_that_fills_its_views(tally: Any, brake: Brake, tmp_path: Path) -> None:
    """Until its views are filled it refuses queries, takes commands, and is not ready."""
    runtime = Runtime(tally.service, {"data": str(tmp_path)})
    starting = asyncio.create_task(runtime.start())
    await until(lambda: hasattr(runtime, "_server") and runtime._server.port)
    async with aiohttp.ClientSession(runtime.url) as http:

        async def get(path: str) -> tuple[int, Any]:
            async with http.get(path) as answer:
                return answer.status, await answer.json()

        status, health = await get("/health/ready")
        assert status == 503
        assert "0 of 1" in str(health) or "position 0" in str(health)
        assert "being filled for this version" in health["problems"]["tallies"]
        assert (await get("/health/live"))[0] == 200
        status, problem = await get("/tallies/t")
        assert (status, problem["code"]) == (503, "not-caught-up")
        async with http.post("/tallies/t", json={"by": 4}) as answer:
            assert answer.status == 200
        assert not starting.done()
        await brake.release()
        await asyncio.wait_for(starting, 30)
        assert (await get("/health/ready"))[0] == 200
        await until(lambda: _shows(http, 7))
    await runtime.stop()


async def _shows(http: aiohttp.ClientSession, total: int) -> bool:
    async with http.get("/tallies/t") as answer:
        assert answer.status == 200
        return bool((await answer.json())["total"] == total)


async def test_who_fills_can_be_stopped(brake: Brake, tmp_path: Path) -> None:
    """SIGTERM ends an instance that still fills its views, with code 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headwater.cli", "run", "tally:service"),
        *("--set", f"data={tmp_path}", "--port", "0"),
        cwd=NEW,
        env={**os.environ, "NO_COLOR": "1"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        async for line in process.stderr:
            if b"views are being filled" in line:
                break
        process.terminate()
        _, rest = await process.communicate()
    assert process.returncode == 0, rest
    assert b"ready" not in rest
