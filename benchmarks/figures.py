"""The figures that the documentation shows: kept as JSON, written into the pages, and drawn.

A page has places for them: what stands between ``<!-- figures: NAME -->`` and ``<!-- end -->`` is
written here. So every figure comes from a run, and a test compares the pages with the JSON file.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.plots import draw_plots
from benchmarks.results import RESULTS, Result, Results, number, read, write

PAGES = Path("docs/explanation")
KEPT = PAGES / "figures.json"

_PLACE = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MISSING = "not measured"

ENGINES = (
    ("appended events/s, 16 callers, 100 events each", "append.sqlite", "append.postgres"),
    ("commands/s, 256 callers on 1,000 aggregates", "commands.sqlite", "commands.postgres"),
    ("commands/s, 256 callers on one aggregate", "commands.hot.sqlite", "commands.hot.postgres"),
    ("commands/s, one caller", "commands.single.sqlite", "commands.single.postgres"),
    ("appends/s under a condition with two tags, 256 callers", "dcb.sqlite", "dcb.postgres"),
    ("events/s, rebuilding one aggregate", "replay.stream.sqlite", "replay.stream.postgres"),
    ("events/s, reading the whole log", "log.read.sqlite", "log.read.postgres"),
    ("events/s, a projection catching up", "projection.sqlite", "projection.postgres"),
    ("events/s, copying a SQLite store into it", "copy.sqlite", "copy.postgres"),
    ("events/s, comparing a SQLite store with its copy", "", "copy.check"),
)
PEERS = (
    *("commands.sqlite", "commands.postgres", "commands.single.sqlite"),
    *("commands.single.postgres", "replay.stream.sqlite", "replay.stream.postgres"),
    "dcb.postgres",
)


def keep() -> None:
    """Take the results of the last run over, and write and draw everything anew."""
    latest = read(RESULTS)
    if KEPT.exists():
        latest.results = {**read(KEPT).results, **latest.results}
    latest.results = dict(sorted(latest.results.items()))
    write(latest, KEPT)
    draw()


def draw() -> None:
    """Write the figures that are kept into the pages, and draw their curves."""
    found = read(KEPT)
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text()
        page.write_text(filled(text, found))
    draw_plots(found, PAGES)


def filled(text: str, found: Results) -> str:
    """Return a page with its places filled.

    Raises:
        KeyError: there are no such figures.
    """
    return _PLACE.sub(lambda place: f"{place[1]}{BLOCKS[place[2]](found)}\n{place[3]}", text)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join([_row(*heading), f"|{'|'.join(line)}|", *(_row(*row) for row in rows)])


def _value(found: Results, name: str) -> str:
    return number(found.results[name].value) if name in found.results else _MISSING


def _machine(found: Results) -> str:
    m = found.machine
    return (
        f"Measured on {m.date} with Python {m.python} and SQLite {m.sqlite}, on {m.cores} cores of"
        f" an {m.processor}\n(load average {m.load}), the PostgreSQL server on the same machine,"
        " everything flushed to disk; medians."
    )


def _engines(found: Results) -> str:
    rows = [
        (
            text,
            ", ".join(f"`{name}`" for name in names if name),
            *(_value(found, name) if name else "" for name in names),
        )
        for text, *names in ENGINES
    ]
    return _table(("", "benchmark", "SQLite", "PostgreSQL"), rows)


def _peers(found: Results) -> str:
    rows = [
        (f"`{one.name}`", one.unit, number(one.value), number(one.peer_value), f"{one.ratio:.1f}")
        for one in map(found.results.get, PEERS)
        if one is not None and one.ratio
    ]
    return _table(("benchmark", "unit", "Headwater", "eventsourcing 9.5.6", "times"), rows)


def _curve(x: str, *names: str) -> Callable[[Results], str]:
    """Return a table of several benchmarks' curves for each, one below the other."""

    def block(found: Results) -> str:
        return "\n\n".join(_curve_table(x, found.results.get(name), name) for name in names)

    return block


def _curve_table(x: str, one: Result | None, name: str) -> str:
    if one is None:
        return f"`{name}`: {_MISSING}"
    lines = {line: dict(points) for line, points in one.curve.items()}
    xs = sorted({x for points in lines.values() for x in points})
    rows = [[f"{x:,.0f}", *(number(points.get(x)) for points in lines.values())] for x in xs]
    return f"`{name}`\n\n{_table((x, *lines), rows)}"


def _processes(found: Results) -> str:
    rows = [
        (text, f"`{name}`", number(one.value), number(one.peer_value))
        for text, name in (
            ("4 processes on the same 1,000 aggregates", "commands.processes"),
            ("4 processes with 250 aggregates each", "commands.divided"),
        )
        if (one := found.results.get(name)) is not None
    ]
    return _table(("", "benchmark", "commands/s", "one process"), rows)


_VISIBLE = (
    ("from the acknowledgement to visible", ""),
    ("from when it should have been sent to the acknowledgement", "answered "),
    ("from when it should have been sent to visible", "sent to visible "),
    ("from the acknowledgement to visible, at 1,000 a second", "at 1,000/s "),
    ("how late the generator sent it", "behind "),
)


def _visible(found: Results) -> str:
    rows = []
    for engine, name in (("SQLite", "visible.sqlite"), ("PostgreSQL", "visible.postgres")):
        one = found.results.get(name)
        if one is not None:
            more = {**one.more, "p99_ms": one.value}
            rows += [
                (engine, text, number(more[f"{key}p50_ms"]), number(more[f"{key}p99_ms"]))
                for text, key in _VISIBLE
            ]
    return _table(("", "", "p50 ms", "p99 ms"), rows)


def _stages(found: Results) -> str:
    rows = []
    for engine, name in (("SQLite", "trace.sqlite"), ("PostgreSQL", "trace.postgres")):
        one = found.results.get(name)
        if one is not None:
            stages = {stage.removesuffix(" µs"): taken for stage, taken in one.more.items()}
            rows += [(engine, stage, f"{taken:.0f}") for stage, taken in stages.items()]
            rows.append((engine, "in all", f"{one.value:.0f}"))
    return _table(("", "", "µs"), rows)


_EVENTS = "events in the store"
_CALLERS = "callers"

BLOCKS: Mapping[str, Callable[[Results], str]] = {
    "machine": _machine,
    "engines": _engines,
    "peers": _peers,
    "growth-append": _curve(_EVENTS, "growth.append.sqlite", "growth.append.postgres"),
    "growth-load": _curve(_EVENTS, "growth.load.sqlite", "growth.load.postgres"),
    "concurrency": _curve(_CALLERS, "concurrency.sqlite", "concurrency.postgres"),
    "stores": _curve("stores", "stores.sqlite", "stores.postgres"),
    "readers": _curve("readers", "readers.sqlite", "readers.postgres"),
    "processes": _processes,
    "visible": _visible,
    "stages": _stages,
}
"""What can be written into a page, by name."""
