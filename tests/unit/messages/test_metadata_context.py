"""Metadata, the current context, and what the headers carry of it."""

import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import DeadlineExceeded, MalformedMessage
from headwater.messages import Context, Metadata, current, handling, new_id, new_metadata, now_us
from headwater.messages.hashing import stable_hash
from headwater.messages.headers import (
    CAUSATION_ID,
    CONSISTENCY_TOKEN,
    CORRELATION_ID,
    TENANT,
    TIMEOUT_MS,
    TRACEPARENT,
    from_header,
    from_headers,
    to_headers,
)
from headwater.messages.metadata import new_traceparent, remaining_s

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CAUSE = Metadata(
    id="cause", correlation_id="start", traceparent=PARENT, principal="eve", tenant="shop"
)


def test_ids_are_uuid7_in_order() -> None:
    """Ids are UUIDs of version 7, all different, ordered by time."""
    ids = [new_id() for _ in range(1000)]
    assert {uuid.UUID(id).version for id in ids} == {7}
    assert ids == sorted(set(ids))


def test_first_message_begins_the_conversation() -> None:
    """Outside any context a message is its own correlation and has no cause."""
    before = now_us()
    metadata = new_metadata()
    assert metadata.correlation_id == metadata.id
    assert metadata.causation_id == ""
    assert before <= metadata.time <= now_us()


def test_message_derives_from_the_one_being_handled() -> None:
    """In a context a message inherits correlation, trace, principal and tenant."""
    with handling(CAUSE):
        metadata = new_metadata()
    assert metadata.id != CAUSE.id
    assert (metadata.correlation_id, metadata.causation_id) == ("start", "cause")
    assert (metadata.traceparent, metadata.principal, metadata.tenant) == (PARENT, "eve", "shop")


def test_cause_without_correlation() -> None:
    """A cause that has no correlation id is itself the start of the conversation."""
    with handling(Metadata(id="cause")):
        assert new_metadata().correlation_id == "cause"


def test_context_ends_with_the_block() -> None:
    """The context is what was before when the block ends, also by an error."""
    assert current() is None
    with handling(CAUSE):
        assert current() == Context(CAUSE)
    assert current() is None
    with pytest.raises(ZeroDivisionError), handling(CAUSE):
        _ = 1 / 0
    assert current() is None


def test_token_is_part_of_the_context() -> None:
    """The token that came with a request is passed on with what is sent from its context."""
    with handling(CAUSE, token="seen"):
        assert to_headers(current())[CONSISTENCY_TOKEN] == "seen"
        with handling(CAUSE):
            assert to_headers(current())[CONSISTENCY_TOKEN] == "seen"
        with handling(CAUSE, token="other"):
            assert to_headers(current())[CONSISTENCY_TOKEN] == "other"
    with handling(CAUSE):
        assert CONSISTENCY_TOKEN not in to_headers(current())


def test_deadline_only_shrinks() -> None:
    """A deadline inside another is never later than the outer one."""
    with handling(CAUSE, deadline=100.0):
        for inner, expected in ((None, 100.0), (50.0, 50.0), (200.0, 100.0)):
            with handling(CAUSE, deadline=inner):
                context = current()
                assert context is not None
                assert context.deadline == expected


def test_remaining_time() -> None:
    """The time left is the deadline's, at most the default; none left is DeadlineExceeded."""
    assert remaining_s(default=5.0, action="x") == 5.0
    with handling(CAUSE, deadline=time.monotonic() + 100):
        assert remaining_s(default=5.0, action="x") == 5.0
        assert 5.0 < remaining_s(default=500.0, action="x") <= 100.0
    with (
        handling(CAUSE, deadline=time.monotonic() - 1),
        pytest.raises(DeadlineExceeded, match="look up the customer did not finish"),
    ):
        remaining_s(default=5.0, action="look up the customer")


def test_traceparent_child_and_root() -> None:
    """A child keeps trace id and flags with a span of its own; a malformed parent begins anew."""
    child = new_traceparent(PARENT)
    assert child.startswith(PARENT[:36])
    assert child.endswith("-01")
    assert child != PARENT
    form = r"00-[0-9a-f]{32}-[0-9a-f]{16}-01"
    for parent in ("", "00-short-b7ad6b7169203331-01", "nonsense"):
        assert re.fullmatch(form, new_traceparent(parent))


def test_headers_of_a_context() -> None:
    """A request names the handled message as its cause, and carries tenant, token and time left."""
    headers = to_headers(Context(CAUSE, time.monotonic() + 10, "token"))
    assert headers[CORRELATION_ID] == "start"
    assert headers[CAUSATION_ID] == "cause"
    assert headers[TENANT] == "shop"
    assert headers[CONSISTENCY_TOKEN] == "token"
    assert headers[TRACEPARENT][:36] == PARENT[:36]
    assert 9_000 < int(headers[TIMEOUT_MS]) <= 10_000
    assert "eve" not in headers.values()


def test_headers_without_a_context() -> None:
    """Outside any context a request only begins a trace."""
    assert list(to_headers(None)) == [TRACEPARENT]


def test_passed_deadline_is_zero() -> None:
    """A deadline that has passed travels as 0, not as a negative number."""
    assert to_headers(Context(CAUSE, time.monotonic() - 5))[TIMEOUT_MS] == "0"


def test_headers_round_trip() -> None:
    """What one side sends, the other side reads."""
    headers = to_headers(Context(CAUSE, time.monotonic() + 10, "token"))
    metadata, deadline = from_headers(headers)
    assert (metadata.correlation_id, metadata.causation_id) == ("start", "cause")
    assert (metadata.tenant, metadata.principal) == ("shop", "")
    assert metadata.traceparent == headers[TRACEPARENT]
    assert deadline is not None
    assert 9.0 < deadline - time.monotonic() <= 10.0


def test_request_without_headers() -> None:
    """A request without any header begins a conversation and a trace, without a deadline."""
    metadata, deadline = from_headers({})
    assert metadata.correlation_id == metadata.id
    assert metadata.traceparent
    assert deadline is None


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "١٢", "1" * 12, " 5"])
def test_malformed_timeout(text: str) -> None:
    """A time-out that is not a whole number of milliseconds is refused, naming the header."""
    with pytest.raises(MalformedMessage, match="headwater-timeout-ms is malformed"):
        from_headers({TIMEOUT_MS: text})


@given(st.text(), st.text())
def test_identifiers_are_cleaned(correlation: str, parent: str) -> None:
    """Identifiers that are overlong or unprintable are dropped, a malformed trace begins anew."""
    metadata, _ = from_headers({CORRELATION_ID: correlation, TRACEPARENT: parent})
    assert metadata.correlation_id in (correlation, from_header(correlation), metadata.id)
    assert metadata.correlation_id.isprintable()
    assert re.match(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", metadata.traceparent)


def test_overlong_identifier() -> None:
    """An identifier of more than 256 characters is dropped."""
    assert from_headers({CAUSATION_ID: "t" * 256})[0].causation_id == "t" * 256
    assert from_headers({CAUSATION_ID: "t" * 257})[0].causation_id == ""


def test_stable_hash_is_crc32() -> None:
    """The hash is CRC-32, whose check value is published, so that it never changes."""
    assert stable_hash("123456789") == 0xCBF43926
    assert stable_hash("") == 0
