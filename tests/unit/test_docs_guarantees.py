"""The table of guarantees names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/guarantees.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| promise |"))
]


def defined(path: Path, names: list[str]) -> bool:
    """Whether a file defines a function, or a class with a method, of these names."""
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for name in names:
        found = [
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == name
        ]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_each_promise_has_a_test_and_a_broken_safeguard(row: list[str]) -> None:
    """A row has three cells; each test it names exists, at that place."""
    assert len(row) == 3
    assert all(row)
    tests = re.findall(r"`([^`]+)`", row[1])
    assert tests
    for test in tests:
        path, *names = test.split("::")
        assert names, f"{test}: name a test of the file, path::test"
        assert defined(ROOT / path, names), f"{test} does not exist"
