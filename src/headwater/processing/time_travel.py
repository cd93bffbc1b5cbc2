"""The state of a view at a past position or time, by replay into a scratch store."""

from datetime import datetime
from typing import TypeVar

from headwater.errors import InvalidInput
from headwater.messages import Textual
from headwater.modelling.event_handlers import EventHandlers
from headwater.processing.handling.applier import EventFailed
from headwater.processing.running.projector import applier_of
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.store import StoreSource
from headwater.processing.sources.tokens import Token
from headwater.views import View, ViewStore

V = TypeVar("V", bound=View)
_PAGE = 2000


async def view_at(
    projection: EventHandlers | type[EventHandlers],
    view: type[V],
    key: Textual,
    *,
    source: StoreSource,
    scratch: ViewStore,
    position: int | None = None,
    time: datetime | None = None,
) -> V | None:
    """Return a view as it was when the projection had handled all events up to a place.

    The projection's handlers run over the events from the first on; free-form handlers only if
    they take the transaction, so that nothing happens again in the outside world. An event that
    fails ends the replay, as the view then cannot be told.

    Args:
        projection: the projection that keeps the view (an object of its own, or its class).
        view: the view type.
        key: which one.
        source: the store with the events.
        scratch: an empty view store to replay into, such as ``MemoryViewStore()``.
        position: up to and including this position.
        time: up to and including events recorded at this time (aware).

    Raises:
        InvalidInput: not exactly one of position and time is given, the time is naive, or the
            store is sharded and has no common positions.
        HeadwaterError: what a handler raised.
    """
    if (position is None) == (time is None):
        raise InvalidInput(reason="give either a position or a time")
    time_us: int | None = None
    if time is not None:
        if time.tzinfo is None:
            raise InvalidInput(reason=f"{time.isoformat()} has no time zone: add one, such as Z")
        time_us = int(time.timestamp() * 1_000_000) + 1
    goal = await source.at(position=position, time_us=time_us)
    return await view_after(projection, view, key, source=source, scratch=scratch, goal=goal)


async def view_after(
    projection: EventHandlers | type[EventHandlers],
    view: type[V],
    key: Textual,
    *,
    source: StoreSource,
    scratch: ViewStore,
    goal: Token,
) -> V | None:
    """Return a view as it was at a token of its source; otherwise as `view_at`."""
    applier = applier_of(projection, source=source, views=scratch)
    await scratch.ensure(applier.views)
    pages = source.towards(await source.begin(), goal, types=applier.types, page_size=_PAGE)
    try:
        async for page in pages:
            async with scratch.transaction() as transaction:
                await applier.apply(transaction, page.events)
    except EventFailed as failure:
        raise failure.cause from None
    finally:
        await close_iterator(pages)
    return await scratch.get(view, key)
