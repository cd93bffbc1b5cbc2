"""The configuration files: replaced atomically, in an order that never leaves a gap.

Envoy watches these files. A route must not name a cluster that is not there, and a cluster not a
file of endpoints that is not there, so a change is written in stages, and each stage waits until
Envoy has accepted it::

    endpoints → clusters, old and new → routes → listener → clusters, new only → remove endpoints

A refused stage is undone: the files return to the last accepted configuration, which Envoy kept
serving all the time, and a restarted Envoy finds it there.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from headwater.errors import ConfigurationError, DeadlineExceeded
from headwater.gateway.envoy import Documents, Layout, encode
from headwater.gateway.envoy_listener import STAT_PREFIX
from headwater.gateway.envoy_routes import ROUTES

Confirm = Callable[[Mapping[str, str]], Awaitable[None]]
"""Waits until Envoy reports these versions, by statistic.

It raises `ConfigurationError` when Envoy refuses, `DeadlineExceeded` when it does not answer.
"""

_LDS = "listener_manager.lds.version_text"
_CDS = "cluster_manager.cds.version_text"
_RDS = f"http.{STAT_PREFIX}.rds.{ROUTES}.version_text"


def write_atomically(path: Path, content: bytes) -> bool:
    """Replace a file by a rename, durably; return False, without writing, if nothing changes.

    A reader sees the old content or the new, never a part. Nothing is left over on an error.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


class ConfigFiles:
    """The files of one gateway. One `publish` at a time.

    Attributes:
        accepted: the configuration that Envoy serves; None before the first `publish`.
    """

    def __init__(self, layout: Layout) -> None:
        """Know the files; nothing is read or written yet."""
        self.layout = layout
        self.accepted: Documents | None = None
        self._refused: tuple[Documents, ConfigurationError] | None = None

    async def publish(self, new: Documents, confirm: Confirm) -> bool:
        """Put a configuration in place; return False if it is the accepted one already.

        Until all stages are through, requests may meet parts of the new configuration.

        Raises:
            ConfigurationError: Envoy refused a part (now, or when this configuration was tried
                last); the accepted configuration is in place again.
            DeadlineExceeded: Envoy did not take it over in time; likewise.
        """
        if new == self.accepted:
            return False
        if self._refused is not None and self._refused[0] == new:
            raise self._refused[1]
        old = self.accepted or Documents({}, {}, {}, {})
        try:
            await self._stages(old, new, confirm)
        except (ConfigurationError, DeadlineExceeded) as error:
            self._refused = (new, error) if isinstance(error, ConfigurationError) else None
            if self.accepted is not None:
                # The first error is the one to report.
                with contextlib.suppress(ConfigurationError, DeadlineExceeded):
                    await self._stages(new, self.accepted, confirm)
            raise
        self.accepted, self._refused = new, None
        return True

    async def _stages(self, old: Documents, new: Documents, confirm: Confirm) -> None:
        expected: dict[str, str] = {}
        layout = self.layout
        changed = False
        for name, resource in new.endpoints.items():
            version, content = encode({name: resource})
            expected[f"cluster.{name}.version_text"] = version
            changed |= await _write(layout.endpoint(name), content)
        if changed:
            known = [f"cluster.{n}.version_text" for n in new.endpoints if n in old.endpoints]
            await confirm({name: expected[name] for name in known})
        both = old.clusters | new.clusters
        for path, resources, statistic in (
            (layout.clusters, both, _CDS),
            (layout.routes, new.routes, _RDS),
            (layout.listeners, new.listeners, _LDS),
            (layout.clusters, new.clusters, _CDS),
        ):
            version, content = encode(resources)
            expected[statistic] = version
            if await _write(path, content):
                await confirm({statistic: version})
        await confirm(expected)
        await asyncio.to_thread(self._clean, {f"{name}.json" for name in new.endpoints})

    def _clean(self, keep: set[str]) -> None:
        for path in self.layout.endpoints.iterdir():
            if path.name not in keep:
                path.unlink(missing_ok=True)


async def _write(path: Path, content: bytes) -> bool:
    return await asyncio.to_thread(write_atomically, path, content)
