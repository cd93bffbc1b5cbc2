"""Times as people write and read them; inside everything is microseconds UTC."""

from datetime import UTC, datetime

from headwater.errors import ConfigurationError
from headwater.messages import now_us


def parse_time(text: str, *, option: str) -> int:
    """Return an ISO 8601 time as microseconds since 1970 UTC; without a zone it is UTC.

    Raises:
        ConfigurationError: it is not such a time.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            subject=f"{option} {text}",
            reason="expected an ISO 8601 time, for example 2026-03-01T12:00:00Z",
        ) from error
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    seconds = int(parsed.replace(microsecond=0).timestamp())
    return seconds * 1_000_000 + parsed.microsecond


def show_time(time_us: int) -> str:
    """Return microseconds since 1970 UTC as ISO 8601, to the microsecond."""
    seconds, micros = divmod(time_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def show_since(time_us: int) -> str:
    """Return how long ago something was, in one unit."""
    if not time_us:
        return ""
    passed_s = max(0, now_us() - time_us) / 1_000_000
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if passed_s >= 2 * seconds:
            return f"{passed_s / seconds:.0f} {unit}"
    return f"{passed_s:.0f} s"
