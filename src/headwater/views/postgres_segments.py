"""Segments in PostgreSQL: tokens, claims, leases and fences. Each function is one statement."""

from collections.abc import Sequence
from typing import Any

from headwater._sql.resources import statements
from headwater.errors import ClaimLost
from headwater.views.api import Segment

_SQL = statements("headwater.views", "postgres_segments.sql")

Claim = tuple[str, int, int, int, int]
"""What identifies a claim: processor, generation, index, count, fence."""


def claim_of(segment: Segment) -> Claim:
    """Return what identifies the claim of a segment."""
    return (segment.processor, segment.generation, segment.index, segment.count, segment.fence)


async def list_segments(connection: Any, processor: str) -> list[Segment]:
    """Return the segments of a processor, or of all."""
    if processor:
        rows = await connection.fetch(_SQL["of_processor"], processor)
    else:
        rows = await connection.fetch(_SQL["all"])
    return [Segment(*row) for row in rows]


async def open_segments(
    connection: Any, processor: str, *, count: int, token: str, generation: int
) -> list[Segment]:
    """Return the segments of a generation, made first if there are none; under the lock."""
    rows = await connection.fetch(_SQL["of_generation"], processor, generation)
    if rows:
        return [Segment(*row) for row in rows]
    await connection.execute(_SQL["make"], processor, generation, count, token)
    return [Segment(processor, generation, n, count, token) for n in range(count)]


async def claim(
    connection: Any,
    segment: Segment,
    *,
    owner: str,
    lease_s: float,
    now: float | None,
    restarted: bool,
) -> Segment | None:
    """Take a segment that nobody holds, or only our former self.

    ``now`` None: by the database's clock.
    """
    key = (segment.processor, segment.generation, segment.index, segment.count)
    row = await connection.fetchrow(_SQL["claim"], *key, owner, float(lease_s), now, restarted)
    return None if row is None else Segment(*row)


async def renew(
    connection: Any, segments: Sequence[Segment], *, lease_s: float, now: float | None
) -> list[Segment]:
    """Prolong those claims that are still held."""
    rows = await connection.fetch(_SQL["renew"], *_arrays(segments), float(lease_s), now)
    renewed = {claim_of(segment): segment for segment in (Segment(*row) for row in rows)}
    return [renewed[claim_of(s)] for s in segments if claim_of(s) in renewed]


async def release(connection: Any, segments: Sequence[Segment]) -> None:
    """Give back those claims that are still held."""
    await connection.execute(_SQL["release"], *_arrays(segments))


async def advance(connection: Any, segments: Sequence[Segment], token: str) -> str:
    """Set the token of held segments; return the number of the transaction.

    Raises:
        ClaimLost: one of them is not held any more.
    """
    rows = await connection.fetch(_SQL["advance"], *_arrays(segments), token)
    moved = {tuple(row)[:4] for row in rows}
    for segment in segments:
        if claim_of(segment)[:4] not in moved:
            raise ClaimLost(processor=segment.processor, segment=segment.index)
    return str(rows[0][4])


async def lock_segments(connection: Any, processor: str, generation: int) -> list[Segment]:
    """Return the segments of a generation, by index; nobody else changes them before the end."""
    rows = await connection.fetch(_SQL["lock"], processor, generation)
    return [Segment(*row) for row in rows]


async def replace(connection: Any, segments: Sequence[Segment]) -> str:
    """Put segments in the place of all those of their generation.

    Returns the number of the transaction.

    Raises:
        ClaimLost: there are none.
    """
    first = segments[0]
    former = await lock_segments(connection, first.processor, first.generation)
    if not former:
        raise ClaimLost(processor=first.processor, segment=first.index)
    fence = 1 + max(segment.fence for segment in former)
    await drop_segments(connection, first.processor, first.generation, older=False)
    rows = await connection.fetch(
        _SQL["put"],
        *_arrays(segments)[:5],
        [s.token for s in segments],
        [s.lease_until for s in segments],
        fence,
    )
    return str(rows[0][0])


async def outcome(connection: Any, transaction: str) -> str | None:
    """Return whether a transaction is ``committed``, ``aborted`` or ``in progress``."""
    found: str | None = await connection.fetchval(_SQL["outcome"], transaction)
    return found


async def reset(connection: Any, processor: str, *, token: str, generation: int) -> None:
    """Set all tokens of a generation and end its claims."""
    await connection.execute(_SQL["reset"], processor, generation, token)


async def drop_segments(connection: Any, processor: str, generation: int, *, older: bool) -> None:
    """Remove the segments of a generation, or of all before it."""
    await connection.execute(_SQL["drop_older" if older else "drop"], processor, generation)


def _arrays(segments: Sequence[Segment]) -> list[list[Any]]:
    return [
        [s.processor for s in segments],
        [s.generation for s in segments],
        [s.index for s in segments],
        [s.count for s in segments],
        [s.owner for s in segments],
        [s.fence for s in segments],
    ]
