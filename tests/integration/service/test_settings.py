"""Typed settings of a service, from the configuration service, while it runs."""

import asyncio

import msgspec
import pytest

from headwater.config import ConfigServer
from headwater.errors import ConfigurationError
from headwater.service import Service
from headwater.service.runtime import Runtime
from tests.integration.service.shop import Item, Items


class Prices(msgspec.Struct, frozen=True):
    """Section ``prices``."""

    discount: int = 0


def _write(directory, text):
    beside = directory / ".new"
    beside.write_text(text)
    beside.rename(directory / "shop.yaml")


async def _until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_settings_follow_the_files(tmp_path):
    """A changed file reaches a running service; an invalid change leaves the last good value."""
    files = tmp_path / "config"
    files.mkdir()
    _write(files, "prices:\n  discount: 5\nheadwater:\n  cache_size: 7\n")
    service = Service("shop", aggregates=[Item], projections=[Items])
    prices = service.settings(Prices, prefix="prices")
    async with ConfigServer(files, port=0) as config:
        given = {"data": str(tmp_path / "data"), "config": (f"http://127.0.0.1:{config.port}",)}
        async with Runtime(service, given) as running:
            assert prices.current == Prices(5)
            assert running.settings.cache_size == 7
            _write(files, "prices:\n  discount: many\n")
            _write(files, "prices:\n  discount: many\nother: 1\n")
            await _until(lambda: "other" in running.config.document.config)
            assert prices.current == Prices(5)
            _write(files, "prices:\n  discount: 9\n")
            await _until(lambda: prices.current == Prices(9))
    with pytest.raises(ConfigurationError, match="not running"):
        _ = prices.current


async def test_invalid_settings_prevent_the_start(tmp_path):
    """A service does not start with a section that does not fit; the error names key and file."""
    files = tmp_path / "config"
    files.mkdir()
    _write(files, "prices:\n  discount: many\n")
    service = Service("shop", aggregates=[Item], projections=[Items])
    service.settings(Prices, prefix="prices")
    async with ConfigServer(files, port=0) as config:
        given = {"data": str(tmp_path / "data"), "config": (f"http://127.0.0.1:{config.port}",)}
        with pytest.raises(ConfigurationError, match=r"discount.*int"):
            await Runtime(service, given).start()
