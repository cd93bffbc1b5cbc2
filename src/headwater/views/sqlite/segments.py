"""Segments in SQLite: tokens, claims, leases and fences. Each function is one short statement."""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from headwater._sql.resources import statements
from headwater.errors import ClaimLost
from headwater.views.api import LEASE_S_MAX, Segment

_json = msgspec.json.Encoder().encode
_SQL = statements("headwater.views.sqlite", "segments.sql")


def list_segments(connection: apsw.Connection, processor: str) -> list[Segment]:
    """Return the segments of a processor, or of all."""
    if processor:
        rows = connection.execute(_SQL["of_processor"], {"processor": processor})
    else:
        rows = connection.execute(_SQL["all"])
    return [Segment(*row) for row in rows]


def make(
    connection: apsw.Connection, processor: str, *, count: int, token: str, generation: int
) -> list[Segment]:
    """Make the segments of a generation, which has none."""
    wanted = [Segment(processor, generation, n, count, token) for n in range(count)]
    connection.executemany(_SQL["make"], [_bindings(segment) for segment in wanted])
    return of_generation(connection, processor, generation)


def claim(
    connection: apsw.Connection,
    segment: Segment,
    *,
    owner: str,
    lease_s: float,
    now: float,
    restarted: bool,
) -> Segment | None:
    """Take a segment that nobody holds, or only our former self."""
    bindings = {
        **_bindings(segment),
        "owner": owner,
        "lease_s": lease_s,
        "now": now,
        "lease_s_max": LEASE_S_MAX,
        "restarted": restarted,
    }
    row = connection.execute(_SQL["claim"], bindings).fetchone()
    return None if row is None else Segment(*row)


def renew(
    connection: apsw.Connection, segments: Sequence[Segment], *, lease_s: float, now: float
) -> list[Segment]:
    """Prolong those claims that are still held."""
    found = []
    for segment in segments:
        bindings = {**_bindings(segment), "lease_s": lease_s, "now": now}
        found += [Segment(*row) for row in connection.execute(_SQL["renew"], bindings)]
    return found


def release(connection: apsw.Connection, segments: Sequence[Segment]) -> None:
    """Give back those claims that are still held."""
    for segment in segments:
        connection.execute(_SQL["release"], _bindings(segment))


def advance(connection: apsw.Connection, segments: Sequence[Segment], token: str) -> None:
    """Set the token of held segments.

    Raises:
        ClaimLost: one of them is not held any more.
    """
    first = segments[0] if segments else None
    if first is not None and len({(s.processor, s.generation, s.owner) for s in segments}) == 1:
        claims = [(s.index, s.count, s.fence) for s in segments]
        bindings = {**_bindings(first), "token": token, "claims": _json(claims).decode()}
        connection.execute(_SQL["advance_all"], bindings)
        if connection.changes() == len(segments):
            return
    for segment in segments:  # one is lost: which?
        connection.execute(_SQL["advance"], {**_bindings(segment), "token": token})
        if connection.changes() != 1:
            raise ClaimLost(processor=segment.processor, segment=segment.index)


def of_generation(connection: apsw.Connection, processor: str, generation: int) -> list[Segment]:
    """Return the segments of a generation, by index."""
    which = {"processor": processor, "generation": generation}
    return [Segment(*row) for row in connection.execute(_SQL["of_generation"], which)]


def replace(connection: apsw.Connection, segments: Sequence[Segment]) -> None:
    """Put segments in the place of all those of their generation.

    Raises:
        ClaimLost: there are none.
    """
    first = segments[0]
    former = of_generation(connection, first.processor, first.generation)
    if not former:
        raise ClaimLost(processor=first.processor, segment=first.index)
    fence = 1 + max(segment.fence for segment in former)
    which = {"processor": first.processor, "generation": first.generation}
    connection.execute(_SQL["drop"], which)
    rows = [{**_bindings(s), "lease_until": s.lease_until, "fence": fence} for s in segments]
    connection.executemany(_SQL["put"], rows)


def reset(connection: apsw.Connection, processor: str, *, token: str, generation: int) -> None:
    """Set all tokens of a generation and end its claims."""
    which = {"processor": processor, "generation": generation, "token": token}
    connection.execute(_SQL["reset"], which)


def is_held(connection: apsw.Connection, processor: str, generation: int, *, now: float) -> bool:
    """Whether somebody holds a segment of a generation."""
    former = of_generation(connection, processor, generation)
    return any(segment.is_held(now) for segment in former)


def drop_segments(connection: apsw.Connection, processor: str, generation: int) -> None:
    """Remove the segments of a generation; fences go on above theirs."""
    former = of_generation(connection, processor, generation)
    connection.execute(_SQL["drop"], {"processor": processor, "generation": generation})
    if former:
        highest = {"processor": processor, "fence": max(segment.fence for segment in former)}
        connection.execute(_SQL["keep_fence"], highest)


def _bindings(segment: Segment) -> dict[str, Any]:
    return {
        "processor": segment.processor,
        "generation": segment.generation,
        "number": segment.index,
        "count": segment.count,
        "token": segment.token,
        "owner": segment.owner,
        "fence": segment.fence,
    }
