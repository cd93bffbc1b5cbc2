"""The configuration service: a directory of files behind HTTP, followed as it changes."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import structlog
import watchfiles

from headwater._http.server import AsgiServer
from headwater.config.repository import Repository
from headwater.config.routes import Feed, make_app

LOOK_AGAIN_S = 2.0

_log = structlog.get_logger("headwater.config")


class ConfigServer:
    """Serves one directory on one port of the running event loop.

    Native protocol, version 1 (JSON; errors are problem documents)::

        GET /v1/config/{app}/{profiles}[/{label}]   the effective document; ETag and 304
        GET /v1/watch/{app}/{profiles}[/{label}]    SSE: the document, and again when it changed
        GET /v1/status                              what is refused, and why
        GET /health/live  /health/ready  /          (overview page, secrets masked)

    Profiles are separated by commas; ``default`` where there is none.
    """

    def __init__(
        self,
        directory: str | Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        environment: Mapping[str, str] | None = None,
        heartbeat_s: float = 5.0,
        settle_s: float = 0.1,
    ) -> None:
        """Read the directory; nothing is bound yet.

        Args:
            directory: where the settings files are.
            host: address to listen on.
            port: port to listen on; 0 lets the system choose.
            environment: variables for placeholders; those of the process when not given.
            heartbeat_s: a watch stream is never silent for longer than this.
            settle_s: a changed file is read after it was left alone for so long.

        Raises:
            ConfigurationError: the directory does not exist.
        """
        self.repository = Repository(directory, environment=environment, settle_s=settle_s)
        self._feed = Feed(self.repository, heartbeat_s=heartbeat_s)
        self._server = AsgiServer(
            make_app(self.repository, self._feed), host, port, name="the configuration service"
        )
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
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
        """Serve, and follow the directory; requests are answered when this returns.

        Raises:
            AddressInUse: another process listens on the port.
            ConfigurationError: the address cannot be used.
        """
        await self._server.start()
        self._report()
        self._task = asyncio.create_task(self._follow(), name="follow configuration files")
        _log.info("configuration is up", url=self.url, directory=str(self.repository.directory))

    async def stop(self, grace_s: float = 5.0) -> None:
        """End watch streams, let requests finish, stop. Twice is fine."""
        await self._server.stop(grace_s)
        if self._task is not None:
            self._stop.set()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def _follow(self) -> None:
        while True:
            try:
                async for _ in watchfiles.awatch(
                    self.repository.directory,
                    watch_filter=None,
                    debounce=50,
                    step=10,
                    stop_event=self._stop,
                    rust_timeout=int(LOOK_AGAIN_S * 1000),
                    yield_on_timeout=True,  # signs of change get lost on some file systems
                ):
                    await self._refresh()
            except OSError as error:
                _log.warning("cannot watch the directory, looking again", reason=str(error))
                await self._refresh()
                await asyncio.sleep(LOOK_AGAIN_S)

    async def _refresh(self) -> None:
        while True:
            scan = await asyncio.to_thread(self.repository.scan)
            self.repository.take(scan)
            if scan.changed:
                self._report()
                self._feed.pulse.beat()
            if scan.wait_s <= 0:
                return
            await asyncio.sleep(scan.wait_s)

    def _report(self) -> None:
        errors = self.repository.errors()
        for name, reason in errors.items():
            if self._known_errors.get(name) != reason:
                _log.error("refused, the last good content stays", what=name, reason=reason)
        for name in self._known_errors.keys() - errors.keys():
            _log.info("good again", what=name)
        self._known_errors = errors


async def serve(
    directory: str | Path,
    host: str = "127.0.0.1",
    port: int = 8888,
    *,
    started: Callable[[str], None] | None = None,
) -> None:
    """Run the configuration service until the task is cancelled; then drain.

    Args:
        directory: where the settings files are.
        host: address to listen on.
        port: port to listen on.
        started: called with the base URL once it answers.

    Raises:
        AddressInUse: another process listens on the port.
        ConfigurationError: the directory or the address cannot be used.
    """
    async with ConfigServer(directory, host, port) as server:
        if started is not None:
            started(server.url)
        await asyncio.Event().wait()


__all__ = ["ConfigServer", "serve"]
