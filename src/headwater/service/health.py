"""Whether an instance can do its work now: each of its parts is asked, for a bounded time.

What is answered is true at the moment, whether there is traffic or not, and asking often costs
little: an answer counts for a while, and those who ask meanwhile wait for the same one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import structlog

from headwater._os.limits import shortages
from headwater.errors import HeadwaterError

_GOOD_S, _BAD_S = 2.0, 0.5  # how long an answer counts
_WAIT_S = 0.8  # whoever asks is answered within a second
_LOOK_S = 10.0  # also while nobody asks
_SILENT_S = 10.0  # a part that is only slow is not away

_log = structlog.get_logger("headwater.service")

Ask = Callable[[], Awaitable[object]]


class _Part:
    """What was found out about one part."""

    def __init__(self, name: str, ask: Ask) -> None:
        self._name = name
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = self._good_until = 0.0  # monotonic seconds
        self._found = ""

    def begin(self) -> "asyncio.Task[None] | None":
        """Ask, unless what was found out still counts; return what is under way."""
        if self._asking is None and time.monotonic() >= self._good_until:
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._find_out(), name=f"probe {self._name}")
        return self._asking

    @property
    def problem(self) -> str:
        """What keeps it from working, as far as is known; empty when nothing does."""
        if self._asking is not None:
            silent_s = time.monotonic() - self._asked_at
            if silent_s > _SILENT_S:
                return f"has not answered for {silent_s:.0f} s: see whether it is overloaded"
        return self._found

    async def _find_out(self) -> None:
        try:
            await self._ask()
            self._found = ""
        except HeadwaterError as error:
            self._found = str(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it does not work
            self._found = f"{type(error).__name__}: {error}"
        self._good_until = time.monotonic() + (_BAD_S if self._found else _GOOD_S)
        self._asking = None

    async def stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)


class Health:
    """Asks the parts of an instance, and looks what is left of what the machine lends."""

    def __init__(self, parts: Mapping[str, Ask], *, folders: Sequence[Path] = ()) -> None:
        """Know what to ask.

        Args:
            parts: by name; asking one raises when it does not work.
            folders: where data is kept.
        """
        self._parts = {name: _Part(name, ask) for name, ask in parts.items()}
        self._folders = folders
        self._looked_at = -_GOOD_S
        self._short: dict[str, str] = {}
        self._looking = asyncio.create_task(self._keep_looking(), name="limits of the machine")

    async def problems(self) -> dict[str, str]:
        """Return what keeps parts from working, by name; empty when nothing does.

        Bounded: of a part that does not answer in time it is told what was known before, and after
        some seconds that it is silent.
        """
        asking = [task for part in self._parts.values() if (task := part.begin()) is not None]
        if asking:
            await asyncio.wait(asking, timeout=_WAIT_S)
        return {name: part.problem for name, part in self._parts.items() if part.problem}

    def degraded(self) -> dict[str, str]:
        """Return what there is little left of, by name; it works as long as there is some."""
        if time.monotonic() - self._looked_at >= _GOOD_S:
            self._looked_at = time.monotonic()
            found = {short.name: str(short) for short in shortages(self._folders)}
            for name in found.keys() - self._short.keys():
                _log.warning("running short", of=name, reason=found[name])
            for name in self._short.keys() - found.keys():
                _log.info("no longer short", of=name)
            self._short = found
        return self._short

    async def _keep_looking(self) -> None:
        while True:
            self.degraded()
            await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """Ask no more."""
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)
        await asyncio.gather(*(part.stop() for part in self._parts.values()))


__all__ = ["Ask", "Health"]
