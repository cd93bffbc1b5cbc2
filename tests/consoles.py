"""What the pages tell people to type: blocks that begin with ``$``, and lines of ``headwater``."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<kind>console|sh)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Typed(NamedTuple):
    """A line to type, without its comment, and what the page says that it prints."""

    line: str
    printed: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The words that a shell makes of it."""
        return shlex.split(self.line, comments=True)


class Console(NamedTuple):
    """A block of a page; ``why`` says why it is not run, if it is not."""

    page: str
    why: str
    typed: tuple[Typed, ...]


def consoles() -> list[Console]:
    """Return all blocks of the documentation and the README."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        Console(str(file.relative_to(ROOT)), block["why"] or "", tuple(_typed(block)))
        for file in files
        for block in _BLOCK.finditer(file.read_text())
    ]


def consoles_of(page: str) -> list[Typed]:
    """Return the lines of a page that are to be run, in order."""
    return [
        line for block in consoles() if block.page == page and not block.why for line in block.typed
    ]


def _typed(block: re.Match[str]) -> list[Typed]:
    lines = block["text"].splitlines()
    if block["kind"] == "sh":
        return [Typed(line, ()) for line in lines]
    found: list[Typed] = []
    for line in lines:
        if line.startswith("$ "):
            found.append(Typed(line[2:], ()))
        else:
            found[-1] = found[-1]._replace(printed=(*found[-1].printed, line))
    return found
