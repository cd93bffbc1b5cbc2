"""The configuration service: settings files behind HTTP, followed as they change."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import structlog

from headwater._http.server import AsgiServer
from headwater.config.api import SettingsSource, SettingsState
from headwater.config.folder import Folder
from headwater.config.repository import Repository
from headwater.config.routes import Feed, make_app

AGAIN_S = 1.0

_log = structlog.get_logger("headwater.config")


class ConfigServer:
    """Serves one directory, or one database, on one port of the running event loop.

    Native protocol, version 1 (JSON; errors are problem documents)::

        GET /v1/config/{app}/{profiles}[/{label}]   the effective document; ETag and 304
        GET /v1/watch/{app}/{profiles}[/{label}]    SSE: the document, and again when it changed
        GET /v1/status                              what is refused, and why
        GET /health/live  /health/ready  /          (overview page, secrets masked)

    Profiles are separated by commas; ``default`` where there is none.
    """

    def __init__(
        self,
        source: str | Path | SettingsSource,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        environment: Mapping[str, str] | None = None,
        heartbeat_s: float = 5.0,
        settle_s: float = 0.1,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Describe the server; nothing is read or bound yet.

        Args:
            source: where the settings files are: a directory, or another place, which belongs to
                the server from now on: it is closed with it.
            host: address to listen on.
            port: port to listen on; 0 lets the system choose.
            environment: variables for placeholders; those of the process when not given.
            heartbeat_s: a watch stream is never silent for longer than this.
            settle_s: a changed file of a directory is read after it was left alone for so long.
            tls: with which connections are encrypted; None: they are not.

        Raises:
            ConfigurationError: the directory does not exist.
        """
        self._source = (
            Folder(Path(source), settle_s=settle_s) if isinstance(source, str | Path) else source
        )
        self.repository = Repository(
            SettingsState(), name=self._source.name, environment=environment
        )
        self._feed = Feed(self.repository, heartbeat_s=heartbeat_s)
        self._server = AsgiServer(
            make_app(self.repository, self._feed),
            host,
            port,
            name="the configuration service",
            tls=tls,
        )
        self._task: asyncio.Task[None] | None = None
        self._known_errors: dict[str, str] = {}

    @property
    def port(self) -> int:
        """The port it listens on; the chosen one after `start`."""
        return self._server.port

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return self._server.url

    async def start(self) -> None:
        """Read the files, serve and follow them; requests are answered when this returns.

        Raises:
            AddressInUse: another process listens on the port.
            ConfigurationError: the address cannot be used.
            StoreUnavailable, StoreError: the files cannot be had.
        """
        try:
            state = await self._source.read()
            await self._take(state)
            await self._server.start()
        except BaseException:
            await self._source.close()
            raise
        self._task = asyncio.create_task(self._follow(state), name="follow settings files")
        _log.info("configuration is up", url=self.url, source=self._source.name)

    async def stop(self, grace_s: float = 5.0) -> None:
        """End watch streams, let requests finish, stop. Twice is fine."""
        await self._server.stop(grace_s)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._source.close()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def _follow(self, state: SettingsState) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._source.follow(state)) as states:  # type: ignore[type-var] # an async generator
                    async for state in states:  # noqa: PLR1704 # where to go on after a fault
                        await self._take(state)
                        self._feed.signal.send()
            except Exception:  # noqa: BLE001 - whatever it was: what is known is served, and again
                _log.exception("cannot follow the settings, trying again")
                await asyncio.sleep(AGAIN_S)

    async def _take(self, state: SettingsState) -> None:
        self.repository.take(state, await asyncio.to_thread(self.repository.parse, state))
        self._report()

    def _report(self) -> None:
        errors = self.repository.errors()
        for name, reason in errors.items():
            if self._known_errors.get(name) == reason:
                continue
            if name == self.repository.name:
                _log.error("out of reach, what is known is served", what=name, reason=reason)
            else:
                _log.error("refused, the last good content stays", what=name, reason=reason)
        for name in self._known_errors.keys() - errors.keys():
            _log.info("good again", what=name)
        self._known_errors = errors


async def serve(
    source: str | Path | SettingsSource,
    host: str = "127.0.0.1",
    port: int = 8888,
    *,
    started: Callable[[str], None] | None = None,
) -> None:
    """Run the configuration service until the task is cancelled; then drain.

    Args:
        source: where the settings files are; see `ConfigServer`.
        host: address to listen on.
        port: port to listen on.
        started: called with the base URL once it answers.

    Raises:
        AddressInUse: another process listens on the port.
        ConfigurationError: the directory or the address cannot be used.
        StoreUnavailable, StoreError: the files cannot be had.
    """
    async with ConfigServer(source, host, port) as server:
        if started is not None:
            started(server.url)
        await asyncio.Event().wait()


__all__ = ["ConfigServer", "serve"]
