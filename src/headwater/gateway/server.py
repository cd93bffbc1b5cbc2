"""The gateway: follows discovery, configures Envoy and keeps it running."""

import asyncio
import contextlib
import fcntl
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from headwater._http.pulse import Pulse, wait_for
from headwater.discovery import Discovery, Instance
from headwater.errors import (
    ConfigurationError,
    DeadlineExceeded,
    StartupError,
    Unavailable,
)
from headwater.gateway.addresses import RESOLVE_AGAIN_S, Resolver, reserve
from headwater.gateway.envoy import Layout, bootstrap, documents
from headwater.gateway.files import ConfigFiles, Confirm, write_atomically
from headwater.gateway.memory import Memory
from headwater.gateway.model import GatewaySettings, GatewayStatus, RouteProblem, RoutingTable
from headwater.gateway.routes import build_table
from headwater.gateway.supervisor import Supervisor, find_envoy

_log = structlog.get_logger("headwater.gateway")
_AGAIN_S = 1.0


class Gateway:
    """One public port for all services: Envoy, configured from what they registered.

    Requests never pass through this process. It may stall, or lose discovery, while Envoy goes on
    with the last configuration; only its end is Envoy's end, so that no orphan stays.
    """

    def __init__(self, settings: GatewaySettings, discovery: Discovery) -> None:
        """Prepare; nothing is opened before `start`. The caller closes ``discovery``."""
        self._settings = settings
        self._discovery = discovery
        self._layout = Layout(settings.data.absolute())
        self._files = ConfigFiles(self._layout)
        self._supervisor = Supervisor(settings, on_change=self._wake)
        self._resolver = Resolver()
        self._memory = Memory(remember_s=settings.remember_s)
        self._table = RoutingTable()
        self._services: Mapping[str, tuple[Instance, ...]] = {}
        self._changed = asyncio.Event()
        self._pulse = Pulse()
        self._tasks: list[asyncio.Task[None]] = []
        self._resources = contextlib.ExitStack()
        self._host = ""
        self._port = 0
        self._updates = 0
        self._rejected = ""

    async def start(self) -> None:
        """Start Envoy with what is registered now, then follow every change.

        Returns when the port takes requests. If it fails or is cancelled nothing stays behind.

        Raises:
            ConfigurationError: no Envoy program, or another gateway uses the data directory.
            AddressInUse: another process listens on the port.
            StartupError: Envoy did not start; its last words are in the message.
        """
        find_envoy(self._settings)
        try:
            self._open()
            await self._first()
        except BaseException:
            await self.stop()
            raise
        self._tasks = [
            asyncio.create_task(self._follow(), name="gateway-follow"),
            asyncio.create_task(self._work(), name="gateway-work"),
        ]
        self._pulse.beat()
        _log.info("gateway serves", url=self.url, routes=len(self._table.routes))

    async def stop(self) -> None:
        """Drain (see `Supervisor.stop`), end Envoy, release the port. Twice is fine."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._supervisor.stop()
        finally:
            self._resources.close()
            self._port = 0
            self._pulse.beat()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    @property
    def port(self) -> int:
        """The port that clients connect to; 0 while stopped."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL for clients, without a trailing slash."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def status(self) -> GatewayStatus:
        """Return what the gateway is doing; never blocks."""
        supervisor = self._supervisor
        admin = supervisor.admin
        state = GatewayStatus(state="stopped").state
        if supervisor.draining:
            state = "draining" if supervisor.pid else "stopped"
        elif self._port:
            state = "serving" if supervisor.serving else "restarting"
            state = state if self._tasks else "starting"
        live: dict[str, set[str]] = {}
        for cluster in self._table.clusters:
            names = live.setdefault(cluster.service, set())
            names.update(endpoint.instance for endpoint in cluster.endpoints)
        return GatewayStatus(
            state=state,
            port=self._port,
            admin_port=int(admin.address.rpartition(":")[2]) if admin is not None else 0,
            pid=supervisor.pid,
            restarts=supervisor.restarts,
            updates=self._updates,
            instances={service: len(names) for service, names in sorted(live.items())},
            routes=len(self._table.routes),
            problems=self._table.problems,
            rejected=self._rejected,
        )

    async def changes(self) -> AsyncIterator[GatewayStatus]:
        """Yield `status` at once, and again soon after each change, for ever.

        A slow reader gets the newest status, not every one.
        """
        while True:
            following = self._pulse.next
            yield self.status()
            await following.wait()

    def _open(self) -> None:
        """Take the data directory and the port."""
        try:
            self._layout.endpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                subject="gateway.data",
                reason=f"{self._layout.data} cannot be used ({error.strerror}): name a directory "
                "that may be written",
            ) from error
        self._resources.enter_context(_lock(self._layout.data))
        reserved = self._resources.enter_context(reserve(self._settings.host, self._settings.port))
        self._host, self._port = reserved.getsockname()[:2]
        if sys.platform != "linux":
            reserved.close()

    async def _first(self) -> None:
        """Write the first configuration, start Envoy on it, and see that it accepted all."""
        write_atomically(self._layout.bootstrap, bootstrap(self._settings))
        self._services = self._discovery.services()
        expected: dict[str, str] = {}

        async def later(versions: Mapping[str, str]) -> None:
            expected.update(versions)

        await self._apply(later)
        since = self._supervisor.log_size()
        await self._supervisor.start()
        try:
            await self._confirm(expected)
        except (ConfigurationError, DeadlineExceeded, Unavailable) as error:
            raise StartupError(
                subject="gateway", reason=f"{error}: {self._supervisor.log_tail(since)}"
            ) from error

    async def _follow(self) -> None:
        """Note what discovery says; whatever it does, the last state stays."""
        while True:
            try:
                async for services in self._discovery.changes():
                    self._services = services
                    self._wake()
            except Exception as error:  # noqa: BLE001  # Envoy serves on, whatever discovery does
                _log.warning("discovery failed, the routes stay as they are", reason=repr(error))
            await asyncio.sleep(_AGAIN_S)

    def _wake(self) -> None:
        self._changed.set()
        self._pulse.beat()

    async def _work(self) -> None:
        """Bring Envoy up to date after each change, and now and then for names and memory."""
        pause = RESOLVE_AGAIN_S
        while True:
            await wait_for(self._changed, pause)
            self._changed.clear()
            since = self._supervisor.log_size()
            try:
                await self._apply(self._confirm)
                pause = RESOLVE_AGAIN_S
                self._pulse.beat()
            except Unavailable:
                pause = _AGAIN_S  # Envoy is being started again; the supervisor wakes us, too
            except Exception as error:  # noqa: BLE001  # whatever it is, the next change is tried
                told = self._supervisor.log_tail(since)
                if not told and self._rejected:
                    continue  # the same refused configuration: it was reported
                self._rejected = f"{error} {told}".strip()
                _log.error("configuration refused, the last stays", reason=self._rejected)
                self._pulse.beat()

    async def _apply(self, confirm: Confirm) -> None:
        """Build the configuration for the instances known now and publish it."""
        services = self._memory.merge(self._services, now=time.monotonic())
        table = build_table(services, previous=self._table, prefixes=self._settings.service_prefix)
        hosts = [endpoint.host for cluster in table.clusters for endpoint in cluster.endpoints]
        addresses = await self._resolver.resolve(hosts)
        new = documents(
            table, self._settings, host=self._host, port=self._port, addresses=addresses
        )
        changed = await self._files.publish(new, confirm)
        self._rejected = ""
        self._updates += changed
        _report(table.problems, self._table.problems)
        self._table = table

    async def _confirm(self, versions: Mapping[str, str]) -> None:
        admin = self._supervisor.admin
        if admin is None:
            raise Unavailable
        await admin.confirm(versions, timeout_s=self._settings.confirm_timeout_s)


def _report(problems: tuple[RouteProblem, ...], known: tuple[RouteProblem, ...]) -> None:
    """Log each problem once."""
    for problem in problems:
        if problem not in known:
            _log.warning(
                "route not served as declared",
                method=problem.method,
                path=problem.path,
                service=problem.service,
                reason=problem.reason,
            )


@contextlib.contextmanager
def _lock(data: Path) -> Iterator[None]:
    """Own the data directory; the system releases it whatever happens to this process."""
    with (data / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                subject="gateway.data",
                reason=f"{data} is in use by another gateway: stop it or name another directory",
            ) from error
        yield
