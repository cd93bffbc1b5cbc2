"""Sequences that wait for their next try: kept as letters, so that nothing else waits for them.

The first letter of such a sequence says when it is due; the owner of its segment tries it then,
and after a success those behind it, in order. A restart, or another owner, reads it all anew.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec
import structlog

from headwater.errors import ClaimLost, ConfigurationError, Unavailable
from headwater.modelling.policies import spread
from headwater.processing.handling.applier import Applier, EventFailed
from headwater.processing.handling.dead_letters import DeadLetter, first_letter, waiting_again
from headwater.processing.handling.failures import describe, is_outage, traceback_of
from headwater.processing.running.committer import Committer
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources.source import RawEvent
from headwater.processing.sources.tokens import Token
from headwater.views import Segment, ViewStore

_log = structlog.get_logger("headwater.processing")
_HANDS_OFF_S = 5.0  # what somebody else retries is left to them for this long


class Waiting(msgspec.Struct):
    """A sequence that waits for its next try.

    ``letter`` is the id of its first letter, ``tries`` how often that failed here, ``due`` when
    it is tried again (seconds since 1970 UTC).
    """

    sequence: str
    segment: int
    sequence_key: str
    letter: str
    due: float
    error: str
    attempts: int
    outage: bool
    tries: int = 1


class Retries:
    """The waiting sequences of the segments that a worker has.

    ``failures`` counts failed tries of events, ``retried`` letters that were tried again.
    """

    def __init__(
        self,
        applier: Applier,
        views: ViewStore,
        *,
        committer: Committer,
        settings: ProcessorSettings,
    ) -> None:
        """Know of none yet."""
        self._applier = applier
        self._views = views
        self._committer = committer
        self._settings = settings
        self.waiting: dict[str, Waiting] = {}
        self.failures = 0
        self.retried = 0

    def claimed(self, first: Mapping[str, DeadLetter], indices: Collection[int]) -> None:
        """Segments were claimed; ``first`` are the first letters of all sequences."""
        for letter in first.values():
            if letter.due and self._segment_of(letter) in indices:
                self._wait_for(letter)

    def keep(self, indices: Collection[int]) -> None:
        """Forget what is not of these segments."""
        if self.waiting:
            kept = {name: one for name, one in self.waiting.items() if one.segment in indices}
            self.waiting = kept

    def written(self, letters: Iterable[DeadLetter]) -> None:
        """Letters of events that failed for the first time were written."""
        for letter in letters:
            self._wait_for(letter)

    def full(self, segment: int) -> bool:
        """Whether no more sequences of a segment should wait."""
        if len(self.waiting) < self._settings.waiting_max:
            return False
        held = sum(one.segment == segment for one in self.waiting.values())
        return held >= self._settings.waiting_max

    def due_s(self) -> float | None:
        """Return in how many seconds the next one is due; None: there is none."""
        if not self.waiting:
            return None
        first = min(one.due for one in self.waiting.values())
        return max(0.0, first - self._applier.clock())

    def due(self) -> Waiting | None:
        """Return one that is due."""
        if not self.waiting:
            return None
        first = min(self.waiting.values(), key=lambda one: one.due)
        return first if first.due <= self._applier.clock() else None

    async def again(self, one: Waiting, segment: Segment, token: Token) -> None:
        """Try the first letter of a sequence again; ``token`` is that of its segment.

        Raises:
            ClaimLost, Unavailable: nothing was changed, or the claims count as lost.
        """
        letter = await first_letter(self._views, one.sequence_key)
        if letter is None or letter.state == "parked":  # a person was faster
            if letter is None:
                self._committer.parked.discard(one.sequence)
            del self.waiting[one.sequence]
            return
        if letter.state == "behind" and one.letter != letter.id:  # a person is at it
            one.letter, one.due = letter.id, self._applier.clock() + _HANDS_OFF_S
            return
        self.retried += 1
        try:
            behind = await self._handle(letter, segment, token)
        except EventFailed as failure:
            await self._failed_again(one, letter, segment, token, failure.cause)
            return
        if behind is not None:
            self._wait_for(behind)
        else:
            self._committer.parked.discard(one.sequence)
            del self.waiting[one.sequence]
            _log.info("a sequence goes on", processor=self._applier.name, sequence=one.sequence)
        if one.outage:
            self._is_back(one.error)

    async def _handle(
        self, letter: DeadLetter, segment: Segment, token: Token
    ) -> DeadLetter | None:
        """Handle a letter and remove it; return the one behind it, which is due now."""
        applier, event = self._applier, letter.event
        assert event is not None  # commands and deadlines of sagas do not wait here
        if applier.isolated:
            await applier.outside(event, replaying=letter.replaying)
        following: DeadLetter | None = None
        try:
            async with self._views.transaction(
                generations=self._committer.generations, synced=applier.synced
            ) as transaction:
                await transaction.advance([segment], token.text)
                where = {"sequence_key": letter.sequence_key}
                found = (await transaction.find(DeadLetter, where=where, limit=2)).items
                now = self._applier.clock()
                if not found or found[0].id != letter.id:  # a person was faster: look again
                    return msgspec.structs.replace(letter, due=now)
                await applier.retry(transaction, letter)
                await transaction.delete(DeadLetter, [letter.id])
                if len(found) > 1:
                    following = msgspec.structs.replace(found[1], due=now)
                    await transaction.save([following])
        except (EventFailed, Unavailable, ClaimLost, ConfigurationError):
            applier.rolled_back()
            raise
        except Exception as error:
            applier.rolled_back()
            raise EventFailed(event, error) from error
        except BaseException:
            applier.rolled_back()
            raise
        applier.committed()
        self._committer.handled += 1
        return following

    def failed(self, event: RawEvent, sequence: str, error: BaseException) -> None:
        """An event has failed; its letter follows."""
        self.failures += 1
        _log.warning(
            "an event failed, what is behind it waits for its next try",
            processor=self._applier.name,
            event_type=event.type,
            sequence=sequence,
            position=event.position,
            reason=describe(error),
            **({} if is_outage(error) else {"exception": traceback_of(error)}),
        )

    async def _failed_again(
        self, one: Waiting, letter: DeadLetter, segment: Segment, token: Token, error: BaseException
    ) -> None:
        self.failures += 1
        tries = one.tries + 1 if one.letter == letter.id else 1
        letter = waiting_again(
            letter, error, self._settings, now=self._applier.clock(), tries=tries
        )
        async with self._views.transaction() as transaction:
            await transaction.advance([segment], token.text)
            if await transaction.load(DeadLetter, [letter.id]):
                await transaction.save([letter])
        self._wait_for(letter, tries=tries)
        if letter.outage:
            self._is_away(letter, tries)

    def _wait_for(self, letter: DeadLetter, *, tries: int = 1) -> None:
        """Note a letter that was stored."""
        self.waiting.pop(letter.sequence, None)
        if not letter.due:
            _log.error(
                "a sequence is parked, with all that is behind it",
                processor=self._applier.name,
                sequence=letter.sequence,
                attempts=letter.attempts,
                reason=letter.error,
                **({"exception": letter.traceback} if letter.traceback else {}),
            )
        else:
            self.waiting[letter.sequence] = Waiting(
                sequence=letter.sequence,
                segment=self._segment_of(letter),
                sequence_key=letter.sequence_key,
                letter=letter.id,
                due=letter.due,
                error=letter.error,
                attempts=letter.attempts,
                outage=letter.outage,
                tries=tries,
            )

    def _segment_of(self, letter: DeadLetter) -> int:
        assert letter.event is not None
        return self._applier.segment_of(letter.event, letter.sequence, self._applier.count)

    def _is_away(self, letter: DeadLetter, tries: int) -> None:
        """Something is still away: others that wait for the same need not find it out, too."""
        for other in self.waiting.values():
            if other.outage and other.error == letter.error:
                other.due, other.tries = max(other.due, letter.due), max(other.tries, tries)

    def _is_back(self, error: str) -> None:
        """What was away works again: others that wait for the same need not wait any longer."""
        soon = self._applier.clock() + spread(self._settings.back_off_s)
        for other in self.waiting.values():
            if other.outage and other.error == error:
                other.due = min(other.due, soon)
