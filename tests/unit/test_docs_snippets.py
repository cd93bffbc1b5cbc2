"""The Python blocks of the documentation run as written."""

import ast
import asyncio
import inspect
import re
import sys
import textwrap
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^( *)```python\n(?!# \S+\.py\n)(.*?)^ *```$", re.MULTILINE | re.DOTALL)


_NOT_RUN = re.compile(r"^ *```py\n(.*)\n", re.MULTILINE)


def program(text: str) -> str:
    """Return the blocks of a page as one program, each line at its number in the page."""
    lines = [""] * (text.count("\n") + 1)
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(2))
        for number, line in enumerate(textwrap.dedent(block[2]).splitlines(), first):
            lines[number] = line
    return "\n".join(lines)


def pages() -> list[str]:
    """Return the pages that have Python blocks."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(page.relative_to(ROOT)) for page in found if _BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", pages())
def test_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page, in order, are one module that runs; it may await at its top level."""
    source = program((ROOT / page).read_text())
    code = compile(source, str(ROOT / page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    name = "docs_" + re.sub(r"\W", "_", page)
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    outcome = eval(code, module.__dict__)
    if inspect.iscoroutine(outcome):
        asyncio.run(outcome)


@pytest.mark.parametrize("page", pages())
def test_who_types_it_knows_how(page: str) -> None:
    """A page that awaits outside of a function says where that works; Python alone refuses it."""
    text = (ROOT / page).read_text()
    try:
        compile(program(text), page, "exec")
    except SyntaxError:
        assert "python -m asyncio" in text


def test_what_is_not_run_says_why() -> None:
    """A block of Python that is not run (`py`) begins with a comment that says what it is."""
    for page in pages():
        for block in _NOT_RUN.finditer((ROOT / page).read_text()):
            assert block[1].startswith("# "), page


def test_program_keeps_line_numbers() -> None:
    """A failing line is reported where it stands in the page; other blocks do not run."""
    page = (
        "# A\n\n```python\na = 1\n```\n\n```sh\nrm x\n```\n\n- b\n\n  ```python\n  b = 2\n  ```\n"
    )
    lines = program(page).splitlines()
    assert [(number, line) for number, line in enumerate(lines, 1) if line] == [
        (4, "a = 1"),
        (14, "b = 2"),
    ]


def test_there_are_pages() -> None:
    """The search finds the documentation."""
    assert "docs/how-to/call-another-service.md" in pages()
