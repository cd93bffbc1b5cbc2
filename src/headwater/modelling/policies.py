"""What a saga, an event handler or a projection may say about how it is run."""

import random
from datetime import UTC, datetime
from typing import Any

import msgspec

from headwater.errors import DeclarationError

Start = str | datetime
"""Where a processor begins: ``"beginning"``, ``"now"``, or a time (aware, or ISO 8601 text)."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often an event that fails is tried before its sequence is parked: for about a minute.

    Attributes:
        attempts: how often at most, 1 or more.
        pause_s, pause_max_s: the pause after the first failure; it doubles up to the largest.
    """

    attempts: int = 10
    pause_s: float = 0.25
    pause_max_s: float = 15.0

    @property
    def possible(self) -> bool:
        """Whether there is an attempt at all, and no pause is negative."""
        return self.attempts >= 1 and 0.0 <= self.pause_s <= self.pause_max_s

    def pause(self, tries: int) -> float:
        """Return the pause after so many failed tries, seconds."""
        return spread(min(self.pause_max_s, self.pause_s * 2.0 ** min(tries - 1, 30)))


def start_time(start: Any) -> datetime | None:
    """Return the time at which a processor begins; None: it is none, but a word.

    Raises:
        TypeError, ValueError: it is neither.
    """
    if isinstance(start, str) and start in {"", "beginning", "now"}:
        return None
    time = datetime.fromisoformat(start) if isinstance(start, str) else start
    if not isinstance(time, datetime):  # an annotation may lie
        msg = f"it is a {type(start).__name__}"
        raise TypeError(msg)
    if time.tzinfo is None and isinstance(start, datetime):
        msg = f"{time.isoformat()} has no time zone"
        raise ValueError(msg)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def check_policies(subject: str, retry: Any, start: Any) -> None:
    """Check what a class says about how it is run.

    Raises:
        DeclarationError: it cannot be understood.
    """
    if retry is not None and not (isinstance(retry, Retry) and retry.possible):
        reason = f"retry must be a Retry with attempts >= 1 and pauses >= 0, got {retry!r}"
        raise DeclarationError(subject=subject, reason=reason)
    try:
        start_time(start)
    except (TypeError, ValueError) as error:
        raise DeclarationError(
            subject=subject,
            reason=f'start must be "beginning", "now", or a time with its zone such as '
            f'"2026-01-31T00:00:00Z", got {start!r} ({error})',
        ) from error


def spread(pause_s: float) -> float:
    """Return about the same pause: whoever failed together does not come back together."""
    return pause_s * random.uniform(0.8, 1.2)  # noqa: S311  # nothing secret
