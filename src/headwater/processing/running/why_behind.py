"""Why a view is behind a consistency token: what whoever waited in vain is told."""

import asyncio
import contextlib

from headwater.errors import HeadwaterError, TokenMismatch
from headwater.messages import ConsistencyToken
from headwater.processing.handling.applier import Applier
from headwater.processing.running.claims import successor_of
from headwater.processing.running.pausing import known_pause_of
from headwater.processing.sources.consistency import followed
from headwater.processing.sources.source import Source
from headwater.processing.sources.store import StoreSource
from headwater.processing.sources.tokens import token_of
from headwater.views import Segment, ViewStore

_LOOK_S = 2.0  # who has waited in vain already does not wait long for this


async def why_behind(
    applier: Applier,
    views: ViewStore,
    token: ConsistencyToken,
) -> str:
    """Return what keeps a processor from reaching a token, in parentheses, as far as it shows.

    Nothing when that cannot be found out soon: it may just be slow.
    """
    source = applier.source
    with contextlib.suppress(HeadwaterError, TimeoutError):
        async with asyncio.timeout(_LOOK_S):
            why = await _end_of_store(source, token)
            pause = await known_pause_of(views, applier.name)
            if not why and pause is not None:
                why = f"it is {pause.told(now=await views.now())}"
            if not why:
                segments = await views.segments(applier.name)
                active = await views.generation(applier.name, code=applier.code)
                why = _of_segments(source, segments, active, await views.now())
            return f" ({why})" if why else ""
    return ""


async def _end_of_store(source: Source, token: ConsistencyToken) -> str:
    """Say whether the store does not hold what the token names."""
    if isinstance(source, StoreSource):
        head = await source.head()
        for place in followed(source, token):
            end = head.shard_position(source.name, place.shard)
            if end < place.position:
                return f"the event store ends at {end}: what the token names is not there"
    return ""


def _of_segments(source: Source, segments: list[Segment], active: int, now: float) -> str:
    """Say whether nobody works on the segments, or nobody can."""
    if successor_of(segments, active):
        return "its views are just being switched over"
    mine = [segment for segment in segments if segment.generation == active]
    try:
        for segment in mine:
            source.check(token_of(segment.token))
    except TokenMismatch:
        return "its views are of a store that was replaced: rebuild them"
    idle = sum(not segment.is_held(now) for segment in mine)
    if idle or not mine:
        return f"nobody works on {idle or 'any'} of its {len(mine)} segments"
    return ""
