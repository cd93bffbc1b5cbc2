"""What the pages tell people to type is understood, and is run somewhere, or says why not."""

import re

import pytest
from cyclopts import App

from headwater.cli.app import build_app
from tests.consoles import ROOT, Console, consoles

RUN = {
    "README.md": "tests/system/test_walkthroughs.py",
    "docs/how-to/move-to-postgresql.md": "tests/system/test_move_to_postgresql.py",
    "docs/tutorial/first-service.md": "tests/system/test_walkthroughs.py",
}
"""Which test runs a page; all others are run by ``tests/system/test_consoles.py``."""


@pytest.fixture(scope="module")
def app() -> App:
    return build_app()


@pytest.mark.parametrize("console", consoles(), ids=lambda console: console.page)
def test_headwater_lines_are_understood(console: Console, app: App) -> None:
    """Each command that a page shows exists, with these options and arguments."""
    for typed in console.typed:
        if typed.line.startswith("headwater "):
            app.parse_args(typed.words[1:], print_error=False, exit_on_error=False)


def test_commands_in_sentences_exist(app: App) -> None:
    """A command that a sentence names exists."""
    known = {*app} | {f"{name} {below}" for name in app for below in app[name]}
    for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        if "adr" not in file.parts:
            for named in re.findall(
                r"`headwater ([a-z][a-z-]+(?: [a-z][a-z-]+)?)[^`]*`", file.read_text()
            ):
                assert named in known or named.partition(" ")[0] in known, f"{file}: {named}"


def test_goals_of_make_exist() -> None:
    """Each goal of make that a page names exists."""
    makefile = (ROOT / "Makefile").read_text()
    named = {t.words[1] for c in consoles() for t in c.typed if t.line.startswith("make ")}
    assert len(named) > 4
    for goal in named:
        assert re.search(rf"^{goal}:", makefile, re.MULTILINE), goal


def test_each_block_is_run_or_says_why_not() -> None:
    """A page with lines to type is run by a test, or each of its blocks says why it is not."""
    run = (ROOT / "tests/system/test_consoles.py").read_text()
    for console in consoles():
        if not console.why and console.page not in RUN:
            assert f'"{console.page}"' in run, f"{console.page}: run it, or say why not"
    for page, test in RUN.items():
        assert page.rpartition("/")[2] in (ROOT / test).read_text()
