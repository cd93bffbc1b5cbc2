"""The how-to on tables of one's own, on the other database, too."""

import ast
import sys
import types

import pytest

from tests.unit.test_docs_snippets import ROOT, program

PAGE = "docs/how-to/keep-own-tables.md"
FILE = '"sqlite:sales.db"'


async def test_the_same_program_on_postgresql(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tables with a join and sums answer the same, with nothing changed but the URL."""
    source = program((ROOT / PAGE).read_text())
    assert FILE in source
    source = source.replace(FILE, repr(postgres_url))
    code = compile(source, PAGE, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    module = types.ModuleType("docs_own_tables")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    await eval(code, module.__dict__)
