"""Runs named benchmarks several times, takes the median, prints a table, writes a JSON file.

A benchmark is a function in a file ``benchmarks/bench_*.py``::

    @benchmark("append.sqlite", unit="events/s", peer="bare apsw loop")
    async def append_sqlite() -> Measured:
        ...
        return Measured(value, peer_value)

It measures itself and its peer in one run, one after the other, so that both meet the same
conditions. Preparation that need not be repeated may be kept in the module. Besides its value it
may give more figures (percentiles, say) and a curve; each of their numbers is a median too.
"""

import importlib
import logging
import pkgutil
import statistics
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.results import RESULTS, Curve, Result, number, write_results

_WIDTH = 160  # where there is no terminal that has one
_NONE: Mapping[str, float] = MappingProxyType({})
_NO_CURVE: Mapping[str, Mapping[float, float]] = MappingProxyType({})


class Measured(NamedTuple):
    """One run.

    Attributes:
        value, peer_value: in the benchmark's unit.
        more: other figures by name; the name ends with the unit, as ``p99_ms``.
        curve: by the name of a line, its value at each x.
    """

    value: float
    peer_value: float | None = None
    more: Mapping[str, float] = _NONE
    curve: Mapping[str, Mapping[float, float]] = _NO_CURVE


Run = Callable[[], Measured | Awaitable[Measured]]


class Benchmark(NamedTuple):
    """A registered benchmark."""

    name: str
    unit: str
    peer: str
    runs: int
    run: Run


_registered: dict[str, Benchmark] = {}


def benchmark(name: str, *, unit: str, peer: str = "", runs: int = 5) -> Callable[[Run], Run]:
    """Register a function, async or not, that measures once.

    Args:
        name: unique; dots make groups, which can be run by prefix.
        unit: of the value and the peer's, such as ``events/s`` or ``ms``.
        peer: what it is compared with; empty for nothing.
        runs: how often to measure; the median counts.
    """

    def register(run: Run) -> Run:
        if name in _registered:
            raise ValueError(f"benchmark {name!r} is registered twice")
        _registered[name] = Benchmark(name, unit, peer, runs, run)
        return run

    return register


def load() -> tuple[dict[str, Benchmark], int]:
    """Import all ``bench_*`` files beside this one.

    Returns:
        What they register, by name, and how many files could not be imported.
    """
    failed = 0
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("bench_"):
            continue
        try:
            importlib.import_module(f"benchmarks.{module.name}")
        except Exception:  # noqa: BLE001  # one broken file must not take the others along
            failed += 1
            traceback.print_exc(file=sys.stderr)
    return dict(sorted(_registered.items())), failed


def measure(wanted: Benchmark) -> Result:
    """Run one benchmark as often as it says."""
    began = time.perf_counter()
    measured = [_once(wanted) for _ in range(wanted.runs)]
    value = statistics.median(one.value for one in measured)
    peers = [one.peer_value for one in measured if one.peer_value is not None]
    peer_value = statistics.median(peers) if peers else None
    # The median of the ratios, because value and peer of one run met the same conditions.
    ratios = [one.value / one.peer_value for one in measured if one.peer_value]
    return Result(
        name=wanted.name,
        value=value,
        unit=wanted.unit,
        peer=wanted.peer,
        peer_value=peer_value,
        ratio=statistics.median(ratios) if ratios else None,
        runs=len(measured),
        took_s=round(time.perf_counter() - began, 1),
        more=_medians(one.more for one in measured),
        curve=_curve(measured),
    )


def _medians(given: Iterable[Mapping[str, float]]) -> dict[str, float]:
    by_name: dict[str, list[float]] = {}
    for one in given:
        for name, figure in one.items():
            by_name.setdefault(name, []).append(figure)
    return {name: statistics.median(figures) for name, figures in by_name.items()}


def _curve(measured: Sequence[Measured]) -> Curve:
    points: dict[str, dict[float, list[float]]] = {}
    for one in measured:
        for line, values in one.curve.items():
            for x, y in values.items():
                points.setdefault(line, {}).setdefault(x, []).append(y)
    return {
        line: [(x, statistics.median(ys)) for x, ys in sorted(values.items())]
        for line, values in points.items()
    }


def _once(wanted: Benchmark) -> Measured:
    outcome = wanted.run()
    return outcome if isinstance(outcome, Measured) else uvloop.run(_awaited(outcome))


async def _awaited(outcome: Awaitable[Measured]) -> Measured:
    return await outcome


def main(names: Sequence[str]) -> int:
    """Run the benchmarks whose names begin with one of the names (none given: all)."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    # The lines of services that run in this process would go between ours.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    known, failed = load()
    chosen = [one for one in known.values() if not names or one.name.startswith(tuple(names))]
    if not chosen:
        console.print(f"no benchmark begins with {' or '.join(names)}; there are: {list(known)}")
        return 1
    results = []
    with console.status("") as status:
        for one in chosen:
            status.update(f"{one.name} ({one.runs} runs)")
            try:
                results.append(measure(one))
            except Exception:  # noqa: BLE001  # one that fails must not take the others along
                failed += 1
                console.print(f"[red]{one.name} failed[/red]")
                traceback.print_exc(file=sys.stderr)
    console.print(_table(results))
    for detail in (detail for one in results for detail in _details(one)):
        console.print(detail)
    write_results(results, RESULTS)
    return 1 if failed else 0


def _table(results: Sequence[Result]) -> Table:
    table = Table(title="Benchmarks (medians)")
    for heading in ("name", "value", "unit", "peer", "peer value", "ratio", "runs", "took s"):
        left = heading in {"name", "unit", "peer"}
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "peer")
    for one in results:
        table.add_row(
            one.name,
            number(one.value),
            one.unit,
            one.peer,
            number(one.peer_value),
            number(one.ratio),
            str(one.runs),
            number(one.took_s),
        )
    return table


def _details(one: Result) -> Iterator[str | Table]:
    """Show what a benchmark found besides its value."""
    if one.more:
        figures = ", ".join(f"{name} {number(figure)}" for name, figure in one.more.items())
        yield f"{one.name}: {figures}"
    if one.curve:
        table = Table("at", *one.curve, title=one.name)
        lines = {name: dict(points) for name, points in one.curve.items()}
        for x in sorted({x for points in lines.values() for x in points}):
            table.add_row(f"{x:,.0f}", *(number(points.get(x)) for points in lines.values()))
        yield table
