"""The demo: real purchases through the whole bank, processes killed meanwhile."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.postgres_server import POSTGRES

BANK = Path(__file__).parents[2] / "examples/bank"


async def _demo(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(BANK / "demo.py"), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return await process.wait(), output.decode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["sqlite", POSTGRES])
async def test_books_are_right_to_the_cent(backend: str):
    """With processes killed on the way, every check holds, the logs bear out all answers."""
    code, output = await _demo("--every", "200", "--backend", backend)
    assert code == 0, output
    assert "killed a command process of accounts" in output
    assert "killed all 7 processes of all services at once" in output
    assert "killed a query process of accounts" in output
    assert "WRONG" not in output
    assert re.search(r"history: [\d,]{3,} calls, [\d,]{3,} events, 0 violations", output)
    assert "The books are right, to the cent." in output
