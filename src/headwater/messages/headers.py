"""Names of the HTTP headers that carry a message's context, and both directions of it."""

import re
import time
from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from headwater.errors import MalformedMessage
from headwater.messages.idempotency import check_key, is_key
from headwater.messages.metadata import Context, Metadata, new_id, new_traceparent, now_us

IDEMPOTENCY_KEY = "idempotency-key"
IF_MATCH = "if-match"
KEEP_REFUSAL = "headwater-keep-refusal"
CONSISTENCY_TOKEN = "headwater-consistency-token"  # noqa: S105 - a header's name
TIMEOUT_MS = "headwater-timeout-ms"
CORRELATION_ID = "headwater-correlation-id"
CAUSATION_ID = "headwater-causation-id"
TENANT = "headwater-tenant"
SERVICE = "headwater-service"
TRACEPARENT = "traceparent"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_LENGTH_MAX = 256
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


def to_headers(context: Context | None) -> dict[str, str]:
    """Return the headers of a request made in a context; without one only a new trace.

    The request is caused by the message being handled, so that message's id is its causation id.
    The principal does not travel: the receiver establishes it from credentials. The time left is
    stated when the context has a deadline, 0 when it has passed.
    """
    if context is None:
        return {TRACEPARENT: new_traceparent()}
    cause = context.metadata
    headers = {
        TRACEPARENT: new_traceparent(cause.traceparent),
        CORRELATION_ID: to_header(cause.correlation_id or cause.id),
        CAUSATION_ID: to_header(cause.id),
    }
    if cause.tenant:
        headers[TENANT] = to_header(cause.tenant)
    if context.token:
        headers[CONSISTENCY_TOKEN] = context.token
    if context.deadline is not None:
        headers[TIMEOUT_MS] = str(max(0, int((context.deadline - time.monotonic()) * 1000)))
    return headers


def from_headers(headers: Mapping[str, str]) -> tuple[Metadata, float | None]:
    """Return the metadata of an arriving request and its deadline (`time.monotonic` seconds).

    Args:
        headers: a mapping that is case-insensitive or has lower-case names.

    A malformed trace parent starts a new trace (W3C Trace Context, section 3.2); a correlation or
    causation id that is overlong or not printable is dropped, since nothing depends on it.

    Raises:
        MalformedMessage: the time-out is not a number of milliseconds, or the tenant is overlong,
            not printable, or not percent-encoded UTF-8.
    """
    identity = new_id()
    parent = headers.get(TRACEPARENT, "")
    metadata = Metadata(
        id=identity,
        correlation_id=_clean(headers.get(CORRELATION_ID, "")) or identity,
        causation_id=_clean(headers.get(CAUSATION_ID, "")),
        time=now_us(),
        traceparent=parent if _TRACEPARENT.fullmatch(parent) else new_traceparent(),
        tenant=_tenant(headers.get(TENANT, "")),
    )
    timeout = headers.get(TIMEOUT_MS)
    if timeout is None:
        return metadata, None
    if not (timeout.isascii() and timeout.isdigit() and len(timeout) < 12):
        raise MalformedMessage(
            name=f"header {TIMEOUT_MS}",
            reason=f"{timeout[:20]!r} is not a whole number of milliseconds",
        )
    return metadata, time.monotonic() + int(timeout) / 1000


def idempotency_key(headers: Mapping[str, str]) -> str:
    """Return the key of ``Idempotency-Key``; empty without the header.

    Raises:
        MalformedMessage: it is blank, or no key (see `check_key`).
    """
    value = headers.get(IDEMPOTENCY_KEY)
    if value is None:
        return ""
    value = value.strip(" \t")
    decoded = from_header(value)
    key = decoded if decoded and is_key(decoded) else value  # the same each time, at any rate
    check_key(key, name=f"header {IDEMPOTENCY_KEY}")
    return key


def keep_refusal(headers: Mapping[str, str]) -> bool:
    """Return whether ``Headwater-Keep-Refusal: true`` asks to keep a refusal under the key.

    Raises:
        MalformedMessage: it is neither true nor false.
    """
    text = headers.get(KEEP_REFUSAL, "false").strip().lower()
    if text not in ("true", "false"):
        reason = f"{text[:20]!r} is neither true nor false"
        raise MalformedMessage(name=f"header {KEEP_REFUSAL}", reason=reason)
    return text == "true"


def expected_version(headers: Mapping[str, str]) -> int | None:
    """Return the version that ``If-Match: "7"`` asks for; None without the header or for ``*``.

    Raises:
        MalformedMessage: it is not one version.
    """
    text = headers.get(IF_MATCH)
    if text is None or text.strip() == "*":
        return None
    digits = text.strip().strip('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise MalformedMessage(
            name=f"header {IF_MATCH}", reason=f'{text[:30]!r} is not one version such as "7"'
        )
    return int(digits)


def to_header(text: str) -> str:
    """Return text as the value of a header: printable ASCII, all else percent-encoded UTF-8.

    Source: RFC 9110, section 5.5, for what a value may hold; RFC 3986, section 2.1.
    """
    plain = text.isascii() and text.isprintable() and "%" not in text and " " not in text
    return text if plain else quote(text, safe=_PLAIN)


def from_header(value: str) -> str | None:
    """Return the text that `to_header` made a value of; None when it is not such a value."""
    if "%" not in value:
        return value if value.isascii() else None
    try:
        return unquote_to_bytes(value).decode() if value.isascii() else None
    except UnicodeDecodeError:
        return None


def _tenant(value: str) -> str:
    text = from_header(value)
    if text is None or len(text) > _LENGTH_MAX or not text.isprintable():
        raise MalformedMessage(
            name=f"header {TENANT}",
            reason=f"{value[:50]!r} is not printable text of at most {_LENGTH_MAX} characters, "
            "percent-encoded as UTF-8 where it is not ASCII (Z%C3%BCrich)",
        )
    return text


def _clean(value: str) -> str:
    text = from_header(value)
    return text if text and len(text) <= _LENGTH_MAX and text.isprintable() else ""
