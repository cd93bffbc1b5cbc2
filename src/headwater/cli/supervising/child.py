"""One supervised instance: started, watched, started again when it ends by itself."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from headwater.cli.app import ERROR, WRONG
from headwater.cli.supervising.spawner import Process, Spawner
from headwater.cli.supervising.supervised import MARK

State = Literal["starting", "ready", "waiting", "stopped", "failed"]

_BACK_OFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STABLE_S = 10.0  # who has been ready for this long starts anew with the first pause


class Child:
    """Keeps one instance running, unless it says that it cannot start as things are.

    ``note`` is told in words what happens to it, ``print_line`` gets its output line by line, and
    ``changed`` is called whenever its state or its report has changed.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        spawner: Spawner,
        print_line: Callable[[str], None],
        note: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        """Describe it; `keep_running` starts it."""
        self.name = name
        self.report: dict[str, Any] = {}
        self.state: State = "stopped"
        self.restarts = 0
        self.problem = ""
        self._arguments = tuple(arguments)
        self._environment = dict(environment)
        self._spawner = spawner
        self._print = print_line
        self._note = note
        self._changed = changed
        self._process: Process | None = None
        self._failures = 0
        self._ready_at = 0.0
        self._last_line = ""
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()

    @property
    def pid(self) -> int:
        """The process id; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    async def keep_running(self, pause_s: float = 0.0) -> None:
        """Start it, and again whenever it ends, until `stop`, or until that is of no use."""
        await self._pause(pause_s)
        while not self._stopping.is_set():
            code = await self._run_once()
            if self._stopping.is_set():
                break
            if code == WRONG and self.state == "starting":
                self._give_up()
                return
            pause_s = self._after(code)
            self._set("waiting")
            await self._pause(pause_s)
            self.restarts += 1
        self._set("stopped")
        self._finished.set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def ready(self) -> None:
        """Note that it takes traffic."""
        if self.state == "starting":
            self._ready_at = time.monotonic()
            self.problem = ""
            if self.restarts:
                self._note("is back")
            self._set("ready")

    async def stop(self, grace_s: float) -> bool:
        """Ask it to stop, wait, then kill it; returns whether it stopped by itself."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), grace_s)
            return True
        self._note(f"did not stop within {grace_s:g} s: killed")
        self._signal(signal.SIGKILL)
        return False

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.signal(number)

    def kill(self) -> None:
        """End it at once."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def _run_once(self) -> int:
        self.report = {}
        self._last_line = ""
        self._set("starting")
        try:
            process = await self._spawner.spawn(self._arguments, self._environment, self._line)
        except ConnectionResetError:  # the fork server died; it is being started again
            return 1
        self._process = process
        self._changed()
        if self._stopping.is_set():  # asked to stop while it was being born
            process.signal(signal.SIGTERM)
        code = await process.wait()
        self._process = None
        return code

    def _after(self, code: int) -> float:
        """Say how it ended and return how long to wait before the next start."""
        stable = self.state == "ready" and time.monotonic() - self._ready_at > _STABLE_S
        self._failures = 1 if stable else self._failures + 1
        pause_s = _BACK_OFF_S[min(self._failures, len(_BACK_OFF_S)) - 1]
        self.problem = self._reason or _ending(code)
        when = f"in {pause_s:g} s" if pause_s else "at once"
        self._note(f"{_ending(code)}: starting it again {when}")
        return pause_s

    @property
    def _reason(self) -> str:
        """Why it ended, in its own words; empty when it said nothing."""
        found = self._last_line.startswith(ERROR)
        return self._last_line.removeprefix(ERROR) if found else ""

    def _give_up(self) -> None:
        """Say that to start it again would end in the same way; `stop` has nothing to wait for."""
        self.problem = self._reason or _ending(WRONG)
        self._note("cannot start as it is, and is not started again: correct that first")
        self._finished.set()
        self._set("failed")

    def _line(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "replace").rstrip("\r")
        text, mark, told = text.partition(MARK)
        if mark:
            self.report = msgspec.json.decode(told)
            self._changed()
            if not text:
                return
        self._last_line = text or self._last_line
        self._print(text)

    def _set(self, state: State) -> None:
        self.state = state
        self._changed()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
