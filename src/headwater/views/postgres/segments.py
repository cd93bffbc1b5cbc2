"""Segments in PostgreSQL: tokens, claims, leases and fences."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headwater._sql.postgres.commits import Found
from headwater._sql.resources import statements
from headwater.errors import ClaimLost
from headwater.views.api import LEASE_S_MAX, Segment
from headwater.views.doubts import Claim, claim_of

_SQL = statements("headwater.views.postgres", "segments.sql")


class Proof(msgspec.Struct, frozen=True):
    """What a segment shows once a transaction is stored: its token's steps under a claim."""

    processor: str
    generation: int
    index: int
    count: int
    fence: int
    steps: int


async def lock(connection: Any) -> None:
    """Keep others from changing shapes, generations and sets of segments until the commit."""
    await connection.execute(_SQL["lock_all"])


async def list_segments(connection: Any, processor: str) -> list[Segment]:
    """Return the segments of a processor, or of all."""
    if processor:
        rows = await connection.fetch(_SQL["of_processor"], processor)
    else:
        rows = await connection.fetch(_SQL["all"])
    return [Segment(*row) for row in rows]


async def make(
    connection: Any, processor: str, *, count: int, token: str, generation: int
) -> list[Segment]:
    """Make the segments of a generation, which has none; under the lock."""
    rows = await connection.fetch(_SQL["make"], processor, generation, count, token)
    return [Segment(*row) for row in rows]


async def of_generation(connection: Any, processor: str, generation: int) -> list[Segment]:
    """Return the segments of a generation, by index."""
    rows = await connection.fetch(_SQL["of_generation"], processor, generation)
    return [Segment(*row) for row in rows]


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
    values = (owner, float(lease_s), now, restarted, LEASE_S_MAX)
    row = await connection.fetchrow(_SQL["claim"], *key, *values)
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


async def advance(
    connection: Any, segments: Sequence[Segment], token: str, known: Mapping[Claim, int]
) -> dict[Claim, int]:
    """Set the token of held segments; return for each claim how many steps it has made by now.

    Args:
        connection: in a transaction.
        segments: with our claims.
        token: where they are now.
        known: for claims how many steps they have made before, as far as we know.

    Raises:
        ClaimLost: one of them is not held any more, or is not where we left it.
    """
    before = [known.get(claim_of(segment)) for segment in segments]
    sql = _SQL["advance" if len(segments) == 1 else "advance_several"]
    rows = await connection.fetch(sql, *_arrays(segments), token, before)
    moved = {tuple(row[:5]): int(row[5]) for row in rows}
    for segment in segments:
        if claim_of(segment) not in moved:
            raise ClaimLost(processor=segment.processor, segment=segment.index)
    return moved


async def lock_segments(connection: Any, processor: str, generation: int) -> list[Segment]:
    """Return the segments of a generation, by index; nobody else changes them before the end.

    Under the lock: segments that others are just replacing would not be found.
    """
    rows = await connection.fetch(_SQL["lock"], processor, generation)
    return [Segment(*row) for row in rows]


async def replace(connection: Any, segments: Sequence[Segment]) -> None:
    """Put segments in the place of all those of their generation; under the lock.

    Raises:
        ClaimLost: there are none.
    """
    first = segments[0]
    former = await lock_segments(connection, first.processor, first.generation)
    if not former:
        raise ClaimLost(processor=first.processor, segment=first.index)
    fence = 1 + max(segment.fence for segment in former)
    await connection.execute(_SQL["drop"], first.processor, first.generation)
    await connection.execute(
        _SQL["put"],
        *_arrays(segments)[:5],
        [s.token for s in segments],
        [s.lease_until for s in segments],
        fence,
    )


async def outcome(connection: Any, proof: Proof) -> Found:
    """Return what became of a transaction that nobody works on any more."""
    rows = await connection.fetch(_SQL["settle"], proof.processor, proof.generation)
    found = {(number, count): (fence, steps) for number, count, fence, steps in rows}
    fence, steps = found.get((proof.index, proof.count), (None, 0))
    if fence is None or fence > proof.fence:
        return "unknown"  # somebody else has gone on from there
    return "stored" if fence == proof.fence and steps >= proof.steps else "not stored"


async def reset(connection: Any, processor: str, *, token: str, generation: int) -> None:
    """Set all tokens of a generation and end its claims."""
    await lock(connection)
    await lock_segments(connection, processor, generation)
    await connection.execute(_SQL["reset"], processor, generation, token)


async def is_held(connection: Any, processor: str, generation: int, *, now: float | None) -> bool:
    """Whether somebody holds a segment of a generation; under the lock."""
    await lock_segments(connection, processor, generation)
    return bool(await connection.fetchval(_SQL["held"], processor, generation, now, LEASE_S_MAX))


async def drop_segments(connection: Any, processor: str, generation: int) -> None:
    """Remove the segments of a generation, fences go on above theirs; under the lock."""
    former = await lock_segments(connection, processor, generation)
    await connection.execute(_SQL["drop"], processor, generation)
    if former:
        await connection.execute(_SQL["keep_fence"], processor, max(s.fence for s in former))


def _arrays(segments: Sequence[Segment]) -> list[list[Any]]:
    return [
        [s.processor for s in segments],
        [s.generation for s in segments],
        [s.index for s in segments],
        [s.count for s in segments],
        [s.owner for s in segments],
        [s.fence for s in segments],
    ]
