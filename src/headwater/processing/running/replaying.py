"""Replays: which events are handled once more, and where a processor begins."""

from collections.abc import Container

import msgspec

from headwater.errors import ConfigurationError
from headwater.modelling.policies import start_time
from headwater.processing.handling.applier import Applier
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.source import EventId, Source, SourcePage, event_id
from headwater.processing.sources.tokens import Token

_PAGE = 2000


class _Every(Container[EventId]):
    def __contains__(self, _: object) -> bool:
        return True


_EVERY = _Every()


def replayed(applier: Applier, token: Token, page: SourcePage) -> Container[EventId]:
    """Return which events of a page that comes after a token are handled once more."""
    goal = token.replay
    if goal is None or not applier.tells_replays:
        return ()
    if applier.source.reached(goal, page.token):
        return _EVERY
    again = applier.source.passed(page, goal)
    return {event_id(event) for event, old in zip(page.events, again, strict=True) if old}


async def replaying(source: Source, token: Token) -> Token:
    """Return a token from which on all that is there by now is handled once more."""
    head = await source.head()
    return token if source.reached(token, head) else msgspec.structs.replace(token, replay=head)


async def first_token(applier: Applier) -> Token:
    """Return where the segments of a processor that was never started begin.

    Raises:
        ConfigurationError: there are events already, and nobody has said what about them.
    """
    source, start = applier.source, applier.start
    if start == "now":
        return await source.now()
    if not start and await _has_history(applier):
        raise ConfigurationError(
            subject=f"processor {applier.name!r}",
            reason="is new, and there are events already that it would handle: declare "
            'start = "beginning" (it handles them all) or start = "now" (only what comes from '
            "now on), or a time; of a saga saga_start",
        )
    time = start_time(start)
    if time is None:
        return await replaying(source, await source.begin())
    return await replaying(source, await source.at(time_us=int(time.timestamp() * 1_000_000)))


async def _has_history(applier: Applier) -> bool:
    source = applier.source
    pages = source.towards(
        await source.begin(), await source.head(), types=applier.types, page_size=_PAGE
    )
    try:
        async for page in pages:
            if any(applier.wants(event.type) for event in page.events):
                return True
    finally:
        await close_iterator(pages)
    return False
