"""Whether an instance can do its work now: each of its parts is asked, for a bounded time.

What is answered is true at the moment, whether there is traffic or not, and asking often costs
little: an answer counts for a while, and those who ask meanwhile wait for the same one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from headwater.errors import HeadwaterError

_GOOD_S, _BAD_S = 2.0, 0.5  # how long an answer counts
_WAIT_S = 0.8  # whoever asks is answered within a second
_SILENT_S = 10.0  # a part that is only slow is not away

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
    """Asks the parts of an instance."""

    def __init__(self, parts: Mapping[str, Ask]) -> None:
        """Know the parts by name; asking one raises when it does not work."""
        self._parts = {name: _Part(name, ask) for name, ask in parts.items()}

    async def problems(self) -> dict[str, str]:
        """Return what keeps parts from working, by name; empty when nothing does.

        Bounded: of a part that does not answer in time it is told what was known before, and after
        some seconds that it is silent.
        """
        asking = [task for part in self._parts.values() if (task := part.begin()) is not None]
        if asking:
            await asyncio.wait(asking, timeout=_WAIT_S)
        return {name: part.problem for name, part in self._parts.items() if part.problem}

    async def stop(self) -> None:
        """Ask no more."""
        await asyncio.gather(*(part.stop() for part in self._parts.values()))


__all__ = ["Ask", "Health"]
