"""Dead letters: events whose sequence is parked, kept in order beside the views."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from headwater.errors import HeadwaterError
from headwater.eventbus import BusEvent
from headwater.messages import now_us
from headwater.processing.declarations import ViewReader
from headwater.processing.sources import RawEvent, Source
from headwater.views import Index, Key, Range, View, ViewStore, ViewTransaction

PAGE = 500


class DeadLetter(View):
    """One parked message, stored in the same transaction as the token that passed it.

    Attributes:
        id: names it; letters of one sequence are in order of their ids.
        queue: the processor and the generation of its views, ``accounts@1``.
        lane: the queue and the sequence.
        sequence: what must be handled in order: a stream, or a saga.
        kind: ``event``, or ``command`` (of a saga, refused, and nothing handles the refusal).
        type: the wire name of the event or command.
        error, code: why; empty for a letter that only waits behind another one.
        attempts: how often it was tried.
        parked_us: when it was parked, microseconds UTC.
        event: the event.
        handled: whether there was a handler for its type; from a bus all that comes behind a parked
            event is parked, also what nobody handles.
        content: the stored form of a command, as JSON text.
    """

    id: Annotated[str, Key]
    queue: Annotated[str, Index]
    lane: Annotated[str, Index]
    sequence: str
    kind: str = "event"
    type: str = ""
    error: str = ""
    code: str = ""
    attempts: int = 0
    parked_us: int = 0
    event: BusEvent | None = None
    handled: bool = True
    content: str = ""


def queue_of(processor: str, generation: int) -> str:
    """Return the name of the queue of a processor's generation."""
    return f"{processor}@{generation}"


def lane_of(queue: str, sequence: str) -> str:
    """Return the name of one sequence in a queue."""
    return f"{queue}|{sequence}"


def code_of(error: BaseException) -> str:
    """Return the stable name of an error."""
    return error.code if isinstance(error, HeadwaterError) else type(error).__name__


def describe(error: BaseException) -> str:
    """Return an error for a person, with its type when it is none of ours; it can be stored."""
    ours = isinstance(error, HeadwaterError)
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    return text.encode(errors="backslashreplace").decode()  # whatever a handler says in it


def letter_of(
    raw: RawEvent,
    *,
    source: Source,
    queue: str,
    sequence: str,
    error: BaseException | None = None,
    attempts: int = 0,
    handled: bool = True,
    behind_us: int = 0,
) -> DeadLetter:
    """Return the dead letter of an event; without an error it waits behind another one.

    Letters are in order of time, which a clock that was wrong may have left too late: then those
    behind it (``behind_us``) count as recorded at that time, too.
    """
    event = _as_bus_event(raw, source)
    at_us = max(event.time, behind_us)
    return DeadLetter(
        id=f"{lane_of(queue, sequence)}|{at_us:017d}|{event.position:015d}|{event.source}",
        queue=queue,
        lane=lane_of(queue, sequence),
        sequence=sequence,
        type=event.type,
        error="" if error is None else describe(error),
        code="" if error is None else code_of(error),
        attempts=attempts,
        parked_us=now_us(),
        event=event,
        handled=handled,
    )


def _as_bus_event(raw: RawEvent, source: Source) -> BusEvent:
    if type(raw) is BusEvent:
        return raw
    return BusEvent(
        source=source.log_of(raw),
        epoch=raw.epoch if isinstance(raw, BusEvent) else "",
        position=raw.position,
        stream=raw.stream,
        version=raw.version,
        type=raw.type,
        type_version=raw.type_version,
        time=raw.time,
        tags=raw.tags,
        data=raw.data,
        metadata=raw.metadata,
    )


async def parked_sequences(views: ViewReader, queue: str) -> set[str]:
    """Return the sequences of a queue that have letters."""
    return {letter.sequence async for letter in letters(views, queue=queue)}


async def letters(
    views: ViewReader, *, queue: str = "", lane: str = ""
) -> AsyncIterator[DeadLetter]:
    """Yield letters, in order within each sequence: of one queue, of one lane, or all."""
    where = {name: value for name, value in (("queue", queue), ("lane", lane)) if value}
    cursor = ""
    while True:
        page = await views.find(DeadLetter, where=where, limit=PAGE, cursor=cursor)
        for letter in page.items:
            yield letter
        cursor = page.next
        if not cursor:
            return


async def still_parked(
    views: ViewReader | ViewTransaction, queue: str, sequences: Collection[str]
) -> set[str]:
    """Return those of the sequences that have letters, as a transaction or a reader sees it."""
    found: set[str] = set()
    for sequence in sequences:
        where = {"lane": lane_of(queue, sequence)}
        if (await views.find(DeadLetter, where=where, limit=1)).items:
            found.add(sequence)
    return found


async def any_letter(views: ViewReader | ViewTransaction, queue: str) -> bool:
    """Whether a queue has letters."""
    return bool((await views.find(DeadLetter, where={"queue": queue}, limit=1)).items)


async def first_letter(views: ViewReader | ViewTransaction, lane: str) -> DeadLetter | None:
    """Return the first letter of a lane."""
    items: Sequence[DeadLetter] = (
        await views.find(DeadLetter, where={"lane": lane}, limit=1)
    ).items
    return items[0] if items else None


async def last_us(views: ViewReader | ViewTransaction, lane: str) -> int:
    """Return the time by which the last event of a lane is in its place; 0 without one."""
    where = {"lane": lane, "id": Range(f"{lane}|0", f"{lane}|:")}  # its commands have no time
    page = await views.find(DeadLetter, where=where, descending=True, limit=1)
    return int(page.items[0].id[len(lane) + 1 :].partition("|")[0]) if page.items else 0


async def forget_letters(
    transaction: ViewTransaction, where: Mapping[str, Any], gone: Callable[[DeadLetter], bool]
) -> None:
    """Remove letters, those of a selection that ``gone`` picks."""
    cursor = ""
    while True:
        page = await transaction.find(DeadLetter, where=where, limit=PAGE, cursor=cursor)
        await transaction.delete(DeadLetter, [letter.id for letter in page.items if gone(letter)])
        cursor = page.next
        if not cursor:
            return


async def forget_older(views: ViewStore, processor: str, generation: int) -> None:
    """Remove the letters of all generations before one; nobody parks any there any more."""
    queues = Range(f"{processor}@0", f"{processor}@:")  # all that go on with a digit

    def older(letter: DeadLetter) -> bool:
        name, _, number = letter.queue.rpartition("@")
        return name == processor and int(number) < generation

    async with views.transaction() as transaction:
        await forget_letters(transaction, {"queue": queues}, older)


async def forget_former(views: ViewStore, processor: str, generation: int) -> None:
    """Remove the letters of a former attempt at a generation, before its segments are made."""
    async with views.transaction() as transaction:
        if not await transaction.segments(processor, generation=generation):
            queue = queue_of(processor, generation)
            await forget_letters(transaction, {"queue": queue}, lambda _: True)


def tried_again(letter: DeadLetter, error: BaseException) -> DeadLetter:
    """Return a letter after one more failed attempt."""
    return msgspec.structs.replace(
        letter, error=describe(error), code=code_of(error), attempts=letter.attempts + 1
    )
