"""A message's context as HTTP headers."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.errors import MalformedMessage
from headwater.messages import Context, Metadata
from headwater.messages.headers import (
    CAUSATION_ID,
    CORRELATION_ID,
    TENANT,
    TIMEOUT_MS,
    TRACEPARENT,
    from_headers,
    to_headers,
)

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


def test_round_trip() -> None:
    """What one side says of its work the other side knows, with itself as the consequence."""
    cause = Metadata(id="m2", correlation_id="m1", traceparent=TRACE, tenant="north")
    metadata, deadline = from_headers(to_headers(Context(cause, time.monotonic() + 5)))
    assert metadata.id not in {"m1", "m2"}
    assert (metadata.correlation_id, metadata.causation_id) == ("m1", "m2")
    assert metadata.tenant == "north"
    assert metadata.traceparent.split("-")[1] == "a" * 32
    assert metadata.traceparent != TRACE
    assert deadline is not None
    assert 4 < deadline - time.monotonic() <= 5


def test_principal_stays() -> None:
    """Who asked is never taken from, nor told in, a header."""
    sent = to_headers(Context(Metadata(id="m", principal="alice")))
    assert "alice" not in str(sent)
    assert from_headers({"headwater-principal": "alice"})[0].principal == ""


def test_first_request() -> None:
    """A request without any header begins its own conversation and trace, without deadline."""
    metadata, deadline = from_headers({})
    assert metadata.correlation_id == metadata.id
    assert metadata.causation_id == ""
    assert metadata.traceparent.startswith("00-")
    assert deadline is None


def test_without_context() -> None:
    """Outside any message only a new trace is sent."""
    assert list(to_headers(None)) == [TRACEPARENT]
    assert to_headers(None) != to_headers(None)


def test_passed_deadline() -> None:
    """A deadline in the past is sent as nothing left, not as a negative number."""
    sent = to_headers(Context(Metadata(id="m"), time.monotonic() - 5))
    assert sent[TIMEOUT_MS] == "0"


@pytest.mark.parametrize("value", ["", "-1", "1.5", "soon", "\u0661", "9" * 12])
def test_bad_timeout(value: str) -> None:
    """A time-out that is not a number of milliseconds is refused by name."""
    with pytest.raises(MalformedMessage, match=TIMEOUT_MS):
        from_headers({TIMEOUT_MS: value})


@pytest.mark.parametrize("value", ["x", f"00-{'A' * 32}-{'b' * 16}-01", TRACE + "x"])
def test_bad_trace(value: str) -> None:
    """A malformed trace parent starts a new trace."""
    parent = from_headers({TRACEPARENT: value})[0].traceparent
    assert len(parent) == 55
    assert "a" * 32 not in parent.lower()


@pytest.mark.parametrize("value", ["a\nb", "x" * 257, "\x7f"])
def test_bad_identifiers(value: str) -> None:
    """Identifiers that are overlong or not printable are dropped."""
    metadata, _ = from_headers({CORRELATION_ID: value, CAUSATION_ID: value})
    assert metadata.correlation_id == metadata.id
    assert metadata.causation_id == ""


@pytest.mark.parametrize("value", ["a\nb", "x" * 257, "\x7f", "Z\xfcrich", "Z%FCrich", "%0A"])
def test_bad_tenant(value: str) -> None:
    """A tenant is never dropped or garbled: what cannot be understood is refused by name."""
    with pytest.raises(MalformedMessage, match=TENANT):
        from_headers({TENANT: value})


@example("Zürich")
@example("100 %")
@example("a%20b")
@example(" around ")
@example("日本, 東京; é\u0301")
@given(st.text(max_size=256).filter(str.isprintable))
def test_text_survives_any_number_of_hops(text: str) -> None:
    """Text in headers of ours is the same after each hop, and is ASCII on the way."""
    metadata = Metadata(id="m", correlation_id=text or "c", tenant=text)
    for _ in range(3):
        sent = to_headers(Context(metadata))
        assert all(value.isascii() and value == value.strip() for value in sent.values())
        metadata, _deadline = from_headers(sent)
        assert metadata.tenant == text
        assert metadata.correlation_id == (text or "c")
