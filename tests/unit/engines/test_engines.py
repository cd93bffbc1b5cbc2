"""Engines are found by the schemes of URLs; what is wrong says which package is at fault."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.engines import Engine, Engines
from headwater.errors import ConfigurationError

GROUP = "headwater.tests"
Install = Callable[[str, str, str], None]

own = Engine(shared=True)
not_an_engine = object()
engines = Engines(Engine, GROUP, what="toy", own={"own": f"{__name__}:own"})


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return what installs a package with one module and one entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(package: str, point: str, source: str = "") -> None:
        monkeypatch.delitem(sys.modules, package, raising=False)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{point}\n")
        (tmp_path / f"{package}.py").write_text(source)

    return install


def refusal(url: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        engines.of(url)
    return str(caught.value)


def test_own_ones_are_found_by_scheme() -> None:
    """What comes after the colon is the engine's business."""
    assert engines.of("own:") is engines.of("own://user@host/x") is own


def test_registered_ones_are_found(install: Install) -> None:
    """A package that is installed needs nothing else than its entry point."""
    source = "from headwater.engines import Engine\nENGINE = Engine(shared=False)\n"
    install("toys", "other = toys:ENGINE", source)
    assert engines.of("other:x").shared is False
    assert "'other', 'own'" in refusal("third:x")


def test_an_unknown_scheme_is_told_with_those_there_are() -> None:
    """The message says what there is, how one is registered, and holds no password."""
    said = refusal("mine://user:secret@host/x")
    assert "toy 'mine': there is no engine for this scheme, only 'own'" in said
    assert f"entry point 'mine' in the group {GROUP!r}" in said
    assert "secret" not in said


def test_what_is_no_url_is_told() -> None:
    """A path alone names no engine."""
    assert "is no URL: expected one of 'own'" in refusal("data/events.db")


def test_a_broken_package_is_named(install: Install) -> None:
    """Who cannot be imported is named with its version, and what it says."""
    install("broken", "other = broken:ENGINE", "raise RuntimeError('no driver')")
    said = refusal("other:x")
    assert "package broken 1.2 (broken:ENGINE) cannot be imported (RuntimeError: no driver)" in said


def test_what_is_no_engine_is_refused(install: Install) -> None:
    """An entry point may lead to anything."""
    install("toys", "other = toys:ENGINE", "ENGINE = 7\n")
    assert "package toys 1.2 registers toys:ENGINE, which is of type int" in refusal("other:x")


def test_two_of_one_scheme_are_refused(install: Install) -> None:
    """Which of two packages is meant is not guessed."""
    install("one", "other = one:ENGINE", "")
    install("two", "other = two:ENGINE", "")
    assert "uninstall all but one: 'one 1.2', 'two 1.2'" in refusal("other:x")


def test_our_own_schemes_stay_ours(install: Install) -> None:
    """A package cannot take a scheme of Headwater over."""
    install("thief", "own = thief:ENGINE", "raise RuntimeError")
    assert engines.of("own:x") is own
