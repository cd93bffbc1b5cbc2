"""A service runs on the engines of another package, which are named by nothing but URLs."""

import os
import subprocess
from pathlib import Path

import pytest

from headwater.errors import ConfigurationError
from headwater.eventstore.copy import copy_store
from headwater.eventstore.memory import MemoryEventStore
from headwater.operations.stores import open_logs
from headwater.service import Service
from headwater.service.engines import open_event_store, open_log
from headwater.service.runtime import Runtime
from tests.engines.conftest import INSTALLED
from tests.integration.cli.conftest import HEADWATER
from tests.integration.service.shop import AddItem, GetItem, Item, Items, SellItem

shop = Service("shop", aggregates=[Item], projections=[Items])


async def test_a_service_runs_over_it(tmp_path: Path) -> None:
    """Commands, views and what is published are in engines that are not part of Headwater."""
    url = f"made-up:{tmp_path}/shop"
    given = {"data": str(tmp_path), "store": url, "views": url, "bus": "made-up:"}
    async with Runtime(shop, given) as running:
        await running.commands.send(AddItem("i1", "Bach", 3))
        assert running.bus is not None
    async with Runtime(shop, given) as again:
        sold = await again.commands.send(SellItem("i1", 1))
        assert (await again.queries.ask(GetItem("i1"), token=sold.token)).stock == 2
    assert sorted(file.name for file in (tmp_path / "shop").glob("events.*")) == [
        "events.made-up",
        "events.views",
    ]


def test_the_command_line_finds_it(tmp_path: Path) -> None:
    """Commands that look into a store take its URL; another process has the package, too."""
    done = subprocess.run(
        [*HEADWATER, "events", "--store", f"made-up:{tmp_path}", "--json"],
        env={**os.environ, "PYTHONPATH": str(INSTALLED)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"{tmp_path}/events.made-up does not exist" in done.stderr


async def test_what_it_cannot_is_refused(tmp_path: Path) -> None:
    """Its log cannot be read without the right to write, and nothing can be copied into it."""
    url = f"made-up:{tmp_path}"
    store = await open_event_store(url)
    with pytest.raises(ConfigurationError, match="no log for reading alone"):
        await open_log(url)
    with pytest.raises(ConfigurationError, match="takes no events of other stores"):
        await copy_store(MemoryEventStore(), store)
    await store.close()
    async with open_logs((url,), subject="store") as [log]:  # then it is opened as it can be
        assert await log.head() == 0
