"""Spans of OpenTelemetry around commands and queries."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headwater.dispatch import CommandMessage, CommandResult, QueryMessage
from headwater.dispatch.local import LocalCommandBus, LocalQueryBus
from headwater.dispatch.tracing import tracing
from headwater.errors import Rejection
from headwater.messages import Command, Metadata, Query, current

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Charge(Command):
    card: str


class Balance(Query[int]):
    card: str


class Declined(Rejection):
    card: str


@pytest.fixture
def spans(monkeypatch) -> InMemorySpanExporter:
    """Finished spans, of a provider of this test alone."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


def _metadata() -> Metadata:
    return Metadata(id="m1", correlation_id="c1", traceparent=PARENT)


async def test_command_span_joins_the_trace(spans):
    """A command's span is a child of the sender's, and the parent of what the handler does."""
    seen = []

    async def handle(message: CommandMessage) -> CommandResult:
        seen.append((message.metadata.traceparent, current().metadata.traceparent))
        return CommandResult("1", 7, "")

    bus = LocalCommandBus([{Charge: handle}], interceptors=tracing()[0])
    await bus.dispatch(CommandMessage(Charge("visa"), _metadata()))
    (span,) = spans.get_finished_spans()
    assert span.name == "command Charge"
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert span.attributes["headwater.version"] == 7
    assert span.attributes["headwater.target"] == "visa"
    expected = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
    assert seen == [(expected, expected)]


async def test_refusal_is_on_the_span(spans):
    """A refused command's span records the refusal, which still reaches the caller."""

    async def refuse(message: CommandMessage) -> CommandResult:
        raise Declined(card=message.command.card)

    bus = LocalCommandBus([{Charge: refuse}], interceptors=tracing()[0])
    with pytest.raises(Declined):
        await bus.dispatch(CommandMessage(Charge("visa"), _metadata()))
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok
    assert span.events[0].name == "exception"


async def test_query_span(spans):
    """A query has a span too."""

    async def answer(query: Balance) -> int:
        return len(query.card)

    bus = LocalQueryBus([{Balance: answer}], interceptors=tracing()[1])
    assert await bus.dispatch(QueryMessage(Balance("visa"), _metadata())) == 4
    (span,) = spans.get_finished_spans()
    assert span.name == "query Balance"


def test_without_a_provider():
    """While the program has set no provider there are no interceptors, and so no cost."""
    assert tracing() == ([], [])
