"""Look after a processor from any process that shares its view store."""

import os
import socket
from collections.abc import AsyncIterator, Callable

import msgspec

from headwater.errors import ConfigurationError, InvalidInput
from headwater.modelling.event_handlers import EventHandlers
from headwater.processing.generations.lineage import Lineage
from headwater.processing.generations.switch_over import activated
from headwater.processing.handling.applier import Applier, EventFailed, Outbox
from headwater.processing.handling.dead_letters import (
    DeadLetter,
    any_letter,
    failed_again,
    first_letter,
    first_letters,
    forget_former,
    forget_letters,
    forget_older,
    letters,
    queue_of,
    sequence_key_of,
)
from headwater.processing.rebuild import Report, position_of, rebuild
from headwater.processing.running.claims import successor_of
from headwater.processing.running.clock import StoreClock
from headwater.processing.running.committer import noting_letters
from headwater.processing.running.projector import applier_of
from headwater.processing.running.replaying import replaying
from headwater.processing.running.resizing import SEGMENTS_MAX, resized
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.processing.sources.source import Source
from headwater.processing.sources.tokens import Token, token_of
from headwater.views import Generation, Segment, ViewStore
from headwater.views.model import model_name

_TRIES = 3


class SegmentStatus(msgspec.Struct, frozen=True):
    """One segment, whoever works on it. ``owner`` is empty when nobody does."""

    index: int
    owner: str
    lease_until: float
    position: int
    head: int
    lag: int


class GenerationStatus(msgspec.Struct, frozen=True):
    """One generation of a processor's views, whichever program fills it.

    Attributes:
        number: its number.
        code: of the programs that fill it and answer from it.
        complete: it has caught up once, so that they answer from it.
        owners: who works on it at the moment.
        position, head: how far the segment that is furthest behind has come.
    """

    number: int
    code: str
    complete: bool
    owners: tuple[str, ...]
    position: int
    head: int


class ProcessorStatus(msgspec.Struct, frozen=True):
    """A processor over all processes.

    Attributes:
        name: its name.
        generation: the active generation of its views, for the code of this program.
        segments: of that generation; all of them, or of the one that is taking over.
        lag: how many events the segment that is furthest behind has still to read.
        dead_letters: how many letters there are, those behind others included.
        parked: sequences that wait for a person.
        waiting: sequences that are tried again by themselves.
        outbox: a saga's commands that wait to be sent or acknowledged.
        generations: all there are, those of other code, too.
    """

    name: str
    generation: int
    segments: tuple[SegmentStatus, ...]
    lag: int
    dead_letters: int
    parked: int = 0
    waiting: int = 0
    outbox: Outbox = Outbox()
    generations: tuple[GenerationStatus, ...] = ()


class Retried(msgspec.Struct, frozen=True):
    """What a retry did: how many letters it handled, and the one that failed again, if any."""

    handled: int
    failed: DeadLetter | None = None


