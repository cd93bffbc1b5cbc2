"""Benchmarks say what they measured, and the documentation shows just that."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from benchmarks import figures, harness
from benchmarks.results import Result, read, write_results

ROOT = Path(__file__).parents[2]
PAGES = ROOT / figures.PAGES


@pytest.fixture
def runs() -> Iterator[harness.Measured]:
    """Return what a benchmark finds in three runs."""
    return iter(
        [
            harness.Measured(30, 10, {"p99_ms": 3}, {"a": {1: 5, 10: 50}}),
            harness.Measured(10, 10, {"p99_ms": 9}, {"a": {10: 70, 1: 9}}),
            harness.Measured(20, 5, {"p99_ms": 4}, {"a": {1: 7, 10: 60}}),
        ]
    )


def result(runs: Iterator[harness.Measured]) -> Result:
    return harness.measure(harness.Benchmark("x", "events/s", "y", 3, lambda: next(runs)))


def test_medians(runs: Iterator[harness.Measured]) -> None:
    """Each figure is the median over the runs, the ratio that of the ratios."""
    found = result(runs)
    assert (found.value, found.peer_value, found.ratio, found.runs) == (20, 10, 3, 3)
    assert found.more == {"p99_ms": 4}
    assert found.curve == {"a": [(1, 7), (10, 60)]}


def test_results_are_kept(runs: Iterator[harness.Measured], tmp_path: Path) -> None:
    """A file of results is read as it was written."""
    found = result(runs)
    write_results([found], tmp_path / "made" / "bench.json")
    kept = read(tmp_path / "made" / "bench.json")
    assert msgspec.to_builtins(kept.results) == msgspec.to_builtins({"x": found})
    assert kept.machine.cores > 0


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md")))
def test_pages_show_what_was_measured(page: str) -> None:
    """The figures in a page are those that are kept: drawing them anew changes nothing."""
    text = (PAGES / page).read_text()
    assert text == figures.filled(text, read(ROOT / figures.KEPT))
    assert text.count("<!-- figures:") == text.count("<!-- end -->")


def test_figures_are_shown() -> None:
    """Each block of figures has its place in a page, and each drawing is shown in one."""
    text = "".join(path.read_text() for path in PAGES.glob("*.md"))
    assert set(re.findall(r"<!-- figures: (\S+) -->", text)) == set(figures.BLOCKS)
    assert set(re.findall(r"\]\((\S+\.svg)\)", text)) == {p.name for p in PAGES.glob("*.svg")}


def test_every_benchmark_is_described() -> None:
    """The README of the benchmarks lists each, and no other."""
    known, failed = harness.load()
    text = (ROOT / "benchmarks" / "README.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert not failed
    assert sorted(listed) == sorted(known)
