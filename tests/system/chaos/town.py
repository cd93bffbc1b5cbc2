"""The processes of the bank, each of which may end, stop, or start again at any time."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from headwater.cli.supervising.plan import Part, choose_ports, plan
from headwater.cli.supervising.supervised import SUPERVISOR
from headwater.operations.system import System, load_system
from headwater.service import ServiceSettings
from tests.ports import HeldPort
from tests.system.chaos import skewed

ROOT = Path(__file__).parents[3]
BANK = ROOT / "examples/bank"
_INSTANCES = {"transfers": {"all": 2}, "insights": {"query": 2}}
_AGAIN_S = (0.5, 1.0, 2.0)
_END_S_MAX = 30.0
EXPECTED = (75,)
"""The exit codes of a process that could not go on: a database, a port or a disk is not there."""


class Resident:
    """One process of the bank, which is started again when it ends by itself.

    Attributes:
        name: of the instance, or of the part of the platform.
        part: how it is started.
        port: where it listens.
        unexpected: the exit codes with which it ended by itself.
    """

    def __init__(self, part: Part, port: int, folder: Path, environment: dict[str, str]) -> None:
        """Prepare it."""
        self.name, self.part, self.port = part.name, part, port
        self.unexpected: list[int] = []
        self._clock = folder / f"{part.name}.clock"
        self._log: IO[bytes] = (folder / f"{part.name}.log").open("ab")
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        skewed.set_skew(self._clock, 0.0)

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else 0

    def start(self) -> None:
        """Start it, and again whenever it ends by itself."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        tries = 0
        while True:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, skewed.__file__, str(self._clock), *self.part.arguments,
                *(("--set", f"port={self.port}") if self.part.service else ()),
                stdin=asyncio.subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                env=self._environment, cwd=BANK,
            )  # fmt: skip
            self.unexpected.append(await self._process.wait())
            await asyncio.sleep(_AGAIN_S[min(tries, len(_AGAIN_S) - 1)])
            tries += 1

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(self.pid, number)

    async def end(self, number: signal.Signals) -> None:
        """End it by a signal and wait; it stays down until it is started."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None
        self.tell(number)
        self.tell(signal.SIGCONT)
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _END_S_MAX)
            except TimeoutError:
                self.tell(signal.SIGKILL)
                await self._process.wait()
                raise AssertionError(f"{self.name} did not end by {number.name}") from None

    def skew(self, seconds: float) -> None:
        """Let its clock be wrong."""
        skewed.set_skew(self._clock, seconds)

    def close(self) -> None:
        """Close its log."""
        self._log.close()


class Town:
    """All processes of a bank with two instances of each service.

    Attributes:
        residents: by name.
        gateway, discovery: base URLs.
        has_broker: whether the event bus is on one.
    """

    def __init__(
        self, folder: Path, place: Path, *, databases: dict[str, str], bus: str = ""
    ) -> None:
        """Prepare it.

        Args:
            folder: for logs.
            place: for its data.
            databases: the URL of the database of each service, and of the platform under an empty
                name; none for files.
            bus: the URL of the event bus; empty: that of the bank's own description.
        """
        self.has_broker = bool(bus)
        self.data = place / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self._held = contextlib.ExitStack()
        described = load_system(BANK / "headwater.toml")
        services = {
            name: msgspec.structs.replace(
                section, instances=_INSTANCES.get(name, section.instances)
            )
            for name, section in described.services.items()
        }
        self._system = msgspec.structs.replace(
            described, data=self.data, services=services, database=databases.get("", ""),
            bus=msgspec.structs.replace(described.bus, url=bus or described.bus.url),
        )  # fmt: skip
        given = {"gateway": 0, "discovery": 0, "config": 0}
        ports = choose_ports(self._system, given, held=self._held)
        self.gateway, self.discovery = ports.url("gateway"), ports.url("discovery")
        self.residents: dict[str, Resident] = {}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
        common = inherited | {
            "PYTHONPATH": str(BANK), "PYTHONUNBUFFERED": "1", SUPERVISOR: str(os.getpid()),
        }  # fmt: skip
        for part in plan(self._system, ports):
            port = self._held.enter_context(HeldPort()) if part.service else 0
            shared, own = databases.get("", ""), databases.get(part.service, "")
            hidden = {
                name: value.replace(shared, own) if own else value
                for name, value in part.environment.items()
            }
            self.residents[part.name] = Resident(part, port, folder, common | hidden)
            self._held.callback(self.residents[part.name].close)

    @property
    def system(self) -> System:
        """What it is made of."""
        return self._system

    def store_url(self, service: str) -> str:
        """Return the URL of the event store of a service, not by way of a proxy."""
        return self._settings(service).stores[0]

    def views_url(self, service: str) -> str:
        """Return the URL of the view store of a service, not by way of a proxy."""
        return self._settings(service).url("views")

    def bus_url(self) -> str:
        """Return the URL of the event bus."""
        return self._settings("accounts").url("bus")

    def _settings(self, service: str) -> ServiceSettings:
        values = self._system.settings(service)
        known = {
            name: values[name]
            for name in ("service", "data", "store", "views", "bus")
            if name in values
        }
        return ServiceSettings(**known)

    def instances(self, service: str = "", *roles: str) -> list[Resident]:
        """Return the instances of a service, or of all, of these roles or of all."""
        return [
            one
            for one in self.residents.values()
            if (one.part.service == service or not service)
            and one.part.service
            and (not roles or one.part.role in roles)
        ]

    async def start(self, draw: random.Random, *, within_s: float) -> None:
        """Start all that do not run in random order, with random pauses."""
        order = list(self.residents.values())
        draw.shuffle(order)
        for one in order:
            one.start()
            await asyncio.sleep(draw.uniform(0.0, 2 * within_s / len(order)))

    async def end(self, number: signal.Signals, who: Sequence[Resident] = ()) -> None:
        """End these, or all, at once."""
        ended = [one.end(number) for one in who or self.residents.values()]
        await asyncio.gather(*ended)

    def strange_ends(self) -> list[str]:
        """Say who ended by itself otherwise than because something was away."""
        return [
            f"{one.name} ended by itself with exit code {code}"
            for one in self.residents.values()
            for code in one.unexpected
            if code not in EXPECTED
        ]

    async def close(self) -> None:
        """End all of them and give their ports back."""
        began = time.monotonic()
        try:
            await self.end(signal.SIGTERM)
        finally:
            await self.end(signal.SIGKILL)
            self._held.close()
        assert time.monotonic() - began < _END_S_MAX
