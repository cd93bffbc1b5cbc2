"""Letters: events that could not be handled, and what is behind them, in order beside the views.

The first letter of a sequence says what becomes of it: it waits for its next try, or it is dead,
and waits for a person.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from headwater.eventbus import BusEvent
from headwater.messages import now_us
from headwater.messages.indexed_text import BYTES_MAX, is_too_long
from headwater.modelling.event_handlers import ViewReader
from headwater.modelling.policies import spread
from headwater.processing.handling.failures import code_of, describe, is_outage, traceback_of
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources.source import RawEvent, Source
from headwater.views import Index, Key, Range, View, ViewStore, ViewTransaction

PAGE = 500
LONG_ID_BYTES = 1350  # ids that hold a stream or a saga, beside other names


class DeadLetter(View):
    """One parked message, stored in the same transaction as the token that passed it.

    Attributes:
        id: names it; letters of one sequence are in order of their ids.
        queue: the processor and the generation of its views, ``accounts@1``.
        sequence_key: the queue and the sequence.
        sequence: what must be handled in order: a stream, or a saga.
        kind: ``event``, or ``command`` (of a saga, refused, and nothing handles the refusal).
        type: the wire name of the event or command.
        error, code: why; empty for a letter that only waits behind another one.
        attempts: how often it was tried and failed; outages of others are not counted.
        due: when it is tried again, seconds since 1970 UTC; 0: not by itself.
        outage: whether the error says that something was merely away.
        traceback: where the error was raised; empty for an outage.
        parked_us: when it was parked, microseconds UTC.
        event: the event.
        handled: whether there was a handler for its type; from a bus all that comes behind a parked
            event is parked, also what nobody handles.
        replaying: whether the event was a replayed one when it was parked.
        content: the stored form of a command, as JSON text.
    """

    index_bytes_max: ClassVar[int] = LONG_ID_BYTES
    id: Annotated[str, Key]
    queue: Annotated[str, Index]
    sequence_key: Annotated[str, Index]
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
    due: float = 0.0
    outage: bool = False
    traceback: str = ""
    replaying: bool = False

    @property
    def state(self) -> Literal["waiting", "parked", "behind"]:
        """Whether it waits for its next try, for a person, or for the letter before it."""
        return "waiting" if self.due else "parked" if self.error else "behind"


def queue_of(processor: str, generation: int) -> str:
    """Return the name of the queue of a processor's generation."""
    return f"{processor}@{generation}"


def sequence_key_of(queue: str, sequence: str) -> str:
    """Return the name of one sequence in a queue."""
    return f"{queue}|{within(sequence, BYTES_MAX)}"


def within(text: str, bytes_max: int) -> str:
    """Return a text that stands for another in ids: itself, or of a longer one its digest, too."""
    if not is_too_long(text, bytes_max=bytes_max):
        return text
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{text[:50]}#{digest}"


def letter_of(
    raw: RawEvent,
    *,
    source: Source,
    queue: str,
    sequence: str,
    handled: bool = True,
    replaying: bool = False,
    behind_us: int = 0,
) -> DeadLetter:
    """Return the letter of an event that waits behind another one.

    Letters are in order of time, which a clock that was wrong may have left too late: then those
    behind it (``behind_us``) count as recorded at that time, too.
    """
    event = _as_bus_event(raw, source)
    at_us = max(event.time, behind_us)
    return DeadLetter(
        id=f"{sequence_key_of(queue, sequence)}|{at_us:017d}|{event.position:015d}|{event.source}",
        queue=queue,
        sequence_key=sequence_key_of(queue, sequence),
        sequence=sequence,
        type=event.type,
        parked_us=now_us(),
        event=event,
        handled=handled,
        replaying=replaying,
    )


def failed_again(letter: DeadLetter, error: BaseException) -> DeadLetter:
    """Return a letter after one more failure; when it is tried again stays as it was."""
    outage = is_outage(error)
    return msgspec.structs.replace(
        letter,
        error=describe(error),
        code=code_of(error),
        outage=outage,
        traceback="" if outage else traceback_of(error),
        attempts=letter.attempts + (not outage),
    )


