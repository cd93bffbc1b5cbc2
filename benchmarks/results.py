"""What benchmarks found, as a JSON file, with the machine it was found on."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import apsw
import msgspec

RESULTS = Path("build/bench.json")

Curve = dict[str, list[tuple[float, float]]]
"""By the name of a line, its points from left to right."""


class Result(msgspec.Struct, kw_only=True):
    """The medians over all runs of a benchmark; ``ratio`` is value to peer value."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float | None
    ratio: float | None
    runs: int
    took_s: float
    more: dict[str, float] = {}
    curve: Curve = {}


class Machine(msgspec.Struct, kw_only=True):
    """Where and when; ``load`` is the load average over the last minute, at the end."""

    date: str
    cores: int
    processor: str
    load: float
    python: str
    sqlite: str


class Results(msgspec.Struct, kw_only=True):
    """The results of a run, by name."""

    machine: Machine
    results: dict[str, Result]


def this_machine() -> Machine:
    """Describe where this runs."""
    return Machine(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        load=round(os.getloadavg()[0], 1),
        python=platform.python_version(),
        sqlite=apsw.sqlite_lib_version(),
    )


def _processor() -> str:
    found = Path("/proc/cpuinfo")
    lines = found.read_text().splitlines() if found.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_results(results: Sequence[Result], path: Path) -> None:
    """Write the results of a run, instead of those that are there."""
    found = Results(machine=this_machine(), results={one.name: one for one in results})
    write(found, path)


def write(found: Results, path: Path) -> None:
    """Write a file of results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


def read(path: Path) -> Results:
    """Read a file of results."""
    return msgspec.json.decode(path.read_bytes(), type=Results)


def number(value: float | None) -> str:
    """Write a number with three digits, or all before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
