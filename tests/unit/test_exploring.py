"""Exploring: what it finds is kept, and found again by every other run."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis.database import choices_from_bytes

from tests import exploring
from tests.exploring import Finding, Found, findings
from tests.unit.test_docs_guarantees import defined

ROOT = Path(__file__).parents[2]

PROJECT = {
    "conftest.py": """
from pathlib import Path
from tests import exploring
from tests.conftest import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_terminal_summary,
)
exploring.DIRECTORY = Path(__file__).parent / "found"
""",
    "test_rare.py": """
from hypothesis import Phase, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

@given(st.integers(0, 2**20))
def test_number(number):
    assert number % 997 != 13

LIMITS = settings(max_examples=60, phases=[Phase.reuse, Phase.generate])

class Digits(RuleBasedStateMachine):
    total = 0

    @rule(digit=st.integers(0, 9))
    def add(self, digit):
        self.total = self.total * 10 + digit
        assert self.total % 1000 != 123

class TestDigits(Digits.TestCase):
    settings = LIMITS

def test_digits():
    run_state_machine_as_test(Digits, settings=LIMITS)

def test_no_exploring():
    pass
""",
}
TESTS = ["TestDigits::runTest", "test_digits", "test_number"]


class Project:
    """Some tests that fail rarely, in a directory of their own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name, text in PROJECT.items():
            (place / name).write_text(text)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a program of ours on these tests; return its exit code and output."""
        done = subprocess.run(
            [sys.executable, *arguments, "-p", "no:cacheprovider", "test_rare.py"],
            cwd=self.place,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=110,
            check=False,
        )
        return done.returncode, done.stdout

    def explore(self, *arguments: str) -> tuple[int, str]:
        return self.run(str(ROOT / "scripts/explore.py"), *arguments)

    def test(self) -> tuple[int, str]:
        return self.run("-m", "pytest", "-q", "-n", "0")

    def found(self) -> list[Finding]:
        files = sorted(self.place.glob("found/*.json"))
        return [msgspec.json.decode(file.read_bytes(), type=Finding) for file in files]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.timeout(240)
def test_what_is_found_is_found_again(project: Project) -> None:
    """Exploring says its seed, and finds the same with it; from then on every run does."""
    code, output = project.explore("--seed", "17")
    assert code == 1
    assert output.splitlines()[0] == "== explore SEED=17"
    assert output.splitlines()[-1].startswith("== explore SEED=17 found something")
    assert "explored with SEED=17" in output
    found = project.found()
    assert sorted(each.test.partition("::")[2] for each in found) == TESTS
    for each in found:
        assert f"make explore SEED=17 TESTS='{each.test}'" in output
        assert each.seed == "17"
        assert any("Failing" in line or "Falsifying" in line for line in each.example)
    project.explore("--seed", "17", "-k", "number")
    assert project.found() == found
    # So few that no run finds anything by itself.
    file = project.place / "test_rare.py"
    file.write_text(file.read_text().replace("max_examples=60", "max_examples=1"))
    code, output = project.test()
    assert (code, "3 failed, 1 passed" in output) == (1, True), output
    for file in project.place.glob("found/*.json"):
        file.unlink()
    code, output = project.test()
    assert (code, "4 passed" in output) == (0, True), output


def test_exploring_ends_in_time(project: Project) -> None:
    """What would begin after its time is left out."""
    code, output = project.explore("--minutes", "0.0001")
    assert code == 0
    assert "SEED=" in output or "== explored 0 rounds" in output
    assert not project.found()


def test_no_test_keeps_the_inputs_to_itself() -> None:
    """Whether inputs are chosen anew, and what was found before, is for the profile to say."""
    own = re.compile(r"settings\([^)]*\b(derandomize|database)=")
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path != Path(exploring.__file__):
            assert not own.search(path.read_text()), f"{path}: leave it to the profile"


def test_findings_are_readable() -> None:
    """Each finding names a test that exists, in a form that this hypothesis reads."""
    for each in findings():
        path, *names = each.test.partition("[")[0].split("::")
        names = [name for name in names if name != "runTest"]
        assert defined(ROOT / path, names), f"{each.test} does not exist: remove its finding"
        assert choices_from_bytes(each.choices()) is not None, f"{each.test}: find it anew"


def test_every_run_reads_the_findings() -> None:
    """The usual profile chooses the same inputs each time, and yet has a database."""
    profile = settings.get_profile("same")
    assert profile.derandomize
    assert isinstance(profile.database, Found)
