"""Keeps all processes of a system running, knows when it is ready, and stops it in order."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headwater._os.files import write_atomically
from headwater.cli.app import ERROR, WRONG
from headwater.cli.supervising.child import Child
from headwater.cli.supervising.output import Output
from headwater.cli.supervising.plan import Part, Ports
from headwater.cli.supervising.spawner import Spawner
from headwater.operations.system import System

_EXTRA_S = 5.0  # beyond its own drain time, before a process is killed
_STILL_WAITING_S = 10.0


class Supervisor:
    """Runs the parts of a system, each in a process of its own."""

    def __init__(
        self,
        system: System,
        parts: list[Part],
        ports: Ports,
        *,
        spawner: Spawner,
        output: Output,
        ready_file: Path | None = None,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            system: the system.
            parts: its processes.
            ports: where the platform listens.
            spawner: starts processes.
            output: where lines go.
            ready_file: kept up to date while the system is ready; removed at the end.
        """
        self._system = system
        self._ports = ports
        self._spawner = spawner
        self._output = output
        self._ready_file = ready_file
        self._status_file = system.data / "up.json"
        self._began = time.monotonic()
        self._changed = asyncio.Event()
        self._hopeless = asyncio.Event()
        self._given_up: set[str] = set()
        self._told: set[str] = set()  # errors of a start: those of several instances are one
        self._was_ready = False
        self._parts = {part.name: part for part in parts}
        self._children = {part.name: self._child(part) for part in parts}

    def _child(self, part: Part) -> Child:
        path = os.pathsep.join(
            [*map(str, self._system.python_path), os.environ.get("PYTHONPATH", "")]
        ).rstrip(os.pathsep)
        environment = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **part.environment}
        if self._output.colored:
            environment.setdefault("FORCE_COLOR", "1")
        return Child(
            part.name,
            part.arguments,
            environment,
            spawner=self._spawner,
            print_line=self._printer(part.name),
            note=self._output.noter(part.name),
            changed=self._changed.set,
        )

    def _printer(self, name: str) -> Callable[[str], None]:
        """Return what prints the lines of a process, but no error that has just been printed."""
        print_line = self._output.printer(name)

        def line(text: str) -> None:
            if text.startswith(ERROR):
                if text in self._told:
                    return
                self._told.add(text)
            print_line(text)

        return line

    async def run(self, stop: asyncio.Event, pauses_s: Mapping[str, float]) -> int:
        """Run everything until ``stop`` is set, then stop everything in order.

        It ends by itself when a part cannot start as it is, and nothing works yet or nothing can
        work without that part.

        Args:
            stop: when it is time to end.
            pauses_s: how long parts wait before they are started for the first time.

        Returns:
            The exit code: 0, or that of a part that could not start as it is.
        """
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)  # of one that was killed
        running = [
            asyncio.create_task(child.keep_running(pauses_s.get(name, 0.0)), name=f"keep {name}")
            for name, child in self._children.items()
        ]
        running.append(asyncio.create_task(self._track(), name="track readiness"))
        reminding = asyncio.create_task(self._remind(), name="remind")  # ends when all is ready
        ends = [asyncio.create_task(event.wait()) for event in (stop, self._hopeless)]
        try:
            await _first(ends, running)
        finally:
            for task in (*ends, reminding, running[-1]):
                task.cancel()
            self._status_file.unlink(missing_ok=True)
            if self._ready_file is not None:
                self._ready_file.unlink(missing_ok=True)
            await self._stop()
            await asyncio.gather(*running, *ends, reminding, return_exceptions=True)
        failed = any(child.state == "failed" for child in self._children.values())
        return WRONG if failed else 0

    def kill(self) -> None:
        """End everything at once."""
        for child in self._children.values():
            child.kill()

    async def _stop(self) -> None:
        """Stop the gateway, then the services, then the platform; each step is bounded."""
        for kinds in (("gateway",), ("instance",), ("config", "discovery")):
            parts = [part for part in self._parts.values() if part.kind in kinds]
            await asyncio.gather(
                *(self._children[p.name].stop(p.drain_s + _EXTRA_S) for p in parts)
            )

    async def _track(self) -> None:
        """Follow the state of everything; print the banner when all is ready for the first time."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for name, child in self._children.items():
                if child.report:
                    child.ready()
                elif child.state == "failed":
                    self._failed(name)
            ready = self._is_ready()
            if ready and not self._was_ready:
                self._was_ready = True
                self._told.clear()
                self._banner()
            status = self._status(ready=ready)
            _write(self._status_file, status)
            if self._was_ready and self._ready_file is not None:
                _write(self._ready_file, status)

    def _failed(self, name: str) -> None:
        """End everything that cannot work without a part that cannot start."""
        if name in self._given_up:
            return
        self._given_up.add(name)
        if self._was_ready and self._parts[name].kind == "instance":
            self._output.say(f"the others go on without {name}")
        else:
            self._output.say(f"stopping, as {name} cannot start")
            self._hopeless.set()

    def _is_ready(self) -> bool:
        if any(child.state != "ready" for child in self._children.values()):
            return False
        reached = self._children["gateway"].report.get("instances", {})
        return all(count <= reached.get(name, 0) for name, count in self._expected().items())

    def _expected(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for part in self._parts.values():
            if part.kind == "instance":
                counts[part.service] = counts.get(part.service, 0) + 1
        return counts

    def _status(self, *, ready: bool) -> dict[str, Any]:
        return {
            "system": self._system.name,
            "ready": ready,
            "supervisor": os.getpid(),
            "gateway": self._ports.url("gateway"),
            "discovery": self._ports.url("discovery"),
            "config": self._ports.url("config"),
            "data": str(self._system.data),
            "processes": [
                {
                    "name": part.name,
                    "kind": part.kind,
                    "service": part.service,
                    "role": part.role,
                    "pid": child.pid or None,
                    "url": child.report.get("url", ""),
                    "state": child.state,
                    "restarts": child.restarts,
                }
                for part in self._parts.values()
                for child in [self._children[part.name]]
            ],
        }

    def _banner(self) -> None:
        url = self._ports.url
        rows = [("gateway", url("gateway"))]
        names = [n for n in self._system.services if n in self._expected()]
        rows += [(f"{name} API", f"{url('gateway')}/services/{name}/docs") for name in names]
        rows += [("discovery", f"{url('discovery')}/"), ("configuration", f"{url('config')}/")]
        count = len(self._parts)
        took_s = time.monotonic() - self._began
        title = f"{self._system.name} is up: {count} processes in {took_s:.1f} s. Ctrl-C stops it."
        self._output.banner(title, rows)

    async def _remind(self) -> None:
        """Say now and then what the start is waiting for."""
        while not self._was_ready:
            await asyncio.sleep(_STILL_WAITING_S)
            late = [
                f"{name} ({child.problem or child.state})"
                for name, child in self._children.items()
                if child.state != "ready"
            ]
            if not self._was_ready:
                self._output.say(f"still waiting for {', '.join(late) or 'the gateway'}")


async def _first(ends: Sequence[asyncio.Task[Any]], running: Sequence[asyncio.Task[None]]) -> None:
    """Return when one of ``ends`` is done; raise what ends one of the others, a fault of ours."""
    waiting = {*ends, *running}
    while not any(task.done() for task in ends):
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _write(path: Path, content: Any) -> None:
    """Replace a file in one step, so that nobody reads half of it."""
    text = msgspec.json.format(msgspec.json.encode(content), indent=2)
    with contextlib.suppress(OSError):
        write_atomically(path, text, durable=False)
