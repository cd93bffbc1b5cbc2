"""Starts the bank as a user would, `headwater up`, and kills parts of it."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from headwater.service import ServiceSettings

HERE = Path(__file__).parent.parent


class System:
    """The running system: what `headwater up` wrote into its ready file."""

    def __init__(self, data: Path, *, database: str = "", bus: str = "") -> None:
        self._data = data
        self._ready = data / "ready.json"
        self.log = data / "up.log"
        self._environment = {**os.environ, "HEADWATER_DATA": str(data)}
        self._database = database
        if database:
            self._environment["HEADWATER_DATABASE"] = database
        if bus:
            self._environment["HEADWATER_BUS"] = bus
        self._process: asyncio.subprocess.Process | None = None
        self.started_in_s = 0.0

    async def start(self, shuffle: int, *, patience_s: float = 60.0) -> None:
        """Start everything in the order of a number; return when the system says that it is ready.

        Raises:
            RuntimeError: it ended instead, or took too long; with the end of its log.
        """
        self._data.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        arguments = ("-m", "headwater.cli", "up", "--file", str(HERE / "headwater.toml"))
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                *("--ready-file", str(self._ready), "--shuffle", str(shuffle)),
                *("--port", "0", "--discovery-port", "0", "--config-port", "0"),
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        while not self._ready.exists():
            if self._process.returncode is not None or time.monotonic() - began > patience_s:
                tail = self.log.read_text(errors="replace")[-2000:]
                message = f"the system did not become ready; the end of {self.log}:\n{tail}"
                raise RuntimeError(message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 0.05)
        self.started_in_s = time.monotonic() - began

    @property
    def ready(self) -> dict[str, Any]:
        """What the ready file says now."""
        content: dict[str, Any] = msgspec.json.decode(self._ready.read_bytes())
        return content

    @property
    def gateway(self) -> str:
        """The gateway's base URL."""
        return str(self.ready["gateway"])

    def store_url(self, service: str) -> str:
        """The URL of the event store of a service."""
        engine = {"store": self._database} if self._database else {}
        settings = ServiceSettings(service=service, data=str(self._data), **engine)
        return settings.stores[0]

    def kill(self, service: str, role: str) -> str:
        """Kill one instance of a service with SIGKILL; say so."""
        for instance in self.ready["processes"]:
            if (instance["service"], instance["role"]) == (service, role):
                os.kill(instance["pid"], signal.SIGKILL)
                return f"killed a {role} process of {service} (pid {instance['pid']})"
        message = f"no instance of {service} with role {role} is running"
        raise RuntimeError(message)

    def kill_all(self) -> str:
        """Kill all instances of all services at once with SIGKILL; say so."""
        running = [one["pid"] for one in self.ready["processes"] if one["service"] and one["pid"]]
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        return f"killed all {len(running)} processes of all services at once"

    async def dead_letters(self) -> int:
        """Return how many events are parked in all services."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headwater.cli", "dead-letters", "list", "--json"),
            *("--file", str(HERE / "headwater.toml")),
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        output, _ = await process.communicate()
        if process.returncode:
            message = f"headwater dead-letters ended with {process.returncode}"
            raise RuntimeError(message)
        return len(msgspec.json.decode(output))

    async def ended(self) -> None:
        """Wait for the system to end by itself, which it should not.

        Raises:
            RuntimeError: when it has ended.
        """
        assert self._process is not None
        code = await self._process.wait()
        message = f"the system ended with exit code {code}; its log is {self.log}"
        raise RuntimeError(message)

    async def stop(self) -> int:
        """Stop as Ctrl-C does; return the exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
        return await self._process.wait()
