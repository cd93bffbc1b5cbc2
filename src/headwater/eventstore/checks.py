"""What every backend refuses, in the same words."""

from collections.abc import Sequence

from headwater.errors import HeadwaterError, InvalidInput, PipelineBroken
from headwater.eventstore.api import StreamWrite


def check_writes(writes: Sequence[StreamWrite]) -> None:
    """Refuse a stream that occurs twice in one append.

    Raises:
        InvalidInput: naming the stream.
    """
    if len(writes) < 2:
        return
    seen: set[str] = set()
    for write in writes:
        if write.stream in seen:
            reason = f"stream {write.stream!r} occurs twice in one append: join its events"
            raise InvalidInput(reason=reason)
        seen.add(write.stream)


def check_range(*, after: int, until: int | None, limit: int | None, page_size: int) -> None:
    """Refuse numbers that select nothing sensible.

    Raises:
        InvalidInput: naming the argument.
    """
    least = {"after": (after, 0), "until": (until, 0), "limit": (limit, 0)}
    least["page_size"] = (page_size, 1)
    for name, (actual, expected) in least.items():
        if actual is not None and actual < expected:
            raise InvalidInput(reason=f"{name} is {actual}, expected at least {expected}")


def stored_before(key: str) -> PipelineBroken:
    """Return what breaks a pipeline when one of its appends turns out to be a duplicate."""
    return PipelineBroken(cause=f"it was stored before under idempotency key {key!r}")


def broken_by(error: HeadwaterError) -> PipelineBroken:
    """Return the error for appends after the one that broke their pipeline."""
    return PipelineBroken(cause=error.cause if isinstance(error, PipelineBroken) else str(error))
