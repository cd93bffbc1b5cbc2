"""What the README and the tutorial tell people to type works as typed."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.system.walkthrough import curl_lines, play, system_in, type_in, write_files

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs/tutorial/first-service.md"


def test_pages_have_lines() -> None:
    """Both pages have lines to type, refusals among them."""
    for page in (README, TUTORIAL):
        statuses = {line.status for line in curl_lines(page)}
        assert len(curl_lines(page)) > 5
        assert statuses & {404, 409, 422}
        assert 200 in statuses


@pytest.mark.timeout(180)
async def test_readme(tmp_path: Path) -> None:
    """The README's curl lines work, in order, against the bank."""
    bank = tmp_path / "bank"
    shutil.copytree(ROOT / "examples/bank", bank, ignore=shutil.ignore_patterns(".headwater"))
    async with system_in(bank) as gateway:
        bodies = await play(README, gateway)
        await type_in(bank, README)
    assert [json.loads(body)["duplicate"] for body in bodies[3:5]] == [False, True]
    assert "holds 5000 cents, 900000 were asked" in bodies[5]


@pytest.mark.timeout(180)
async def test_tutorial(tmp_path: Path) -> None:
    """The tutorial's files make a system whose curl lines work."""
    write_files(TUTORIAL, tmp_path)
    assert (tmp_path / "headwater.toml").exists()
    async with system_in(tmp_path) as gateway:
        bodies = await play(TUTORIAL, gateway)
        printed = await type_in(tmp_path, TUTORIAL)
    assert "BookLent" in printed[0]
    assert json.loads(printed[2])["state"]["reader"] == "Eve"
    assert "lent to 'Eve'" in bodies[3]
    assert [book["id"] for book in json.loads(bodies[5])] == ["b1"]


def test_tutorial_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tutorial's own tests pass."""
    write_files(TUTORIAL, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    try:
        module = __import__("library.test_book", fromlist=["*"])
        rules = [getattr(module, name) for name in dir(module) if name.startswith("test_")]
        assert len(rules) == 4
        for rule in rules:
            rule()
    finally:
        for name in {name for name in sys.modules if name.split(".")[0] == "library"} - before:
            del sys.modules[name]
