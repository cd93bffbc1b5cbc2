"""Runs named benchmarks several times, takes the median, prints a table, writes a JSON file.

A benchmark is a function in a file ``benchmarks/bench_*.py``::

    @benchmark("append.sqlite", unit="events/s", peer="bare apsw loop")
    async def append_sqlite() -> Measured:
        ...
        return Measured(value, peer_value)

It measures itself and its peer in one run, one after the other, so that both meet the same
conditions. Preparation that need not be repeated may be kept in the module.
"""

import asyncio
import importlib
import json
import pkgutil
import statistics
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

RESULTS = Path("build/bench.json")


class Measured(NamedTuple):
    """One run: the value, and that of the peer, in the benchmark's unit."""

    value: float
    peer_value: float | None = None


Run = Callable[[], Measured | Awaitable[Measured]]


class Benchmark(NamedTuple):
    """A registered benchmark."""

    name: str
    unit: str
    peer: str
    runs: int
    run: Run


class Result(NamedTuple):
    """The medians over all runs; ``ratio`` is value to peer value."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float | None
    ratio: float | None
    runs: int


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
    measured = [_once(wanted) for _ in range(wanted.runs)]
    value = statistics.median(one.value for one in measured)
    peers = [one.peer_value for one in measured if one.peer_value is not None]
    peer_value = statistics.median(peers) if peers else None
    # The median of the ratios, because value and peer of one run met the same conditions.
    ratios = [one.value / one.peer_value for one in measured if one.peer_value]
    ratio = statistics.median(ratios) if ratios else None
    return Result(wanted.name, value, wanted.unit, wanted.peer, peer_value, ratio, len(measured))


def _once(wanted: Benchmark) -> Measured:
    outcome = wanted.run()
    return outcome if isinstance(outcome, Measured) else asyncio.run(_awaited(outcome))


async def _awaited(outcome: Awaitable[Measured]) -> Measured:
    return await outcome


def main(names: Sequence[str]) -> int:
    """Run the benchmarks whose names begin with one of the names (none given: all)."""
    console = Console()
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
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([one._asdict() for one in results], indent=2) + "\n")
    return 1 if failed else 0


def _table(results: Sequence[Result]) -> Table:
    table = Table(title="Benchmarks (medians)")
    for heading in ("name", "value", "unit", "peer", "peer value", "ratio", "runs"):
        left = heading in {"name", "unit", "peer"}
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "peer")
    for one in results:
        table.add_row(
            one.name,
            _number(one.value),
            one.unit,
            one.peer,
            _number(one.peer_value),
            _number(one.ratio),
            str(one.runs),
        )
    return table


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
