"""The table at the end of the demo."""

import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from play.caller import Timings
from play.checks import Check


def show_measurements(
    console: Console, timings: Timings, *, seconds: float, transfers: int, settled_s: float
) -> None:
    """Print rates and latencies.

    Args:
        console: where to.
        timings: what the callers measured.
        seconds: how long the purchases were played.
        transfers: how many transfers were settled.
        settled_s: from the first purchase until the last one was settled.
    """
    table = Table(title="Measured through the gateway", title_justify="left")
    for heading in ("what", "count", "per second", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    _row(table, "commands", timings.commands, seconds)
    _row(table, "queries", timings.queries, seconds)
    _row(table, "written until visible (query with the write's token)", timings.visible, seconds)
    table.add_row("transfers settled", f"{transfers:,}", f"{transfers / settled_s:,.0f}", "", "")
    console.print(table)
    console.print(f"{timings.repeated:,} calls were repeated after a failure or a 503.")


def show_checks(console: Console, checks: Sequence[Check]) -> bool:
    """Print the checks; return whether all passed."""
    table = Table(title="Checks", title_justify="left")
    for heading in ("", "what", "the bank says", "expected"):
        table.add_column(heading)
    for check in checks:
        mark = "[green]ok[/]" if check.passed else "[red]WRONG[/]"
        table.add_row(mark, check.what, _short(check.actual), _short(check.expected))
    console.print(table)
    return all(check.passed for check in checks)


def _row(table: Table, what: str, seconds: list[float], total_s: float) -> None:
    if len(seconds) < 2:
        return
    cuts = statistics.quantiles(seconds, n=100)
    table.add_row(
        what,
        f"{len(seconds):,}",
        f"{len(seconds) / total_s:,.0f}",
        f"{cuts[49] * 1000:.1f}",
        f"{cuts[98] * 1000:.1f}",
    )


def _short(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
