"""One transaction of a group: park what is poisoned, apply the rest, move the token on."""

import time
from collections.abc import Container, Iterator, Sequence
from itertools import groupby

import msgspec

from headwater.errors import ClaimLost, ConfigurationError, Unavailable
from headwater.messages import now_us
from headwater.processing.handling.applier import Applier, EventFailed
from headwater.processing.handling.dead_letters import (
    DeadLetter,
    any_letter,
    last_us,
    letter_of,
    queue_of,
    sequence_key_of,
    still_parked,
    waiting_again,
)
from headwater.processing.running.claims import Claims
from headwater.processing.running.segment_groups import SegmentGroup
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources.source import EventId, RawEvent, event_id
from headwater.processing.sources.tokens import Token
from headwater.views import Segment, ViewStore, ViewTransaction
from headwater.views.model import model_name

SOON_S = 0.02
"""Extra work that is due by then is done together with events."""

_LOOK_S = 1.0  # how often it is found out whether there are letters left at all


class _FreedError(Exception):
    """A sequence was parked when its handlers outside were to run, and is not any more."""


class Committer:
    """Commits batches of one processor.

    ``parked`` are the sequences that may have letters, ``written`` the letters of the last batch
    that wait for their next try or are dead.
    """

    def __init__(
        self, applier: Applier, views: ViewStore, claims: Claims, settings: ProcessorSettings
    ) -> None:
        """Work on a view store."""
        self._applier = applier
        self._source = applier.source
        self._views = views
        self._claims = claims
        self._settings = settings
        self.parked: set[str] = set()
        self.written: list[DeadLetter] = []
        self.handled = 0
        self._looked_at = 0.0  # monotonic seconds

    @property
    def generations(self) -> dict[str, int]:
        """The generation to work on, for each view of the processor."""
        generation = self._claims.generation
        return {model_name(view): generation for view in self._applier.views}

    async def commit(
        self,
        group: SegmentGroup,
        events: Sequence[RawEvent],
        token: Token,
        *,
        careful: bool = False,
        replayed: Container[EventId] = (),
    ) -> Token:
        """Handle events of a group and set its token, in one transaction; return it as it is set.

        Args:
            group: the group.
            events: its events, in order.
            token: the token after them.
            careful: one event at a time, to find out which one fails.
            replayed: those that are handled once more.

        Raises:
            EventFailed: an event failed; nothing was changed.
            ClaimLost: a segment is not ours any more; nothing was changed.
            Unavailable: a store is away; nothing was changed, or the claims count as lost.
        """
        while True:
            if self._applier.isolated:
                await self._outside(group, events, replayed)
            try:
                return await self._commit(group, events, token, careful, replayed)
            except _FreedError:
                continue

    async def _outside(
        self, group: SegmentGroup, events: Sequence[RawEvent], replayed: Container[EventId]
    ) -> None:
        """Run the handlers that take no part in the transaction; those that have run run no more.

        Nobody waits for them but the segments of the group.
        """
        queue = queue_of(self._applier.name, self._claims.generation)
        sequences = [self._applier.sequence_of(event) for event in events]
        behind = await still_parked(self._views, queue, self.parked.intersection(sequences))
        for event, sequence in zip(events, sequences, strict=True):
            poison = group.poison.get(sequence)
            if poison is not None and poison.event is event:
                behind.add(sequence)
            if sequence in behind or event_id(event) in group.done:
                continue
            for segment in group.segments.values():
                if not self._claims.holds(segment):
                    raise ClaimLost(processor=segment.processor, segment=segment.index)
            await self._applier.outside(event, replaying=event_id(event) in replayed)
            group.done.add(event_id(event))

    async def _commit(
        self,
        group: SegmentGroup,
        events: Sequence[RawEvent],
        token: Token,
        careful: bool,  # see `commit`
        replayed: Container[EventId],
    ) -> Token:
        applier = self._applier
        try:
            async with self._views.transaction(
                generations=self.generations, synced=applier.synced
            ) as transaction:
                await transaction.advance(list(group.segments.values()), token.text)
                free: Sequence[RawEvent] = events
                letters: Sequence[DeadLetter] = ()
                if self.parked or group.poison:
                    free, letters = await self._sort(transaction, group, events, replayed)
                if applier.isolated:
                    _check_done(group, free)
                if careful:
                    await self._one_by_one(transaction, free, replayed)
                elif free:
                    await applier.apply(transaction, free, replayed=replayed)
                due_s = applier.due_s()
                if due_s is not None and due_s < SOON_S:
                    await applier.do_due(transaction, list(group.indices), synced=applier.synced)
                if letters:
                    await transaction.save(letters)
                if letters or bool(self.parked) != bool(token.parked):
                    token = noting_letters(token, parked=bool(letters or self.parked))
                    await transaction.advance(list(group.segments.values()), token.text)
        except BaseException:
            applier.rolled_back()
            raise
        applier.committed()
        self.parked.update(group.poison)
        self.written = [letter for letter in letters if letter.error]
        self.handled += len(free)
        return token

    async def do_due(self, groups: Sequence[SegmentGroup]) -> None:
        """Do the extra work of groups, if any, and commit their tokens, in one transaction.

        Raises:
            ClaimLost, Unavailable: nothing was changed, or the claims count as lost.
        """
        applier = self._applier
        synced = applier.due_synced()
        try:
            async with self._views.transaction(
                generations=self.generations, synced=synced
            ) as transaction:
                for token, segments in _in_order(groups):
                    await transaction.advance(segments, token)
                indices = [i for group in groups for i in group.indices]
                await applier.do_due(transaction, indices, synced=synced)
        except BaseException:
            applier.rolled_back()
            raise
        applier.committed()

    async def _one_by_one(
        self,
        transaction: ViewTransaction,
        events: Sequence[RawEvent],
        replayed: Container[EventId],
    ) -> None:
        for event in events:
            try:
                await self._applier.apply(transaction, [event], replayed=replayed)
            except (EventFailed, Unavailable, ClaimLost, ConfigurationError):
                raise
            except Exception as error:
                raise EventFailed(event, error) from error

    async def _sort(
        self,
        transaction: ViewTransaction,
        group: SegmentGroup,
        events: Sequence[RawEvent],
        replayed: Container[EventId],
    ) -> tuple[Sequence[RawEvent], Sequence[DeadLetter]]:
        """Divide events into those to handle and those to park."""
        queue = queue_of(self._applier.name, self._claims.generation)
        sequences = [self._applier.sequence_of(event) for event in events]
        maybe = self.parked.intersection(sequences)
        behind = await still_parked(transaction, queue, maybe)
        self.parked -= maybe - behind
        if self.parked and time.monotonic() >= self._looked_at + _LOOK_S:
            self._looked_at = time.monotonic()
            if not await any_letter(transaction, queue):
                self.parked.clear()
        free: list[RawEvent] = []
        letters: list[DeadLetter] = []
        ends: dict[str, int] = {}
        for event, sequence in zip(events, sequences, strict=True):
            poison = group.poison.get(sequence)
            guilty = poison is not None and poison.event is event
            if not guilty and sequence not in behind:
                free.append(event)
                continue
            behind.add(sequence)
            if sequence not in ends:
                ends[sequence] = await last_us(transaction, sequence_key_of(queue, sequence))
            ends[sequence] = max(ends[sequence], event.time)
            letter = letter_of(
                event,
                source=self._source,
                queue=queue,
                sequence=sequence,
                handled=self._applier.wants(event.type),
                replaying=event_id(event) in replayed,
                behind_us=ends[sequence],
            )
            if poison is not None and guilty:
                letter = waiting_again(
                    letter, poison.error, self._settings, now=self._applier.clock(), tries=1
                )
            letters.append(letter)
        return free, letters


def noting_letters(token: Token, *, parked: bool) -> Token:
    """Return a token that says that there are letters, as of now, or none."""
    return msgspec.structs.replace(token, parked=now_us() if parked else 0)


def _in_order(groups: Sequence[SegmentGroup]) -> Iterator[tuple[str, list[Segment]]]:
    """Yield the segments of groups by index, with their tokens; who stand in a row, together.

    Whoever locks several segments does so in this order, so that nobody waits for each other.
    """
    all_of_them = sorted(
        ((segment, group.token.text) for group in groups for segment in group.segments.values()),
        key=lambda one: one[0].index,
    )
    for token, row in groupby(all_of_them, key=lambda one: one[1]):
        yield token, [segment for segment, _ in row]


def _check_done(group: SegmentGroup, events: Sequence[RawEvent]) -> None:
    """Check that no handler outside is still to run.

    Raises:
        _FreedError: some are.
    """
    if any(event_id(event) not in group.done for event in events):
        raise _FreedError
