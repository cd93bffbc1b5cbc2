"""The suite that every implementation of `headwater.config.Config` passes.

A test module::

    class TestMyConfig(ConfigConformance):
        @asynccontextmanager
        async def open_config(self, config, environment):
            async with my_server(config) as server:
                yield MyConfig(server, environment), server.change
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Annotated, Any, cast

import msgspec
import pytest

from headwater.config import Config, Settings
from headwater.errors import ConfigurationError

WAIT_S_MAX = 30.0

Tree = Mapping[str, Any]
Opened = AbstractAsyncContextManager[tuple[Config, Callable[[Tree], None]]]


class Pool(msgspec.Struct):
    """A section with a rule."""

    size: Annotated[int, msgspec.Meta(ge=1)] = 4
    hosts: list[str] = []


async def reach(settings: Settings[Pool], size: int) -> None:
    """Follow settings until they have this size; fail when they do not in time."""
    changes = cast("AsyncGenerator[Pool, None]", settings.changes())
    async with asyncio.timeout(WAIT_S_MAX), aclosing(changes):
        async for pool in changes:
            if pool.size == size:
                return


class ConfigConformance:
    """Subclass it and say how to open a configuration and how to change it."""

    pytestmark = pytest.mark.asyncio

    def open_config(self, config: Tree, environment: Mapping[str, str]) -> Opened:
        """Open a configuration, not loaded, and what replaces it; it is closed by the suite."""
        raise NotImplementedError

    async def test_document(self) -> None:
        """The document has the configuration after `load`, which may be called twice."""
        async with self.open_config({"pool": {"size": 2, "hosts": ["a"]}}, {}) as (config, _):
            document = await config.load()
            assert document.config == {"pool": {"size": 2, "hosts": ["a"]}}
            assert await config.load() == config.document == document
            await config.close()

    async def test_binding(self) -> None:
        """A section becomes a typed value; one that does not exist is all defaults."""
        async with self.open_config({"pool": {"size": "2", "hosts": ["a"]}}, {}) as (config, _):
            await config.load()
            assert config.bind(Pool, prefix="pool") == Pool(2, ["a"])
            assert config.bind(Pool, prefix="nowhere") == Pool()
            assert config.bind(int, prefix="pool.size") == 2
            await config.close()

    async def test_invalid_at_start(self) -> None:
        """A value that does not fit is refused with its key, both once and live."""
        async with self.open_config({"pool": {"size": 0}}, {}) as (config, _):
            await config.load()
            for bind in (config.bind, config.settings):
                with pytest.raises(ConfigurationError, match=r"'pool.size' is 0: expected `int`"):
                    bind(Pool, prefix="pool")
            await config.close()

    async def test_environment_wins(self) -> None:
        """A variable of this process wins, also after a change."""
        environment = {"HEADWATER__POOL__SIZE": "7"}
        async with self.open_config({"pool": {"size": 1}}, environment) as (config, change):
            await config.load()
            hosts = config.settings(Pool, prefix="pool")
            assert hosts.current == Pool(7)
            change({"pool": {"size": 2, "hosts": ["a"]}})
            seen = cast("AsyncGenerator[Pool, None]", hosts.changes())
            async with asyncio.timeout(WAIT_S_MAX), aclosing(seen):
                async for pool in seen:
                    assert pool.size == 7
                    if pool.hosts == ["a"]:
                        break
            await config.close()

    async def test_live_change(self) -> None:
        """A change reaches live settings and callbacks; what was bound once stays."""
        async with self.open_config({"pool": {"size": 1}}, {}) as (config, change):
            await config.load()
            once, settings = config.bind(Pool, prefix="pool"), config.settings(Pool, prefix="pool")
            told: list[int] = []
            end = settings.on_change(lambda pool: told.append(pool.size))
            change({"pool": {"size": 2}})
            await reach(settings, 2)
            assert (once.size, settings.current.size, told) == (1, 2, [2])
            end()
            change({"pool": {"size": 3}})
            await reach(settings, 3)
            assert told == [2]
            await config.close()

    async def test_invalid_change_is_refused(self) -> None:
        """An invalid change leaves these settings, while others follow it."""
        async with self.open_config({"pool": {"size": 1}, "big": {"size": 1}}, {}) as (
            config,
            change,
        ):
            await config.load()
            pool, big = (config.settings(Pool, prefix=name) for name in ("pool", "big"))
            change({"pool": {"size": 0}, "big": {"size": 9}})
            await reach(big, 9)
            assert pool.current == Pool(1)
            change({"pool": {"size": 5}, "big": {"size": 9}})
            await reach(pool, 5)
            await config.close()

    async def test_close_keeps_what_is_known(self) -> None:
        """After `close`, twice, the last values are still there."""
        async with self.open_config({"pool": {"size": 2}}, {}) as (config, _):
            await config.load()
            settings = config.settings(Pool, prefix="pool")
            await config.close()
            await config.close()
            assert settings.current == config.bind(Pool, prefix="pool") == Pool(2)


__all__ = ["ConfigConformance"]
