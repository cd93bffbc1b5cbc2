"""The reference pages are complete."""

import re
from pathlib import Path

import msgspec
import pytest

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
