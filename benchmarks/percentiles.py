"""Latencies in milliseconds, as benchmarks report them."""

from collections.abc import Sequence


def milliseconds(name: str, times_s: Sequence[float]) -> dict[str, float]:
    """Return the percentiles 50 and 99 of some times as ``<name>p50_ms`` and ``<name>p99_ms``."""
    in_order = sorted(times_s)

    def at(share: float) -> float:
        return in_order[min(len(in_order) - 1, int(len(in_order) * share))] * 1000

    return {f"{name}p50_ms": at(0.5), f"{name}p99_ms": at(0.99)}
