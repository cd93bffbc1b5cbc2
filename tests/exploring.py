"""Hypothesis: the same inputs in every run, others in `make explore`, and again what it found.

What exploring finds is written into ``tests/found``, a file for each finding, to be committed.
Every other run tries these first, so that what was found once is found again, until it is mended,
and after that if it comes back. A file names its test, and shows in ``example`` what was found.
"""

import base64
import os
import re
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import hypothesis
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import ExampleDatabase

DIRECTORY = Path(__file__).parent / "found"
_BLOB = re.compile(r"@reproduce_failure\('[^']+', b'([^']+)'\)")
_PARTS = (b".secondary", b".pareto")  # of a database, beside what fails


class Finding(msgspec.Struct, frozen=True):
    """An input that failed: of which test, and as what hypothesis knows it."""

    test: str
    seed: str
    hypothesis: str
    blob: str
    example: list[str]

    def choices(self) -> bytes:
        """Return what hypothesis keeps in a database: the choices that led to the input."""
        content = base64.b64decode(self.blob)
        return zlib.decompress(content[1:]) if content[:1] == b"\1" else content[1:]


class Found(ExampleDatabase):
    """The findings, to be read. They belong to a test by its name: so it may be edited."""

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """Return what was found by the test that runs."""
        if key.endswith(_PARTS):
            return
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        yield from (each.choices() for each in findings() if each.test == test)

    def save(self, key: bytes, value: bytes) -> None:
        """Leave it to exploring."""

    def delete(self, key: bytes, value: bytes) -> None:
        """Keep it: that it does not fail any more is no reason not to try it."""


def findings() -> list[Finding]:
    """Return all findings."""
    files = sorted(DIRECTORY.glob("*.json"))
    return [msgspec.json.decode(file.read_bytes(), type=Finding) for file in files]


def register_profiles() -> None:
    """Make the profiles ``explore`` and ``same``, and use the latter.

    Neither takes a pause of the machine for a failure.
    """
    patient = settings(
        settings.get_profile("default"),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.register_profile("explore", patient, max_examples=1000, print_blob=True, database=None)
    derandomized = settings(patient, derandomize=True)
    settings.register_profile("same", derandomized, database=Found())
    settings.load_profile("same")


def _seed(config: pytest.Config) -> str:
    """Return the seed of exploring; empty when this is another run."""
    exploring = settings.get_current_profile_name() == "explore"
    return str(config.getoption("--hypothesis-seed") or "at random") if exploring else ""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add when exploring ends."""
    parser.addoption("--explore-until", type=float, help="seconds, of the monotonic clock")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those tests, too, that run a state machine by themselves; others hypothesis marks."""
    for item in items:
        names = getattr(getattr(item, "function", None), "__code__", None)
        if names is not None and "run_state_machine_as_test" in names.co_names:
            item.add_marker("hypothesis")


def skip_when_late(item: pytest.Item) -> None:
    """Skip what would begin too late."""
    until = item.config.getoption("--explore-until")
    if until is not None and time.monotonic() > until:
        pytest.skip("the time for exploring is up")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say with each failure how to see it again, and keep what was found."""
    report = yield
    seed = _seed(item.config)
    if seed and call.excinfo is not None and report.failed:
        report.sections.append(("again", f"make explore SEED={seed} TESTS='{item.nodeid}'"))
        for notes in _notes(call.excinfo.value):
            if blob := _BLOB.search(notes):
                example = notes[: blob.start()].splitlines()[:-2]
                _keep(Finding(item.nodeid, seed, hypothesis.__version__, blob[1], example))
    return report


def _notes(error: BaseException) -> Iterator[str]:
    """Return what hypothesis notes beside an error, or beside each of several."""
    yield "\n".join(getattr(error, "__notes__", ()))
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _notes(each)


def _keep(finding: Finding) -> None:
    DIRECTORY.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "-", finding.test.rpartition("/")[2])[:60]
    digest = blake2b(f"{finding.test} {finding.blob}".encode(), digest_size=4).hexdigest()
    content = msgspec.json.format(msgspec.json.encode(finding), indent=2)
    (DIRECTORY / f"{name}-{digest}.json").write_bytes(content + b"\n")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say once more what the seed was."""
    if seed := _seed(config):
        terminalreporter.write_line(f"explored with SEED={seed}")
