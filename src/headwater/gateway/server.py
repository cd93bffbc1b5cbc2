"""The gateway: follows discovery, configures Envoy and keeps it running."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import structlog

from headwater._http.signal import Signal, wait_for
from headwater._os.files import owned, sockets_in, write_atomically
from headwater.discovery import Discovery, Instance
from headwater.discovery.advertise import advertised
from headwater.errors import (
    ConfigurationError,
    DeadlineExceeded,
    Unavailable,
)
from headwater.gateway.addresses import RESOLVE_AGAIN_S, Resolver, reserve
from headwater.gateway.ads import Control
from headwater.gateway.envoy import Layout, bootstrap, standalone
from headwater.gateway.last_seen import LastSeen, State, load
from headwater.gateway.model import (
    GatewaySettings,
    GatewayStatus,
    InstanceProblem,
    RoutingTable,
)
from headwater.gateway.publish import Publisher, as_files
from headwater.gateway.readiness import Readiness
from headwater.gateway.routes import TableBuilder
from headwater.gateway.supervisor import Supervisor, find_envoy

_log = structlog.get_logger("headwater.gateway")
_AGAIN_S = 1.0
_SAVE_S = 2.0  # the files follow at most so often
_LATER_S = 0.05


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
        self._control = Control()
        self._publisher = Publisher(settings, self._control)
        self._readiness = Readiness(self.status)
        self._supervisor = Supervisor(settings, on_change=self._wake)
        self._resolver = Resolver()
        self._last_seen = LastSeen(remember_s=settings.remember_s)
        self._builder = TableBuilder(prefixes=settings.service_prefix)
        self._services: Mapping[str, tuple[Instance, ...]] = {}
        self._changed = asyncio.Event()
        self._signal = Signal()
        self._tasks: list[asyncio.Task[None]] = []
        self._resources = contextlib.ExitStack()
        self._saved: RoutingTable | None = None
        self._counted: tuple[RoutingTable | None, dict[str, int]] = (None, {})
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
            await self._open()
            await self._first()
        except BaseException:
            await self.stop()
            raise
        self._tasks = [
            asyncio.create_task(self._follow(), name="gateway-follow"),
            asyncio.create_task(self._work(), name="gateway-work"),
            asyncio.create_task(self._keep_saving(), name="gateway-save"),
        ]
        self._signal.send()
        _log.info("gateway serves", url=self.url, routes=len(self._table.routes))

    async def stop(self) -> None:
        """Drain (see `Supervisor.stop`), end Envoy, release the port. Twice is fine."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._supervisor.stop()
            if tasks:
                await self._save()
        finally:
            await self._control.close()
            await self._readiness.close()
            self._resources.close()
            self._port = 0
            self._signal.send()

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
        host = advertised(self._host) if self._host else ""
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    def status(self) -> GatewayStatus:
        """Return what the gateway is doing; never blocks."""
        supervisor, table, standing = self._supervisor, self._table, self._discovery.standing()
        admin = supervisor.admin
        state = GatewayStatus(state="stopped").state
        if supervisor.draining:
            state = "draining" if supervisor.pid else "stopped"
        elif self._port:
            state = "serving" if supervisor.serving else "restarting"
            state = state if self._tasks else "starting"
        return GatewayStatus(
            state=state,
            port=self._port,
            admin_port=int(admin.address.rpartition(":")[2]) if admin is not None else 0,
            pid=supervisor.pid,
            restarts=supervisor.restarts,
            updates=self._updates,
            instances=self._instances(),
            routes=len(table.routes),
            problems=table.problems,
            faulty=table.faulty,
            rejected=self._rejected,
            settling=table.settling,
            unheard_s=standing.unheard_s,
        )

    def _instances(self) -> dict[str, int]:
        """Return the number of instances that receive traffic, by service."""
        if self._counted[0] is not self._table:
            live: dict[str, set[str]] = {}
            for cluster in self._table.clusters:
                names = live.setdefault(cluster.service, set())
                names.update([endpoint.instance for endpoint in cluster.endpoints])
            counts = {service: len(names) for service, names in sorted(live.items())}
            self._counted = self._table, counts
        return self._counted[1]

    @property
    def _table(self) -> RoutingTable:
        """What Envoy serves."""
        return self._publisher.accepted

    async def changes(self) -> AsyncIterator[GatewayStatus]:
        """Yield `status` at once, and again soon after each change, for ever.

        A slow reader gets the newest status, not every one.
        """
        while True:
            following = self._signal.next
            yield self.status()
            await following.wait()

    async def _open(self) -> None:
        """Take the data directory and the port, remember, and listen for Envoy."""
        try:
            self._layout.data.mkdir(parents=True, exist_ok=True)
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
        state = await asyncio.to_thread(load, self._layout.state)
        self._last_seen = LastSeen(remember_s=self._settings.remember_s, instances=state.instances)
        self._builder.owners = state.owners
        sockets = self._resources.enter_context(sockets_in(self._layout.data))
        await self._control.start(sockets / "control")
        await self._readiness.start(sockets / "status")
        start = bootstrap(self._settings, host=self._host, port=self._port, sockets=sockets)
        write_atomically(self._layout.bootstrap, start)

    async def _first(self) -> None:
        """Start Envoy and tell it the first configuration; it listens when it has that."""
        self._services = self._discovery.services()
        tasks = {
            asyncio.create_task(self._supervisor.start(), name="gateway-envoy"),
            asyncio.create_task(self._tell_first(), name="gateway-first"),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell_first(self) -> None:
        """Tell Envoy what is known now, however long it takes to start."""
        while True:
            try:
                return await self._apply()
            except (DeadlineExceeded, Unavailable):  # its start is bounded elsewhere
                continue

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
        self._signal.send()

    async def _work(self) -> None:
        """Bring Envoy up to date after each change, and now and then for names and memory."""
        pause = self._pause()
        while True:
            await wait_for(self._changed, pause)
            self._changed.clear()
            since = self._supervisor.log_size()
            try:
                await self._apply()
                pause = self._pause()
            except Unavailable:
                pause = _AGAIN_S  # Envoy is being started again; the supervisor wakes us, too
            except Exception as error:  # noqa: BLE001  # whatever it is, the next change is tried
                pause = _AGAIN_S if isinstance(error, DeadlineExceeded) else RESOLVE_AGAIN_S
                told = f"{error} {self._supervisor.log_tail(since)}".strip()
                if told != self._rejected:
                    self._rejected = told
                    _log.error("configuration refused, the last stays", reason=told)
            self._signal.send()

    def _pause(self) -> float:
        """Return how long nothing needs to be done unless something changes."""
        left_s = self._discovery.standing().settling_s
        return min(RESOLVE_AGAIN_S, left_s + _LATER_S) if left_s else RESOLVE_AGAIN_S

    async def _apply(self) -> None:
        """Build the configuration for the instances known now and publish it."""
        settling = bool(self._discovery.standing().settling_s)
        services = self._last_seen.merge(self._services, now=time.monotonic(), settling=settling)
        table = self._builder.build(services, settling=settling)
        hosts = {endpoint.host for cluster in table.clusters for endpoint in cluster.endpoints}
        addresses = await self._resolver.resolve(hosts)
        table = _without_address(table, addresses)
        known = self._table.problems
        self._updates += await self._publisher.publish(table, addresses)
        self._rejected = ""
        for problem in self._table.problems:
            if problem not in known:
                told = msgspec.structs.asdict(problem)
                _log.warning("route not served as declared", **told)

    async def _keep_saving(self) -> None:
        """Let the files follow what is served."""
        while True:
            following = self._signal.next
            await self._save()
            await asyncio.sleep(_SAVE_S)
            await following.wait()

    async def _save(self) -> None:
        table, told = self._table, self._publisher.resources
        if table is self._saved or not told:
            return
        layout = self._layout
        state = State(self._last_seen.instances(), dict(self._builder.owners))
        start = standalone(self._settings, host=self._host, port=self._port)

        def write() -> None:
            routes, clusters = as_files(told)
            write_atomically(layout.state, msgspec.json.encode(state))
            write_atomically(layout.clusters, clusters)
            write_atomically(layout.routes, routes)
            write_atomically(layout.standalone, start)

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            _log.warning("the gateway's files cannot be written", reason=str(error))
        else:
            self._saved = table


def _without_address(table: RoutingTable, addresses: Mapping[str, str]) -> RoutingTable:
    """Name the instances whose host names cannot be resolved: they get no requests."""
    faulty = {
        InstanceProblem(
            cluster.service,
            endpoint.instance,
            f"the host name {endpoint.host!r} cannot be resolved here: correct `advertise`",
        )
        for cluster in table.clusters
        for endpoint in cluster.endpoints
        if endpoint.host not in addresses
    }
    found = tuple(sorted(faulty, key=lambda f: (f.service, f.instance)))
    return msgspec.structs.replace(table, faulty=found) if found else table


@contextlib.contextmanager
def _lock(data: Path) -> Iterator[None]:
    """Own the data directory; the system releases it whatever happens to this process."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(owned(data / "lock"))
        except BlockingIOError as error:
            raise ConfigurationError(
                subject="gateway.data",
                reason=f"{data} is in use by another gateway: stop it or name another directory",
            ) from error
        yield
