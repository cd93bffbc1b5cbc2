"""Lines of many processes on one terminal: prefixed, coloured, in order of their arrival."""

import asyncio
import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TextIO

from headwater.cli.terminal import silence

_LINES_MAX = 10_000
_CLOSE_S_MAX = 2.0
_COLORS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


class Output:
    """Writes prefixed lines to a stream; colours only on a terminal (see no-color.org)."""

    def __init__(
        self,
        names: Sequence[str],
        stream: TextIO | None = None,
        *,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Know the names of all who will write, to align them.

        Args:
            names: who will write.
            stream: where to; standard output when not given.
            lost: called once, in the event loop, when nobody can read any more what is written: the
                terminal was closed, or the program behind a pipe has ended.
        """
        self._stream = stream or sys.stdout
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._pass_on, name="output", daemon=True)
        self._thread.start()
        self.colored = "NO_COLOR" not in os.environ and (
            self._stream.isatty() or os.environ.get("FORCE_COLOR", "") not in ("", "0")
        )
        self._width = max((len(name) for name in names), default=0)
        self._colors = {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(names)}

    def printer(self, name: str) -> Callable[[str], None]:
        """Return a function that writes a line of one process."""
        prefix = self._paint(f"{name:<{self._width}} │", self._colors[name])
        return lambda line: self._write(f"{prefix} {line}\n")

    def noter(self, name: str) -> Callable[[str], None]:
        """Return a function that says something about one process."""
        prefix = self._paint(f"{name:<{self._width}} │", self._colors[name])
        return lambda text: self._write(f"{prefix} {self._paint(f'*** {name} {text}', 1)}\n")

    def say(self, text: str) -> None:
        """Write a line of the supervisor itself."""
        self._write(f"{self._paint(text, 1)}\n")

    def banner(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Write what a person wants to know when the system is up."""
        width = max(len(label) for label, _ in rows)
        lines = [f"  {label:<{width}}  {self._paint(value, 4)}" for label, value in rows]
        self._write("\n".join(["", self._paint(title, 1), *lines, "", ""]))

    def _paint(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colored else text

    async def close(self) -> None:
        """Write what is left; bounded, as whoever reads may have stopped to."""
        self._lines.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSE_S_MAX)

    def _write(self, text: str) -> None:
        """Have it written: never waits, so that a terminal that is held up holds up nothing."""
        if self._lines.qsize() < _LINES_MAX:
            self._lines.put(text)
        else:
            self._dropped += 1

    def _pass_on(self) -> None:
        """Write what comes, on a thread of its own."""
        descriptor = self._stream.fileno()
        while (text := self._lines.get()) is not None:
            if self._dropped:
                text += f"({self._dropped} lines were left out: they were not read in time)\n"
                self._dropped = 0
            rest = text.encode(errors="replace")
            try:
                while rest:
                    select.select([], [descriptor], [])  # whoever made it may want no waiting
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:
                self._end()
                return

    def _end(self) -> None:
        """Nobody reads any more: let nothing else that is written there fail."""
        silence(self._stream)
        if _is_same(self._stream, sys.stderr):
            silence(sys.stderr)
        with contextlib.suppress(RuntimeError):  # the loop is closed: all has stopped
            self._loop.call_soon_threadsafe(self._lost)


def _is_same(one: TextIO, other: TextIO) -> bool:
    return os.path.sameopenfile(one.fileno(), other.fileno())
