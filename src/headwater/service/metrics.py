"""Prometheus metrics of one instance."""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from headwater._sql import clock_watch

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OF_PROCESSORS = {
    "lag": ("lag_events", "Events between a processor's token and the head of its source."),
    "letters": ("letters", "Events that were set aside, all in the view store."),
    "parked": ("parked_sequences", "Sequences that wait for a person, as known here."),
    "paused": ("paused", "1 while a processor is paused, in all processes."),
    "waiting": ("waiting_sequences", "Sequences that wait here for their next try."),
}


class Figures(NamedTuple):
    """What is counted of a processor in this process; see `Metrics` for what each is."""

    name: str
    lag: int
    letters: int = 0
    parked: int = 0
    waiting: int = 0
    failures: int = 0
    retries: int = 0
    running: int | None = None
    paused: bool = False


class Metrics:
    """Requests by route and status, what is in progress, and the lag of processors."""

    def __init__(self, service: str, instance: str) -> None:
        """Make a registry of its own, so that several services can live in one process."""
        self.registry = CollectorRegistry()
        labels = {"service": service, "instance": instance}
        self._requests = Histogram(
            "headwater_request_seconds",
            "Time to answer a request.",
            ("service", "instance", "method", "route", "status"),
            registry=self.registry,
            buckets=_BUCKETS_S,
        )
        self._client_calls = Histogram(
            "headwater_client_call_seconds",
            "Time of calls to other services.",
            ("service", "instance", "target", "method", "route", "status"),
            registry=self.registry,
            buckets=_BUCKETS_S,
        )
        self.rejected = Counter(
            "headwater_requests_refused_total",
            "Requests refused because of overload or draining.",
            ("service", "instance"),
            registry=self.registry,
        ).labels(**labels)
        self._in_progress = Gauge(
            "headwater_requests_in_progress",
            "Requests being handled.",
            ("service", "instance"),
            registry=self.registry,
        ).labels(**labels)
        self._count_processors()
        self._snapshots_left_out = Counter(
            "headwater_snapshots_left_out_total",
            "Snapshots that were due and could not be taken, saved or read.",
            ("service", "instance", "aggregate"),
            registry=self.registry,
        )
        self._clock_ahead = Gauge(
            "headwater_clock_ahead_seconds",
            "How far the machine's clock is ahead of a store's, which counts.",
            ("service", "instance", "store"),
            registry=self.registry,
        )
        self._labels = labels

    def _count_processors(self) -> None:
        of_processor = ("service", "instance", "processor")
        self._gauges = {
            field: Gauge(f"headwater_processor_{name}", of, of_processor, registry=self.registry)
            for field, (name, of) in _OF_PROCESSORS.items()
        }
        self._failures = Counter(
            "headwater_processor_failures_total",
            "Tries of events that failed.",
            of_processor,
            registry=self.registry,
        )
        self._retries = Counter(
            "headwater_processor_retries_total",
            "Events that were tried again.",
            of_processor,
            registry=self.registry,
        )
        self._running = Gauge(
            "headwater_background_running",
            "Whether a background task runs here.",
            of_processor,
            registry=self.registry,
        )
        self._told: dict[str, Figures] = {}  # by processor: what was counted already

    def route(self, method: str, route: str) -> Callable[[int, float], None]:
        """Return a function that notes an answer: its status, and when the request began."""
        known: dict[int, Any] = {}

        def note(status: int, began: float) -> None:
            child = known.get(status)
            if child is None:
                child = known[status] = self._requests.labels(
                    **self._labels, method=method, route=route, status=str(status)
                )
            child.observe(time.perf_counter() - began)

        return note

    def client_call(
        self, service: str, method: str, template: str, status: int, seconds: float
    ) -> None:
        """Note a call to another service; status 0 when there was no answer."""
        self._client_calls.labels(
            **self._labels, target=service, method=method, route=template, status=str(status)
        ).observe(seconds)

    def snapshot_left_out(self, aggregate: str) -> None:
        """Note that an aggregate goes on without a snapshot that it should have."""
        self._snapshots_left_out.labels(**self._labels, aggregate=aggregate).inc()

    def exposition(self, *, in_progress: int, processors: Iterable[Figures]) -> bytes:
        """Return all metrics in Prometheus' text format.

        Args:
            in_progress: how many requests are being handled.
            processors: what is counted of each processor.
        """
        self._in_progress.set(in_progress)
        for one in processors:
            labels = {**self._labels, "processor": one.name}
            for field, gauge in self._gauges.items():
                gauge.labels(**labels).set(getattr(one, field))
            told = self._told.get(one.name, Figures(one.name, 0))
            self._failures.labels(**labels).inc(max(0, one.failures - told.failures))
            self._retries.labels(**labels).inc(max(0, one.retries - told.retries))
            self._told[one.name] = one
            if one.running is not None:
                self._running.labels(**labels).set(one.running)
        for store, ahead_s in clock_watch.ahead_s().items():
            self._clock_ahead.labels(**self._labels, store=store).set(ahead_s)
        return generate_latest(self.registry)
