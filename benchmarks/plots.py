"""Draws curves as SVG files: the same curves make the same files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results import Curve, Results

_SIZE_INCHES = (7.2, 3.2)
_SETTINGS = {
    "svg.hashsalt": "headwater",  # otherwise the names inside are random
    "svg.fonttype": "none",  # text stays text, and the files small
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


class Panel(NamedTuple):
    """One pair of axes: the curve of a benchmark, or some of its lines."""

    title: str
    benchmark: str
    y: str
    lines: Sequence[str] = ()


class Plot(NamedTuple):
    """One drawing of panels side by side, with a common meaning of x."""

    x: str
    panels: tuple[Panel, ...]


_EVENTS = "events in the store"
_CALLERS = "callers at the same time"

PLOTS: Mapping[str, Plot] = {
    "growth-append.svg": Plot(
        _EVENTS,
        (
            Panel("SQLite", "growth.append.sqlite", "events/s"),
            Panel("PostgreSQL", "growth.append.postgres", "events/s"),
        ),
    ),
    "growth-load.svg": Plot(
        _EVENTS,
        (
            Panel("SQLite", "growth.load.sqlite", "per second"),
            Panel("PostgreSQL", "growth.load.postgres", "per second"),
        ),
    ),
    "concurrency-rate.svg": Plot(
        _CALLERS,
        (
            Panel("SQLite", "concurrency.sqlite", "commands/s", ("commands/s",)),
            Panel("PostgreSQL", "concurrency.postgres", "commands/s", ("commands/s",)),
        ),
    ),
    "concurrency-latency.svg": Plot(
        _CALLERS,
        (
            Panel("SQLite", "concurrency.sqlite", "ms", ("p50 ms", "p99 ms")),
            Panel("PostgreSQL", "concurrency.postgres", "ms", ("p50 ms", "p99 ms")),
        ),
    ),
}


STAGES = "latency.svg", {"SQLite": "trace.sqlite", "PostgreSQL": "trace.postgres"}
"""Bars of the stages of one command, one for each engine."""


def draw_plots(found: Results, folder: Path) -> None:
    """Draw what there are curves and stages for."""
    import matplotlib as mpl

    mpl.use("svg")
    with mpl.rc_context(_SETTINGS):
        for name, plot in PLOTS.items():
            if all(panel.benchmark in found.results for panel in plot.panels):
                _draw(plot, found, folder / name)
        name, engines = STAGES
        if all(one in found.results for one in engines.values()):
            _draw_stages({e: found.results[one].more for e, one in engines.items()}, folder / name)


def _draw_stages(engines: Mapping[str, Mapping[str, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_SIZE_INCHES[0], 2.0), layout="constrained")
    axes = figure.subplots()
    for row, (engine, stages) in enumerate(engines.items()):
        begin = 0.0
        for number, (name, taken) in enumerate(stages.items()):
            if name.startswith("of it"):
                continue
            axes.barh(row, taken, left=begin, color=f"C{number}", height=0.5)
            label = name.removesuffix(" µs")
            axes.text(begin + taken / 2, row + 0.32, label, fontsize=6, rotation=20, ha="left")
            begin += taken
        axes.text(begin, row, f" {begin:.0f} µs", va="center", fontsize=8)
        axes.text(0, row - 0.42, engine, fontsize=8)
    axes.set(xlabel="microseconds", yticks=[], ylim=(-0.6, len(engines) - 0.1))
    _save(figure, path)


def _draw(plot: Plot, found: Results, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    for axes, panel in zip(
        figure.subplots(1, len(plot.panels), sharey=True), plot.panels, strict=True
    ):
        _draw_panel(axes, panel, found.results[panel.benchmark].curve)
        axes.set_xlabel(plot.x)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    # Without the spaces at the ends of lines, which no editor would keep.
    lines = [line.rstrip() for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def _draw_panel(axes: Any, panel: Panel, curve: Curve) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ticks: list[float] = []
    for name in panel.lines or curve:
        xs, ys = zip(*curve[name], strict=True)
        axes.plot(xs, ys, marker="o", markersize=3.5, linewidth=1.3, label=name)
        ticks = [*xs]
    axes.set(xscale="log", yscale="log", title=panel.title, ylabel=panel.y)
    axes.set_xticks(ticks)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axis.set_minor_locator(NullLocator())
    axes.legend(fontsize=8)


def _short(value: float) -> str:
    """Write 1024 as 1,024, and 1k, 2k, 50k or 10M where that is shorter."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= 2 * size or value == size:
            return f"{value / size:g}{unit}"
    return f"{value:,g}"
