"""Event stores that lie, each in one way: the real store in memory with one fault planted.

A fault strikes at the n-th occasion, so that the history around it is honest.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import msgspec

from headwater.errors import (
    ConcurrencyConflict,
    ConditionFailed,
    IdempotencyKeyReused,
    Overloaded,
    PipelineBroken,
    StoreUnavailable,
)
from headwater.eventstore import Appended, NewEvent, Page, StoredEvent, StreamWrite
from headwater.eventstore.memory import MemoryEventStore


class Honest(MemoryEventStore):
    """Takes its time before and after an append, so that callers overlap."""

    occasion: ClassVar[int] = 7
    rules: ClassVar[frozenset[str]] = frozenset()
    callers: ClassVar[int] = 4

    def __init__(self) -> None:
        super().__init__()
        self._occasions = 0

    def strikes(self) -> bool:
        """Whether this is the occasion."""
        self._occasions += 1
        return self._occasions == self.occasion

    async def append(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        await asyncio.sleep(0)
        outcome = await self.carry_out(writes, **options)
        await asyncio.sleep(0)
        return outcome

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        return await super().append(writes, **options)

    def cut(self, count: int) -> None:
        """Forget the last events."""
        for event in self._log[len(self._log) - count :]:
            self._streams[event.stream].remove(event)
        del self._log[len(self._log) - count :]

    def change(self, rank: int, **fields: Any) -> None:
        """Change a stored event."""
        event = self._log[rank]
        self._log[rank] = msgspec.structs.replace(event, **fields)
        stream = self._streams[event.stream]
        stream[stream.index(event)] = self._log[rank]


def has_events(writes: Sequence[StreamWrite]) -> bool:
    return any(write.events for write in writes)


class Lossy(Honest):
    """Acknowledges an append, and does not store it."""

    rules = frozenset({"lost"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        outcome = await super().carry_out(writes, **options)
        if has_events(writes) and not outcome.duplicate and self.strikes():
            self.cut(outcome.last - outcome.first + 1)
        return outcome


class LosesItsTail(Honest):
    """Acknowledges before it is durable: the last events do not survive."""

    rules = frozenset({"lost"})

    async def close(self) -> None:
        self.cut(3)


class Torn(Honest):
    """Stores an append without its last event."""

    rules = frozenset({"lost"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        outcome = await super().carry_out(writes, **options)
        if outcome.last > outcome.first and not outcome.duplicate and self.strikes():
            self.cut(1)
        return outcome

    occasion = 2


class Forging(Honest):
    """Stores another content than it was given."""

    rules = frozenset({"lost"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        outcome = await super().carry_out(writes, **options)
        if has_events(writes) and not outcome.duplicate and self.strikes():
            self.change(outcome.last - 1, data=b'{"number":0}')
        return outcome


class Doubling(Honest):
    """Stores an append twice."""

    rules = frozenset({"twice"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        outcome = await super().carry_out(writes, **options)
        if has_events(writes) and not outcome.duplicate and self.strikes():
            await super().carry_out([StreamWrite(w.stream, w.events) for w in writes])
        return outcome


class Inventing(Honest):
    """Stores an event that nobody gave it."""

    rules = frozenset({"invented"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        if self.strikes():
            await super().carry_out([StreamWrite("a", [NewEvent("Made up", 1, b"", b"")])])
        return await super().carry_out(writes, **options)


class UnknownTwice(Honest):
    """Loses an answer, tries again by itself, and stores it twice."""

    rules = frozenset({"twice"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        outcome = await super().carry_out(writes, **options)
        if has_events(writes) and not outcome.duplicate and self.strikes():
            await super().carry_out([StreamWrite(w.stream, w.events) for w in writes])
            raise StoreUnavailable(store="memory", reason="the answer was lost")
        return outcome


class DeniesIt(Honest):
    """Says that nothing was stored, and has stored it."""

    rules = frozenset({"not-stored"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        outcome = await super().carry_out(writes, **options)
        if has_events(writes) and not outcome.duplicate and self.strikes():
            raise Overloaded(limit=1)
        return outcome


class ClaimsIt(Honest):
    """Says in an error that it was stored, and has not stored it."""

    rules = frozenset({"lost"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        if has_events(writes) and not options.get("idempotency") and self.strikes():
            raise StoreUnavailable(outcome="stored", store="memory", reason="closing failed")
        return await super().carry_out(writes, **options)


class IgnoresExpectations(Honest):
    """Appends to a stream that has moved on."""

    rules = frozenset({"expectation"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        try:
            return await super().carry_out(writes, **options)
        except ConcurrencyConflict:
            bare = [StreamWrite(write.stream, write.events) for write in writes]
            return await super().carry_out(bare, **options)


class IgnoresConditions(Honest):
    """Appends though there is an event that the condition excludes."""

    rules = frozenset({"condition"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        return await super().carry_out(writes, **{**options, "condition": None})


class WrongVersion(Honest):
    """Refuses with a version that the stream never had, or had long ago."""

    rules = frozenset({"refusal"})
    callers = 1
    occasion = 1
    by: ClassVar[int] = -2

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        try:
            return await super().carry_out(writes, **options)
        except ConcurrencyConflict as conflict:
            actual = conflict.actual + self.by
            if actual != conflict.expected and self.strikes():
                raise conflict.replaced(actual=actual) from None
            raise


class VersionToCome(WrongVersion):
    """Refuses with a version that the stream does not have yet."""

    by = 1


class ConflictOfItsOwn(Honest):
    """Refuses, though the stream is as expected."""

    rules = frozenset({"refusal"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        for write in writes:
            if write.expected == len(self._streams.get(write.stream, ())) and self.strikes():
                raise ConcurrencyConflict(
                    stream=write.stream, expected=write.expected, actual=write.expected
                )
        return await super().carry_out(writes, **options)


class WrongCondition(Honest):
    """Names an event that the condition does not exclude."""

    rules = frozenset({"refusal"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        condition = options.get("condition")
        outcome = None
        try:
            outcome = await super().carry_out(writes, **options)
        except ConditionFailed as failed:
            raise failed.replaced(position=condition.after) from None
        return outcome


class WrongKeyReuse(Honest):
    """Says that a key was used for another content, and it was not."""

    rules = frozenset({"refusal"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        idempotency = options.get("idempotency")
        if idempotency is not None and idempotency.key not in self._outcomes and self.strikes():
            raise IdempotencyKeyReused(key=idempotency.key)
        return await super().carry_out(writes, **options)

    occasion = 3


class BrokenForNothing(Honest):
    """Says that a pipeline is broken, and it is not."""

    rules = frozenset({"refusal"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        pipeline = options.get("pipeline")
        if pipeline is not None and pipeline.broken is None and self.strikes():
            raise PipelineBroken(cause="something")
        return await super().carry_out(writes, **options)

    occasion = 3


class ForgetsKeys(Honest):
    """Carries out a key anew."""

    rules = frozenset({"key"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        idempotency = options.get("idempotency")
        if idempotency is not None:
            self._outcomes.pop(idempotency.key, None)
        return await super().carry_out(writes, **options)


class DoesNotMark(Honest):
    """Gives the outcome of a key again, as if it were the first time."""

    rules = frozenset({"key"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        outcome = await super().carry_out(writes, **options)
        return msgspec.structs.replace(outcome, duplicate=False)


class AnotherOutcome(Honest):
    """Gives a repetition another outcome than the first time."""

    rules = frozenset({"key"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        outcome = await super().carry_out(writes, **options)
        if outcome.duplicate:
            return msgspec.structs.replace(outcome, time=outcome.time + 1)
        return outcome


class LooksUpKeysLate(Honest):
    """Checks expectations before it looks the key up."""

    rules = frozenset({"refusal"})

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        self._check_expectations(writes)
        return await super().carry_out(writes, **options)


class DeniesKeys(Honest):
    """Says that a key has no outcome, after it was acknowledged."""

    rules = frozenset({"stale"})

    async def outcome(self, key: str) -> Any:
        found = await super().outcome(key)
        return None if found is not None and found[0].last >= found[0].first else found


class StaleHead(Honest):
    """Answers with the head as it was before the last events."""

    rules = frozenset({"stale"})

    async def head(self) -> int:
        return max(0, await super().head() - 1)


class StaleVersion(Honest):
    """Answers with an old version, sometimes."""

    rules = frozenset({"stale"})
    callers = 1

    async def version(self, stream: str) -> int:
        version = await super().version(stream)
        return version - 1 if version and self.strikes() else version


class EarlyHead(Honest):
    """Answers with a head that is yet to come."""

    rules = frozenset({"read"})

    async def head(self) -> int:
        head = await super().head()
        return head + 4 if self.strikes() else head


class StaleRead(Honest):
    """Reads leave out the newest event."""

    rules = frozenset({"stale"})

    def read(self, *, until: int | None = None, **options: Any) -> AsyncIterator[Page]:
        if until is None:
            until = max(0, len(self._log) - 1)
        return super().read(until=until, **options)


class ReadChange(Honest):
    """Changes what is read."""

    rules = frozenset({"read"})

    def read(self, **options: Any) -> AsyncIterator[Page]:
        return self._changed(super().read(**options))

    async def _changed(self, pages: AsyncIterator[Page]) -> AsyncIterator[Page]:
        async for page in pages:
            yield Page(self.changed(page.events), page.through)

    def changed(self, events: tuple[StoredEvent, ...]) -> tuple[StoredEvent, ...]:
        if len(events) > 1:
            return (*events[:-1], msgspec.structs.replace(events[-1], data=b"changed"))
        return events


class ReadGap(ReadChange):
    """Leaves an event out."""

    def changed(self, events: tuple[StoredEvent, ...]) -> tuple[StoredEvent, ...]:
        return (events[0], *events[2:]) if len(events) > 2 else events


class ReadSwap(ReadChange):
    """Delivers two events in the wrong order."""

    def changed(self, events: tuple[StoredEvent, ...]) -> tuple[StoredEvent, ...]:
        return (*events[:-2], events[-1], events[-2]) if len(events) > 1 else events


class VersionGap(Honest):
    """Leaves a version out."""

    rules = frozenset({"log"})

    async def close(self) -> None:
        for event in list(self._streams["a"][3:]):
            self.change(self._log.index(event), version=event.version + 1)


class PositionGap(Honest):
    """Leaves a position out."""

    rules = frozenset({"log"})

    async def close(self) -> None:
        for rank in range(5, len(self._log)):
            self.change(rank, position=rank + 2)


class TimeBackwards(Honest):
    """Records an event with an earlier time than the one before."""

    rules = frozenset({"log"})

    async def close(self) -> None:
        self.change(5, time=self._log[4].time - 1)


class Reordered(Honest):
    """Exchanges two events."""

    rules = frozenset({"lost"})

    async def close(self) -> None:
        one, other = self._log[4], self._log[9]
        self.change(4, data=other.data, tags=other.tags, type=other.type)
        self.change(9, data=one.data, tags=one.tags, type=one.type)


class AgainstTime(Honest):
    """Tells the first the second place, and gives its own to the next."""

    def __init__(self) -> None:
        super().__init__()
        self._first: Sequence[StreamWrite] = ()

    async def carry_out(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        if not self._first:
            self._first = writes
            return Appended(2, 2, self._clock(), (writes[0].stream,), (1,))
        outcome = await super().carry_out(writes, **options)
        later = await super().carry_out(self._first)
        self.change(0, time=self._clock())
        self.change(1, time=later.time)
        return outcome


class GoesBack(Honest):
    """Half of its readers see what is acknowledged only, the others all there is."""

    rules = frozenset({"back"})

    def __init__(self) -> None:
        super().__init__()
        self._acknowledged = 0

    async def append(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        outcome = await super().append(writes, **options)
        self._acknowledged = max(self._acknowledged, outcome.last)
        return outcome

    async def head(self) -> int:
        self.strikes()
        return self._acknowledged if self._occasions % 2 else await super().head()


FAULTS = [
    each
    for each in list(globals().values())
    if isinstance(each, type) and issubclass(each, Honest) and each.rules
]