class ProcessorAdmin:
    """Status, replay, rebuild and dead letters of one processor.

    Works through the view store alone; the processor may run here, elsewhere, or nowhere.
    """

    def __init__(
        self,
        handlers: EventHandlers | type[EventHandlers] | Applier,
        *,
        source: Source,
        views: ViewStore,
        owner: str = "",
        settings: ProcessorSettings = DEFAULTS,
    ) -> None:
        """Administer a processor; the arguments are those of `Processor`.

        An empty ``owner`` is this process.
        """
        self._applier = applier_of(handlers, source=source, views=views)
        self._source = self._applier.source
        self._views = views
        self._owner = owner or f"admin-{socket.gethostname()}-{os.getpid()}"
        self._settings = settings
        self._clock = StoreClock(views)
        self.name = self._applier.name

    @property
    def source(self) -> Source:
        """What it follows."""
        return self._source

    async def status(self) -> ProcessorStatus:
        """Return where all segments are, and who works on them.

        Raises:
            StoreUnavailable: a store is away.
        """
        await self._ensure()
        head = await self._source.head()
        now = await self._views.now()
        segments = await self._views.segments(self.name)
        active = await self._active()  # after them: what it has is among them
        working = successor_of(segments, active) or active
        found = []
        for segment in segments:
            token = token_of(segment.token)
            if segment.generation != working:
                continue
            token = self._source.restrict(token, {segment.index}, segment.count)
            measure = self._source.measure(token, head)
            alive = segment.is_held(now)
            found.append(
                SegmentStatus(
                    index=segment.index,
                    owner=segment.owner if alive else "",
                    lease_until=segment.lease_until,
                    position=measure.position,
                    head=measure.head,
                    lag=measure.lag,
                )
            )
        queue = queue_of(self.name, active)
        count = await self._views.count(DeadLetter, where={"queue": queue})
        first = await first_letters(self._views, queue) if count else {}
        waiting = sum(letter.due > 0 for letter in first.values())
        return ProcessorStatus(
            name=self.name,
            generation=active,
            segments=tuple(found),
            lag=max((segment.lag for segment in found), default=0),
            dead_letters=count,
            parked=len(first) - waiting,
            waiting=waiting,
            outbox=await self._applier.outbox(self._views, len(found)),
            generations=tuple(
                self._generation_status(known, segments, head, now)
                for known in await self._views.generations(self.name)
            ),
        )

    def _generation_status(
        self, known: Generation, segments: list[Segment], head: Token, now: float
    ) -> GenerationStatus:
        mine = [s for s in segments if s.generation == known.number]
        position, end = position_of(self._source, mine, known.number, head)
        return GenerationStatus(
            number=known.number,
            code=known.code,
            complete=known.complete,
            owners=tuple(sorted({s.owner for s in mine if s.is_held(now)})),
            position=position if mine else 0,
            head=end,
        )

    async def reset(self, *, position: int | None = None, time_us: int | None = None) -> None:
        """Replay: let the processor handle events again.

        Without arguments from the start: an empty generation of the views becomes active at once
        and fills up (to have the old one in service meanwhile, `rebuild`). With a position or a
        time, the views stay as they are and the events after that position, or from that time
        on, are handled once more: for handlers that may see an event twice. Dead letters of
        events that will come again are removed. A processor that runs notices within a moment;
        follow its `status` for progress.

        Raises:
            InvalidInput: it is a saga, both are given, the source cannot be read from there, or a
                rebuild has just begun its switch-over (a replay from the start overtakes it).
        """
        if position is not None and time_us is not None:
            raise InvalidInput(reason="replay from a position or from a time, not from both")
        if not self._applier.replayable:
            raise InvalidInput(reason=f"{self.name} is a saga: its commands cannot be unsent")
        await self._ensure()
        if position is None and time_us is None:
            await self._begin_anew()
            return
        before = await self._source.at(position=position, time_us=time_us)
        token = await replaying(self._source, before)

        def again(letter: DeadLetter) -> bool:  # letters of older events stay
            event = letter.event
            return event is None or (
                event.position > (position or 0) and event.time >= (time_us or 0)
            )

        while True:
            active = await self._active()
            begun = await self._go_back(active, token, again)
            if begun or await self._active() == active:
                return

    async def _begin_anew(self) -> None:
        """Make an empty generation active."""
        for left in reversed(range(_TRIES)):
            following = await self._following()
            try:
                await activated(self._applier, self._views, following)
                break
            except ConfigurationError:  # a rebuild took it for one that was given up
                if not left:
                    raise
        await forget_older(self._views, self.name, following, code=self._applier.code)

    async def _following(self) -> int:
        """Make room in a generation that nobody has used, so as to meet no rebuild; return it."""
        segments = await self._views.segments(self.name)
        active = await self._active()
        latest = max([active, *(segment.generation for segment in segments)])
        following = await Lineage(self._applier, self._views).following(latest)
        wanted = sum(s.generation == active for s in segments) or self._applier.segments
        await forget_former(self._views, self.name, following)
        await self._views.open_segments(
            self.name,
            count=self._source.split(wanted),
            token=(await replaying(self._source, await self._source.begin())).text,
            generation=following,
        )
        await self._views.ensure(self._applier.views, generation=following)
        return following

    async def _go_back(
        self, active: int, token: Token, again: Callable[[DeadLetter], bool]
    ) -> bool:
        """Set all tokens of the active generation; return whether there are any."""
        async with self._views.transaction() as transaction:
            segments = await transaction.segments(self.name, generation=active)
            if successor_of(segments, active):
                reason = (
                    f"{self.name} is being switched over to a rebuilt one: replay when that is done"
                )
                raise InvalidInput(reason=reason)
            if segments:
                queue = queue_of(self.name, active)
                await forget_letters(transaction, {"queue": queue}, again)
                if await any_letter(transaction, queue):
                    token = noting_letters(token, parked=True)
                free = {"token": token.text, "owner": "", "lease_until": 0.0}
                freed = [msgspec.structs.replace(segment, **free) for segment in segments]
                await transaction.replace_segments(freed)
            return bool(segments)

    async def resize(self, count: int) -> None:
        """Split or merge: divide the work into so many segments from now on.

        One transaction; processes that work on the processor lose their claims with it, and go
        on with the new segments, each with its share. No event is left out or handled twice, and
        order within a stream is kept, also when the segments were not equally far. A rebuild that
        is under way goes on with as many. Dead letters stay as they are.

        Raises:
            InvalidInput: the source cannot be divided into so many, or nothing was started yet.
            StoreUnavailable: the view store is away, or somebody works on a segment for longer
                than it waits; nothing was changed.
        """
        most = self._source.split(SEGMENTS_MAX)
        if not 1 <= count <= most:
            reason = f"{self.name} can have 1 to {most} segments, {count} were asked for"
            raise InvalidInput(reason=reason)
        await self._ensure()
        done: set[int] = set()
        while left := {s.generation for s in await self._views.segments(self.name)} - done:
            for generation in sorted(left):
                await self._resize(generation, count)
            done |= left
        if not done:
            reason = f"{self.name} was never started: set how many segments it begins with"
            raise InvalidInput(reason=reason)

    async def _resize(self, generation: int, count: int) -> None:
        async with self._views.transaction(
            generations=self._generations(generation), synced=self._applier.synced
        ) as transaction:
            segments = await transaction.segments(self.name, generation=generation)
            frozen = any(token_of(s.token).successor for s in segments)
            if not segments or frozen or len(segments) == count:
                return
            await transaction.replace_segments(resized(self._source, segments, count))
            await self._applier.resized(transaction, len(segments), count)

    async def rebuild(
        self, *, progress: Report | None = None, join: bool = False, segments: int = 0
    ) -> int:
        """Fill a new generation beside the one in service, then switch over; see `rebuild`.

        Raises:
            InvalidInput: it is a saga.
        """
        if not self._applier.replayable:
            raise InvalidInput(reason=f"{self.name} is a saga: its commands cannot be unsent")
        await self._ensure()
        return await rebuild(
            self._applier,
            source=self._source,
            views=self._views,
            owner=self._owner,
            settings=self._settings,
            progress=progress,
            join=join,
            segments=segments,
        )

    async def letters(self, sequence: str = "") -> AsyncIterator[DeadLetter]:
        """Yield the dead letters, of one sequence or of all, in order within each sequence."""
        await self._ensure()
        queue = queue_of(self.name, await self._active())
        sequence_key = sequence_key_of(queue, sequence) if sequence else ""
        async for letter in letters(self._views, queue=queue, sequence_key=sequence_key):
            yield letter

    async def retry(self, sequence: str) -> Retried:
        """Handle the letters of a sequence again, in order, each in a transaction of its own.

        Ends with the first that fails again; it and all behind it stay parked. When all are
        done, the sequence goes on as usual. Cancellation leaves what is done, done.
        """
        await self._ensure()
        handled = 0
        while True:
            generation = await self._active()
            sequence_key = sequence_key_of(queue_of(self.name, generation), sequence)
            letter = await first_letter(self._views, sequence_key)
            if letter is None:
                return Retried(handled)
            try:
                await self._clock.look()
                self._applier.clock = self._clock
                if letter.event is not None:
                    await self._applier.outside(letter.event, replaying=letter.replaying)
                async with self._views.transaction(
                    generations=self._generations(generation), synced=self._applier.synced
                ) as transaction:
                    # So nobody parks more behind the letter before it is gone.
                    segments = await transaction.segments(self.name, generation=generation)
                    if await first_letter(transaction, sequence_key) != letter:
                        continue  # somebody else was faster
                    self._applier.count = len(segments) or 1  # sagas: whose their commands are
                    await self._applier.retry(transaction, letter)
                    await transaction.delete(DeadLetter, [letter.id])
            except EventFailed as failure:
                self._applier.rolled_back()
                failed = failed_again(letter, failure.cause)
                async with self._views.transaction() as transaction:
                    if await transaction.load(DeadLetter, [letter.id]):
                        await transaction.save([failed])
                return Retried(handled, failed)
            except BaseException:
                self._applier.rolled_back()
                raise
            self._applier.committed()
            handled += 1

    async def drop(self, sequence: str, *, letter: str = "") -> int:
        """Remove a letter, or all letters of a sequence; return how many.

        What was dropped is never handled. With the last letter gone the sequence goes on.
        """
        await self._ensure()
        dropped = 0
        generation = await self._active()
        sequence_key = sequence_key_of(queue_of(self.name, generation), sequence)
        while True:
            async with self._views.transaction() as transaction:
                await transaction.segments(self.name, generation=generation)  # nobody parks more
                found = (
                    await transaction.find(DeadLetter, where={"sequence_key": sequence_key})
                ).items
                gone = [one.id for one in found if letter in {"", one.id}]
                await transaction.delete(DeadLetter, gone)
            dropped += len(gone)
            if letter or not gone:
                return dropped

    def _generations(self, generation: int) -> dict[str, int]:
        return {model_name(view): generation for view in self._applier.views}

    async def _active(self) -> int:
        return await self._views.generation(self.name, code=self._applier.code)

    async def _ensure(self) -> None:
        await self._views.ensure([DeadLetter, *self._applier.shared_views])
