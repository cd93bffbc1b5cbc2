"""Giving stored events the tags that their classes give today, any number of times.

Tags are stored when an event is; one that a class got later does not reach what was stored before.
Only events whose tags differ are written, so that a second run over the same events changes
nothing, and one that was interrupted is simply begun again, at any position up to where it was.
"""

import contextlib

import msgspec

from headwater.errors import HeadwaterError
from headwater.eventstore.api import EventStore, StoredEvent
from headwater.eventstore.copy import Progress, ahead
from headwater.messages import Codec, message_type
from headwater.messages.codec import EventCodec
from headwater.messages.sealing import opened_event

PAGE = 500


class Unread(msgspec.Struct, frozen=True):
    """An event whose content could not be read, and which keeps its tags."""

    position: int
    stream: str
    version: int
    type: str
    reason: str


class Retagged(msgspec.Struct):
    """What was found, and done.

    Attributes:
        began: the position before the first event that was looked at.
        position: the position of the last.
        changed: how many events had other tags, by type; with ``check`` they still have.
        unknown: how many events are of types whose class is not known, by type; they stay.
        unread: how many events could not be read; they stay.
        examples: the first of them.
    """

    began: int
    position: int
    changed: dict[str, int] = {}
    unknown: dict[str, int] = {}
    unread: int = 0
    examples: list[Unread] = []


_EXAMPLES = 10


async def retag_store(
    log: EventStore,
    codec: EventCodec,
    *,
    after: int = 0,
    check: bool = False,
    through: Codec | None = None,
    page_size: int = PAGE,
    progress: Progress = lambda _position, _head: None,
) -> Retagged:
    """Give all events from a position to the head the tags that their content has by now.

    An event that has become others has the tags of all of them; one that has become none keeps
    what it has. The store may be in use meanwhile: each page is one step, and appends go on between
    them. What is stored after the beginning is not looked at; programs that store events with the
    tags of today must run by then.

    Args:
        log: a log; a sharded store has several.
        codec: knows the classes.
        after: begin behind this position.
        check: change nothing, only count.
        through: the codec of the service, through which contents are stored.
        page_size: how many events are looked at in one step.
        progress: is told how far it is.

    Cancellation: what was done stays; another call from there on goes on.

    Raises:
        StoreUnavailable: the store is away; another call goes on.
        DiskFull: as above.
    """
    head = await log.head()
    found = Retagged(began=after, position=after)
    progress(after, head)
    if after >= head:
        return found
    pages = ahead(log.read(after=after, until=head, page_size=page_size))
    async with contextlib.aclosing(pages):
        async for page in pages:
            tags: dict[int, tuple[str, ...]] = {}
            for event in page.events:
                wanted = _tags_of(event, codec, through, found)
                if set(wanted) != set(event.tags):
                    tags[event.position] = wanted
                    found.changed[event.type] = found.changed.get(event.type, 0) + 1
            if tags and not check:
                await log.retag(tags)
            found.position = page.through
            progress(page.through, head)
    return found


def _tags_of(
    event: StoredEvent, codec: EventCodec, through: Codec | None, found: Retagged
) -> tuple[str, ...]:
    """Return the tags that an event should have; those that it has when that cannot be told."""
    if not codec.knows(event.type):
        found.unknown[event.type] = found.unknown.get(event.type, 0) + 1
        return event.tags
    try:
        content = opened_event(through, event).data
        became = codec.decode_all(event.type, event.type_version, content)
        tags = [tag for each in became for tag in message_type(type(each)).tags_of(each)]
    except HeadwaterError as error:
        found.unread += 1
        if len(found.examples) < _EXAMPLES:
            found.examples.append(
                Unread(event.position, event.stream, event.version, event.type, str(error))
            )
        return event.tags
    return tuple(dict.fromkeys(tags)) if became else event.tags
