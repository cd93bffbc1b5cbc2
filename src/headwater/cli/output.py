"""Lines of many processes on one terminal: prefixed, coloured, in order of their arrival."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 180
_COLORS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


def console() -> "Console":
    """Return the console for tables and progress; in a pipe it is wide, nothing is cut."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_PIPE_WIDTH if piped else None)


class Output:
    """Writes prefixed lines to a stream; colours only on a terminal (see no-color.org)."""

    def __init__(self, names: Sequence[str], stream: TextIO | None = None) -> None:
        """Know the names of all who will write, to align them."""
        self._stream = stream or sys.stdout
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

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:  # the reader has gone; the system goes on
            self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # kept
