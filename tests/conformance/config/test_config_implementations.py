"""A fixed configuration, and one that a server provides, pass the suite."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headwater.config import Config, StaticConfig
from headwater.config.client import ConfigClient
from headwater.config.server import ConfigServer
from headwater.testing.config import ConfigConformance

Tree = Mapping[str, Any]
Opened = AsyncIterator[tuple[Config, Callable[[Tree], None]]]


class TestStaticConfig(ConfigConformance):
    @asynccontextmanager
    async def open_config(self, config: Tree, environment: Mapping[str, str]) -> Opened:
        static = StaticConfig(config, environment=environment)
        yield static, static.change


class TestConfigClient(ConfigConformance):
    @asynccontextmanager
    async def open_config(self, config: Tree, environment: Mapping[str, str]) -> Opened:
        with TemporaryDirectory() as name:
            file = Path(name, "accounts.yml")

            def change(content: Tree) -> None:
                new = file.with_name(".new")
                new.write_text(json.dumps(content))  # JSON is YAML, too
                new.replace(file)

            change(config)
            async with ConfigServer(name, environment={}, settle_s=0.03) as server:
                yield ConfigClient(server.url, "accounts", environment=environment), change