def waiting_again(
    letter: DeadLetter, error: BaseException, settings: ProcessorSettings, *, now: float, tries: int
) -> DeadLetter:
    """Return a letter after one more failure; dead if it has had all its attempts.

    What is merely away costs no attempt, so it is waited for as long as it takes.
    """
    letter = failed_again(letter, error)
    due = 0.0
    if letter.outage:
        due = now + spread(settings.back_off(tries))
    elif letter.attempts < settings.retry.attempts:
        due = now + settings.retry.pause(letter.attempts)
    return msgspec.structs.replace(letter, due=due)


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


async def first_letters(views: ViewReader, queue: str) -> dict[str, DeadLetter]:
    """Return the first letter of each sequence of a queue."""
    found: dict[str, DeadLetter] = {}
    async for letter in letters(views, queue=queue):
        found.setdefault(letter.sequence, letter)
    return found


async def letters(
    views: ViewReader, *, queue: str = "", sequence_key: str = ""
) -> AsyncIterator[DeadLetter]:
    """Yield letters, in order within each sequence: of one queue, of one sequence in it, or all."""
    where = {
        name: value for name, value in (("queue", queue), ("sequence_key", sequence_key)) if value
    }
    cursor = ""
    while True:
        page = await views.find(DeadLetter, where=where, limit=PAGE, cursor=cursor)
        for letter in page.items:
            yield letter
        cursor = page.next
        if not cursor:
            return


async def processors_with_letters(views: ViewStore) -> set[str]:
    """Return the names of all processors that have letters in a view store."""
    await views.ensure([DeadLetter])
    return {letter.queue.rpartition("@")[0] async for letter in letters(views)}


async def still_parked(
    views: ViewReader | ViewTransaction, queue: str, sequences: Collection[str]
) -> set[str]:
    """Return those of the sequences that have letters, as a transaction or a reader sees it."""
    found: set[str] = set()
    for sequence in sequences:
        where = {"sequence_key": sequence_key_of(queue, sequence)}
        if (await views.find(DeadLetter, where=where, limit=1)).items:
            found.add(sequence)
    return found


async def any_letter(views: ViewReader | ViewTransaction, queue: str) -> bool:
    """Whether a queue has letters."""
    return bool((await views.find(DeadLetter, where={"queue": queue}, limit=1)).items)


async def first_letter(views: ViewReader | ViewTransaction, sequence_key: str) -> DeadLetter | None:
    """Return the first letter of a sequence."""
    items: Sequence[DeadLetter] = (
        await views.find(DeadLetter, where={"sequence_key": sequence_key}, limit=1)
    ).items
    return items[0] if items else None


async def last_us(views: ViewReader | ViewTransaction, sequence_key: str) -> int:
    """Return the time by which the last event of a sequence is in its place; 0 without one."""
    where = {
        "sequence_key": sequence_key,
        "id": Range(f"{sequence_key}|0", f"{sequence_key}|:"),
    }  # its commands have no time
    page = await views.find(DeadLetter, where=where, descending=True, limit=1)
    return int(page.items[0].id[len(sequence_key) + 1 :].partition("|")[0]) if page.items else 0


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


async def forget_older(views: ViewStore, processor: str, generation: int, *, code: str) -> None:
    """Remove the letters of all generations of a code before one; nobody parks any there now."""
    queues = Range(f"{processor}@0", f"{processor}@:")  # all that go on with a digit
    others = {g.number for g in await views.generations(processor) if code and g.code != code}

    def older(letter: DeadLetter) -> bool:
        name, _, number = letter.queue.rpartition("@")
        return name == processor and int(number) < generation and int(number) not in others

    async with views.transaction() as transaction:
        await forget_letters(transaction, {"queue": queues}, older)


async def forget_dropped(views: ViewStore, processor: str, generations: Collection[int]) -> None:
    """Remove the letters of generations that are gone."""
    for generation in generations:
        async with views.transaction() as transaction:
            queue = queue_of(processor, generation)
            await forget_letters(transaction, {"queue": queue}, lambda _: True)


async def forget_former(views: ViewStore, processor: str, generation: int) -> None:
    """Remove the letters of a former attempt at a generation, before its segments are made."""
    async with views.transaction() as transaction:
        if not await transaction.segments(processor, generation=generation):
            queue = queue_of(processor, generation)
            await forget_letters(transaction, {"queue": queue}, lambda _: True)
