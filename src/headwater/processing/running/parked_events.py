"""Whether what a consistency token names waits among the dead letters: views cannot show it then.

Looked up only when the tracking tokens say that there are letters, and in the view store, as
they may be another process's.
"""

from collections.abc import Mapping

from headwater.errors import EventParked, MalformedMessage
from headwater.messages import ConsistencyToken
from headwater.messages.codec import decode_metadata
from headwater.processing.handling.applier import Applier
from headwater.processing.handling.dead_letters import (
    DeadLetter,
    first_letter,
    letters,
    queue_of,
    sequence_key_of,
)
from headwater.processing.sources.consistency import Followed, followed
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.source import RawEvent
from headwater.processing.sources.store import StoreSource
from headwater.processing.sources.tokens import Token
from headwater.views import ViewStore

_PAGE = 20  # most commands have fewer events


class ParkedEvents:
    """The events of one processor that are parked, as its view store has them."""

    def __init__(self, applier: Applier, views: ViewStore) -> None:
        """Look for the letters of a processor."""
        self._applier = applier
        self._views = views
        self._ids: dict[tuple[str, str, int], str] = {}  # of letters, by log, epoch and position
        self._ensured = False
        self._seen: object = None  # when that was read: the generation and what the tokens said

    async def check(
        self, tokens: Mapping[int, Token], wanted: ConsistencyToken
    ) -> DeadLetter | None:
        """Return None if the views show what a token names that the tracking tokens have passed.

        Else the letter that waits for its next try: of an event that it names, or of an earlier
        one of its sequence.

        Raises:
            EventParked: such an event is parked for good.
        """
        if not self._ensured:
            await self._views.ensure([DeadLetter])
            self._ensured = True
        generation = await self._views.generation(self._applier.name, code=self._applier.code)
        queue = queue_of(self._applier.name, generation)
        source = self._applier.source
        waiting: DeadLetter | None = None
        for place in followed(source, wanted):
            if isinstance(source, StoreSource):
                found = await self._check_stored(source, queue, place.shard, place.position)
            else:
                found = await self._check_delivered(tokens, queue, place)
            waiting = waiting or found
        return waiting

    async def _check_stored(
        self, source: StoreSource, queue: str, shard: int, position: int
    ) -> DeadLetter | None:
        """Look for letters of the sequences that the command's events belong to.

        A command's events are next to each other. The last one, which the token names, need not
        be one that the processor handles.
        """
        command = ""
        checked: set[str] = set()
        waiting: DeadLetter | None = None
        pages = source.store.shards[shard].read(until=position, backwards=True, page_size=_PAGE)
        try:
            async for page in pages:
                for event in page.events:
                    cause = _cause_of(event)
                    if event.position < position and (not cause or cause != command):
                        return waiting
                    command = cause
                    sequence = self._applier.sequence_of(event)
                    if sequence not in checked:
                        checked.add(sequence)
                        letter = await first_letter(self._views, sequence_key_of(queue, sequence))
                        waiting = waiting or self._refused(letter, position)
        finally:
            await close_iterator(pages)
        return waiting

    async def _check_delivered(
        self, tokens: Mapping[int, Token], queue: str, place: Followed
    ) -> DeadLetter | None:
        """Look for the letter of the event itself: a bus does not find events by position."""
        seen = (queue, sorted((index, token.parked) for index, token in tokens.items()))
        if self._seen != seen:
            self._ids = {
                (letter.event.source, letter.event.epoch, letter.event.position): letter.id
                async for letter in letters(self._views, queue=queue)
                if letter.event is not None
            }
            self._seen = seen
        key = self._ids.get((place.log, place.epoch, place.position))
        letter = None if key is None else await self._views.get(DeadLetter, key)
        if letter is not None:
            letter = await first_letter(self._views, letter.sequence_key)
        return self._refused(letter, place.position)

    def _refused(self, letter: DeadLetter | None, position: int) -> DeadLetter | None:
        """Return the first letter of a sequence if it waits, and a position with it."""
        if letter is None or letter.event is None or letter.event.position > position:
            return None
        if letter.state == "parked":
            raise EventParked(
                processor=self._applier.name,
                sequence=letter.sequence,
                position=letter.event.position,
                expected=position,
            )
        return letter


def _cause_of(event: RawEvent) -> str:
    """Return the id of the command that an event is of, empty if that cannot be told."""
    try:
        return decode_metadata(event.metadata).causation_id
    except MalformedMessage:  # of another program
        return ""
