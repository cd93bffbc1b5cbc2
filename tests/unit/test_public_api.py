"""What is public: each room's `__all__`, documented, and light to import."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import headwater

SOURCE = Path(headwater.__file__).parent
ROOMS = sorted(m.name for m in pkgutil.iter_modules([str(SOURCE)]) if not m.name.startswith("_"))
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"aiohttp", "apsw", "litestar", "prometheus_client", "pytest", "uvicorn", "watchfiles"}


def room(name: str) -> ModuleType:
    return importlib.import_module(f"headwater.{name}")


@pytest.mark.parametrize("name", ROOMS)
def test_all_is_what_is_there(name: str) -> None:
    """A room's `__all__` is sorted, complete, and names only what exists."""
    module = room(name)
    exported = module.__all__
    assert sorted(exported) == sorted(set(exported))
    for each in exported:
        assert hasattr(module, each), f"{name} exports {each}, which does not exist"
    public = {
        each
        for each, value in vars(module).items()
        if not each.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "").startswith("headwater.")
    }
    assert public <= set(exported), f"{name} does not export {public - set(exported)}"


def test_one_name_means_one_thing() -> None:
    """No two rooms export different things under one name."""
    places: dict[str, tuple[str, Any]] = {}
    for name in [*ROOMS, "testing.history"]:
        for each in room(name).__all__:
            place, known = places.setdefault(each, (name, getattr(room(name), each)))
            assert getattr(room(name), each) is known, f"{each} of {place} and of {name}"


def test_the_face_is_what_the_stub_says() -> None:
    """What type checkers see of the package itself is what can be imported, from the same rooms."""
    stub = ast.parse((SOURCE / "__init__.pyi").read_text())
    told: dict[str, str] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            told |= {each.name: f"headwater.{node.module}" for each in node.names}
        elif isinstance(node, ast.Assign):
            assert ast.literal_eval(node.value) == sorted(
                told, key=lambda name: (name[0].islower(), name)
            )
    assert sorted(told) == sorted(headwater.__all__)
    for name, place in told.items():
        assert getattr(headwater, name) is getattr(importlib.import_module(place), name)
        assert name in dir(headwater)
    with pytest.raises(ImportError, match="cannot import name 'Agregate'"):
        exec("from headwater import Agregate")  # as somebody would write it


def test_the_face_costs_nothing() -> None:
    """Importing the package itself imports none of its rooms, nor what they need."""
    program = "import importlib, sys; before = set(sys.modules); import headwater; "
    program += "print(*set(sys.modules) - before)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == ["headwater"]


def documented(name: str, value: Any) -> list[str]:
    """Return the public parts of something public that have no docstring."""
    bare: list[str] = []
    if inspect.isclass(value) or inspect.isfunction(value):
        if not inspect.getdoc(value):
            bare.append(name)
        if inspect.isclass(value):
            for each, member in vars(value).items():
                of_ours = inspect.isfunction(member) or isinstance(member, property)
                if of_ours and not each.startswith("_") and not inspect.getdoc(member):
                    bare.append(f"{name}.{each}")
    return bare


@pytest.mark.parametrize("name", ROOMS)
def test_public_is_documented(name: str) -> None:
    """Everything exported has a docstring, its public methods included."""
    module = room(name)
    bare = [gap for each in module.__all__ for gap in documented(each, getattr(module, each))]
    assert bare == []


def test_version_is_stated() -> None:
    """The package states its version."""
    assert headwater.__version__


@pytest.mark.parametrize("name", ["", *(f".{each}" for each in ROOMS)])
def test_imports_are_light(name: str) -> None:
    """Importing a room brings no server, driver or test framework along."""
    program = f"import sys, headwater{name}; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert HEAVY.isdisjoint(printed.split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_are_short(path: Path) -> None:
    """No file is longer than 500 lines, no function than 50 (its docstring not counted)."""
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            assert lines <= 50, f"{node.name} has {lines} lines"


TESTS = sorted((Path(__file__).parents[1]).rglob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_each_test_states_its_rule(path: Path) -> None:
    """Each test has a docstring that states its rule."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not node.name.startswith("test_") or ast.get_docstring(node), node.name
