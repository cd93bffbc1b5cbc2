"""The reference pages are complete."""

import pkgutil
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

import headwater
from headwater.errors import HeadwaterError
from headwater.gateway.model import GatewaySettings
from headwater.messages import headers
from headwater.service import ServiceSettings

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def errors_below(cls: type[HeadwaterError]) -> list[type[HeadwaterError]]:
    own = [each for each in cls.__subclasses__() if each.__module__.startswith("headwater.errors.")]
    return [each for direct in own for each in (direct, *errors_below(direct))]


@pytest.mark.parametrize("cls", errors_below(HeadwaterError))
def test_errors(cls: type[HeadwaterError]) -> None:
    """Each error is listed with its code, status and fields."""
    fields = ", ".join(f"`{name}`" for name in cls._names) or "-"
    assert f"`{cls.__name__}` | `{cls.code}` | {cls.status} | {fields} |" in page(
        "reference/errors.md"
    )


@pytest.mark.parametrize("kind", [ServiceSettings, GatewaySettings])
def test_settings(kind: type[msgspec.Struct]) -> None:
    """Each setting is listed with its default and a meaning."""
    text = page("reference/settings.md")
    for field in msgspec.structs.fields(kind):
        default = "required" if field.required else str(field.default)
        shown = {"": "-", "()": "-", "required": "required"}.get(default, f"`{default}`")
        row = rf"^\| `{field.name}` \| {re.escape(shown)} \| \S.*\|$"
        assert re.search(row, text, re.MULTILINE), f"{field.name} with default {shown}"


def test_headers() -> None:
    """Each header that carries something is listed."""
    text = page("reference/http.md").lower()
    names = [
        value
        for name, value in vars(headers).items()
        if name.isupper() and name[0] != "_" and isinstance(value, str)
    ]
    assert len(names) >= 8
    for name in names:
        assert f"`{name}`" in text


def test_decisions_are_dated_and_listed() -> None:
    """Each decision has a date, and is in the list."""
    listed = page("adr/index.md")
    decisions = sorted((DOCS / "adr").glob("0*.md"))
    assert re.findall(r"^\d{4}-\S+$", listed, re.MULTILINE) == [d.stem for d in decisions]
    for decision in decisions:
        assert re.search(r"^\*\d{4}-\d{2}-\d{2}, accepted\*$", decision.read_text(), re.MULTILINE)


def test_each_room_has_a_page() -> None:
    """Each public room has a page of the API reference; the command line has its own."""
    rooms = {each.name for each in pkgutil.iter_modules(headwater.__path__)}
    listed = page("reference/api/index.md")
    for room in sorted(rooms - {"cli"}):
        if not room.startswith("_"):
            assert f"<!-- room {room} -->" in page(f"reference/api/{room}.md")
            assert f"\n{room}\n" in listed


def test_the_command_line_is_read_from_the_commands() -> None:
    """What the pages say of commands and of the package is made when they are built."""
    program = """
import sys
sys.path.insert(0, "docs/_ext")
import generated
print(generated.commands(), generated.face(), *map(generated.entries, generated.DOCUMENTED))
"""
    made = subprocess.run(
        [sys.executable, "-c", program], cwd=DOCS.parent, capture_output=True, text=True, check=True
    ).stdout
    assert "## headwater dead-letters retry" in made
    assert "`--at-version INT`" in made
    assert ".. autoclass:: headwater.messages.Command" in made
    assert ".. py:function:: get(" in made
    for name in headwater.__all__:
        assert re.search(rf"\| {{py:obj}}`{name} <headwater\.\w+\.{name}>` \| \S", made), name
    assert generated_marks() == {"<!-- commands -->": 1, "<!-- face -->": 1}


def generated_marks() -> dict[str, int]:
    """Return how many pages ask for what is generated."""
    texts = [each.read_text() for each in DOCS.rglob("*.md")]
    return {
        mark: sum(mark in text for text in texts) for mark in ("<!-- commands -->", "<!-- face -->")
    }


def test_layers_are_those_that_are_checked() -> None:
    """The layers that the page on the architecture shows are those that hold."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert "```text\n" + "\n".join(layers) + "\n```" in page("explanation/architecture.md")


def test_words_lead_to_pages() -> None:
    """A word leads to one page only, and that page is there."""
    words = tomllib.loads(page("words.toml"))
    all_words = [word for listed in words.values() for word in listed]
    assert sorted(all_words) == sorted(set(all_words))
    assert "saga" in words["how-to/write-a-saga"]
    for name in words:
        assert (DOCS / f"{name}.md").exists(), name
    for each in DOCS.rglob("*.md"):
        assert "{index}" not in each.read_text(), f"{each}: its words belong into words.toml"


def test_pictures_are_as_drawn() -> None:
    """The pictures in the documentation are those that their script draws, each of them shown."""
    drawn = runpy.run_path(str(DOCS.parent / "scripts/pictures.py"))["DRAWN"]
    for name, draw in drawn.items():
        assert (DOCS / f"pictures/{name}.svg").read_text() == draw(), name
    assert sorted(drawn) == sorted(each.stem for each in (DOCS / "pictures").glob("*.svg"))
    shown = "".join(each.read_text() for each in DOCS.rglob("*.md"))
    for name in drawn:
        assert f"pictures/{name}.svg" in shown
