"""When a call may be repeated, and after how long."""

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from headwater.messages.headers import IDEMPOTENCY_KEY

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
RETRYABLE_STATUSES = frozenset({502, 503, 504})
BACKOFF_S = 0.05
BACKOFF_S_MAX = 2.0
RETRY_AFTER_S_MAX = 5.0


def is_safe(method: str, headers: Mapping[str, str], *, idempotent: bool) -> bool:
    """Whether carrying a request out twice is the same as once.

    Source: RFC 9110, section 9.2.2, for the methods; an idempotency key makes any method safe,
    unless it is blank.
    """
    if idempotent or method in IDEMPOTENT_METHODS:
        return True
    return any(value.strip() and name.lower() == IDEMPOTENCY_KEY for name, value in headers.items())


def backoff_s(attempt: int, random: Callable[[], float]) -> float:
    """Return the pause after a failed attempt, counted from 0: exponential, with full jitter."""
    ceiling: float = min(BACKOFF_S * 2**attempt, BACKOFF_S_MAX)
    return random() * ceiling


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After asks for; None without one that can be understood.

    Source: RFC 9110, section 10.2.3: seconds or an HTTP date. A date is compared with that of the
    answer, by the same clock, as ours may be another.
    """
    text = headers.get("Retry-After")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(text)
        return max(0.0, (then - parsedate_to_datetime(headers["Date"])).total_seconds())
    except (KeyError, TypeError, ValueError):  # TypeError: one of the two has no zone
        return None
