"""Spans of OpenTelemetry around commands and queries; without that library nothing happens.

The trace context travels as W3C ``traceparent`` in metadata and headers in any case, so that a
trace is whole even where some services do not report spans.
"""

import importlib.util
from typing import Any

import msgspec

from headwater.dispatch.api import (
    CommandInterceptor,
    CommandMessage,
    CommandNext,
    CommandResult,
    QueryInterceptor,
    QueryMessage,
    QueryNext,
)
from headwater.messages import Metadata, handling, message_type


def tracing() -> tuple[list[CommandInterceptor], list[QueryInterceptor]]:
    """Return the interceptors of both buses; none when nobody would receive the spans.

    That is so while OpenTelemetry is not installed, or the program has set no tracer provider.
    """
    if importlib.util.find_spec("opentelemetry") is None:
        return [], []
    from opentelemetry import trace

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return [], []
    spans = _Spans()
    return [spans.command], [spans.query]


class _Spans:
    """Opens a span for each message, the child of the one in its metadata."""

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = trace.get_tracer("headwater")
        self._propagator = TraceContextTextMapPropagator()

    async def command(self, message: CommandMessage, proceed: CommandNext) -> CommandResult:
        kind = message_type(type(message.command))
        attributes = {"headwater.target": kind.target_of(message.command)}
        with self._span("command", kind.name, message.metadata, attributes) as span:
            metadata = self._child(message.metadata, span)
            with handling(metadata):
                result = await proceed(msgspec.structs.replace(message, metadata=metadata))
            span.set_attribute("headwater.version", result.version)
            return result

    async def query(self, message: QueryMessage, proceed: QueryNext) -> Any:
        kind = message_type(type(message.query))
        with self._span("query", kind.name, message.metadata, {}) as span:
            metadata = self._child(message.metadata, span)
            with handling(metadata):
                return await proceed(msgspec.structs.replace(message, metadata=metadata))

    def _span(self, kind: str, name: str, metadata: Metadata, attributes: dict[str, str]) -> Any:
        parent = self._propagator.extract({"traceparent": metadata.traceparent})
        return self._tracer.start_as_current_span(
            f"{kind} {name}",
            context=parent,
            attributes={
                "headwater.message": name,
                "headwater.correlation_id": metadata.correlation_id,
                **attributes,
            },
        )

    def _child(self, metadata: Metadata, span: Any) -> Metadata:
        """Return metadata that names the span as the parent of what follows."""
        context = span.get_span_context()
        if not context.is_valid:
            return metadata
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return msgspec.structs.replace(metadata, traceparent=carrier["traceparent"])
