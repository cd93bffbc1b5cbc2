"""Runs a saga: events in, commands out, deadlines, everything durable."""

import asyncio
import math
import time
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

import msgspec

from headwater.dispatch import CommandBus
from headwater.messages import Command
from headwater.messages.codec import metadata_of
from headwater.messages.inheritance import known_events
from headwater.messages.sealing import opened_event
from headwater.modelling.event_handlers import kebab
from headwater.modelling.saga import Saga, SagaHandler, SagaType, saga_type
from headwater.processing.handling.applier import Applier, EventFailed, Outbox, failed
from headwater.processing.handling.dead_letters import DeadLetter
from headwater.processing.handling.entries import Entry, chosen, entries_of
from headwater.processing.handling.failures import is_of_callee
from headwater.processing.running.status import SagaStatus
from headwater.processing.sagas.commands import (
    commands_near,
    decode_command,
    letter_of_saga,
    outbox_of,
    requeued,
)
from headwater.processing.sagas.sender import Outcome, Outgoing, Sender
from headwater.processing.sagas.shares import divided, saga_of, share_of
from headwater.processing.sagas.steps import SagaWork, refusal_step
from headwater.processing.sagas.views import (
    PendingCommand,
    SagaDeadline,
    SagaState,
    deadlines_of,
    saga_queue,
    segment_of_saga,
)
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources.source import EventId, RawEvent, Source, SourcePage
from headwater.views import Range, Segment, View, ViewStore, ViewTransaction

_PAGE = 1000
_OUTCOMES_S = 0.015  # acknowledged commands are removed together; if not, they are sent once more


class _Step(NamedTuple):
    """An event for a saga; ``part`` is its number among those that the stored one has become."""

    raw: RawEvent
    part: int
    event: object
    handler: SagaHandler
    saga: str


class SagaApplier(Applier):
    """Applies events, refusals and deadlines to sagas of one type."""

    shared_views: tuple[type[View], ...] = (SagaState, PendingCommand, SagaDeadline)
    replayable = False
    # Commands leave after the commit. Were it lost with the machine, the saga could decide
    # otherwise next time, as refusals and deadlines do not come in the same order again.
    synced = True

    def __init__(
        self,
        saga: type[Saga],
        source: Source,
        commands: CommandBus | None,
        *,
        concurrency: int,
        settings: ProcessorSettings,
        service: str = "",
    ) -> None:
        """Compile a saga; without a command bus nothing is sent (for administration)."""
        super().__init__(source.whole())
        self._service = service
        self._kind: SagaType = saga_type(saga)
        self.name = kebab(self._kind.name)
        self.segments = saga.saga_segments
        self.start, self.policy = saga.saga_start, saga.saga_retry
        handlers = {
            event: handler
            for event in known_events(self._kind.events)
            if (handler := self._kind.event_handler(event)) is not None
        }
        self._entries: dict[str, Entry[SagaHandler]] = entries_of(handlers, self.source)
        self._several = any(handler.several for handler in handlers.values()) or any(
            version > 1  # it may become several
            for entry in self._entries.values()
            for each in (entry, *entry.bound.values())
            for version in each.codec.versions.values()
        )
        self._near = commands_near(self._kind.cls)
        self._sender: Sender | None = None
        if commands is not None:
            self._sender = Sender(
                commands,
                concurrency=concurrency,
                settings=settings,
                clock=lambda: self.clock(),  # noqa: PLW0108  # it is set later
                done=self._sent,
                late=self._late,
            )
        self._owned: set[int] = set()
        self._known: dict[str, int] = {}  # ids of stored commands → segment
        self._scanning = asyncio.Lock()
        self._gone: set[str] | None = None  # ids removed while a scan is under way
        self._outcomes: list[Outcome] = []
        self._outcomes_due = 0.0  # monotonic seconds
        self._due: dict[int, float] = {}  # by segment: when the next deadline is due
        self._due_then: dict[int, float] = {}  # so it is after the commit
        self._lates: dict[str, Outgoing] = {}  # by id: what is still to be noted of them
        self._tentative: list[SagaWork] = []
        self._taken: list[Outcome] = []
        self._removed: list[str] = []

    @property
    def types(self) -> tuple[str, ...]:
        """See `Applier.types`."""
        return tuple(self._entries)

    def wants(self, name: str) -> bool:
        """See `Applier.wants`."""
        return name in self._entries

    def _entry(self, raw: RawEvent) -> Entry[SagaHandler] | None:
        entry = self._entries.get(raw.type)
        return chosen(entry, raw, self.source) if entry is not None and entry.bound else entry

    # events -----------------------------------------------------------------------------------

    def divided(self, page: SourcePage) -> SourcePage:
        """See `Applier.divided`: an event of several sagas stands for each."""
        return divided(page, self._sagas_of) if self._several else page

    def segments_of(self, page: SourcePage, count: int) -> Sequence[int]:
        """See `Applier.segments_of`: sagas divide by their id, so each has one writer."""
        return [
            segment_of_saga(saga, count) if (saga := self.sequence_of(event)) else -1
            for event in page.events
        ]

    def sequence_of(self, event: RawEvent) -> str:
        """See `Applier.sequence_of`: the saga."""
        return next(iter(self._sagas_of(event)), "")

    def _sagas_of(self, raw: RawEvent) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(step.saga for step in self._steps([raw])))
        except EventFailed:  # it will fail again where it is counted
            return (raw.stream,)

    def segment_of(self, event: RawEvent, sequence: str, count: int) -> int:  # noqa: ARG002
        """See `Applier.segment_of`."""
        return segment_of_saga(sequence, count)

    async def apply(
        self,
        transaction: ViewTransaction,
        events: Sequence[RawEvent],
        *,
        replayed: Container[EventId] = (),  # noqa: ARG002  # sagas go on where they were
    ) -> None:
        """See `Applier.apply`."""
        steps = list(self._steps(events))
        if not steps:
            return
        work = self._work()
        await work.load(transaction, (step.saga for step in steps))
        for step in steps:
            raw, handler, saga = step.raw, step.handler, step.saga
            if not work.exists(saga):
                if not handler.starts:
                    continue
                origin = f"{self.source.log_of(raw)}-{raw.position:012d}"
                work.begin(saga, f"{origin}.{step.part}" if step.part else origin)
            try:
                work.step(saga, metadata_of(raw), handler.function, step.event)
            except BaseException as error:
                raise failed(raw, error) from error
        await work.save(transaction)
        self._tentative.append(work)

    def _steps(self, events: Sequence[RawEvent]) -> Iterator[_Step]:
        for raw in events:
            entry = self._entry(raw)
            if entry is None:
                continue
            try:
                only = saga_of(raw)
                steps = [
                    _Step(raw, part, event, handler, saga)
                    for part, event in entry.codec.read_parts(opened_event(self.source.codec, raw))
                    for handler in [entry.handlers[type(event)]]
                    for saga in handler.keys(event)
                    if only in {"", saga}
                ]
            except BaseException as error:
                raise failed(raw, error) from error
            yield from steps

    def _work(self) -> SagaWork:
        return SagaWork(self._kind, self.name, self.count, self.clock, service=self._service)

    # what is due: outcomes and deadlines ------------------------------------------------------

    def due_s(self) -> float | None:
        """See `Applier.due_s`."""
        due = [] if self._due_at == math.inf else [self._due_at - self.clock()]
        if self._outcomes:
            due.append(self._outcomes_due - time.monotonic())
        if self._lates:
            due.append(0.0)
        return max(0.0, min(due)) if due else None

    def due_synced(self) -> bool:
        """See `Applier.due_synced`: acknowledgements may be forgotten, what is decided may not."""
        refused = any(outcome.error is not None for outcome in self._outcomes)
        return refused or self._due_at <= self.clock()

    @property
    def _due_at(self) -> float:
        return min(self._due.values(), default=math.inf)

    async def do_due(
        self, transaction: ViewTransaction, indices: Sequence[int], *, synced: bool
    ) -> None:
        """See `Applier.do_due`: remove what was acknowledged, handle refusals and deadlines.

        In a transaction that is not synced only the former; the others wait for the next one.
        """
        mine = set(indices)
        await self._note_lates(transaction, mine)
        taken: list[Outcome] = []
        left: list[Outcome] = []
        for outcome in self._outcomes:
            handled = outcome.sent.segment in mine and (synced or outcome.error is None)
            (taken if handled else left).append(outcome)
        self._outcomes = left
        self._taken += taken
        acknowledged = [o.sent.row.id for o in taken if o.error is None]
        if acknowledged:
            await transaction.delete(PendingCommand, acknowledged)
            self._removed += acknowledged
        refused = [o for o in taken if o.error is not None]
        if refused:
            await self._refused(transaction, refused)
        now = self.clock() if synced else -math.inf
        for index in mine:
            if self._due.get(index, math.inf) <= now:
                await self._deadlines(transaction, index, now)

    async def _note_lates(self, transaction: ViewTransaction, mine: set[int]) -> None:
        """Note for a person why commands are still here; should it be lost, the next time will."""
        lates = [late for late in self._lates.values() if late.segment in mine]
        for late in lates:
            del self._lates[late.row.id]
        there = await transaction.load(PendingCommand, [late.row.id for late in lates])
        noted = [
            msgspec.structs.replace(there[late.row.id], error=late.error, tries=late.tries)
            for late in lates
            if late.row.id in there
        ]
        if noted:
            await transaction.save(noted)

    async def _refused(self, transaction: ViewTransaction, refused: Sequence[Outcome]) -> None:
        ids = [outcome.sent.row.id for outcome in refused]
        there = await transaction.load(PendingCommand, ids)
        for outcome in refused:
            row, command, error = outcome.sent.row, outcome.sent.command, outcome.error
            assert isinstance(command, Command)
            assert error is not None
            if row.id not in there:
                continue  # its refusal was handled before
            # A key that belongs to another command is no decision: a person must look at it.
            found = refusal_step(self._kind, command, error) if error.decided else None
            work = self._work()
            await work.load(transaction, [row.saga])
            cause: BaseException = error
            if found is not None and work.exists(row.saga):
                try:
                    work.step(row.saga, row.cause, found[0], command, found[1])
                except BaseException as raised:
                    if not is_of_callee(raised):
                        raise
                    cause, found = raised, None  # it is pure: it would always raise
            if found is None or (not work.exists(row.saga) and not work.touched(row.saga)):
                await transaction.save([letter_of_saga(self.name, row, cause)])
            else:
                await work.save(transaction)
                self._tentative.append(work)
        await transaction.delete(PendingCommand, ids)
        self._removed += ids

    async def _deadlines(self, transaction: ViewTransaction, index: int, now: float) -> None:
        """Handle the deadlines of a segment that are due, some at a time."""
        where = {"queue": deadlines_of(saga_queue(self.name, index, self.count), until=now)}
        page = await transaction.find(SagaDeadline, where=where, order_by="queue", limit=_PAGE)
        await transaction.delete(SagaDeadline, [row.id for row in page.items])
        for row in page.items:
            work = self._work()
            await work.load(transaction, [row.saga])
            handler = self._kind.deadlines.get(row.name)
            if handler is None or not work.exists(row.saga):
                continue
            try:
                work.step(row.saga, row.cause, handler)
            except BaseException as raised:
                if not is_of_callee(raised):
                    raise  # else: it is pure, so it would always raise
                await transaction.save([letter_of_saga(self.name, row, raised)])
            else:
                await work.save(transaction)
                self._tentative.append(work)
        self._due_then[index] = await self._next_due(transaction, index)

    async def _next_due(self, views: ViewStore | ViewTransaction, index: int) -> float:
        where = {"queue": deadlines_of(saga_queue(self.name, index, self.count))}
        page = await views.find(SagaDeadline, where=where, order_by="queue", limit=1)
        return page.items[0].due if page.items else math.inf

    def committed(self) -> None:
        """See `Applier.committed`: now commands are sent and deadlines run."""
        for key in self._removed:
            self._known.pop(key, None)
            if self._gone is not None:
                self._gone.add(key)
        for index, due in self._due_then.items():
            self._due.pop(index, None)
            self._runs(index, due)
        for work in self._tentative:
            for row, command in work.commands:
                self._send(row, command)
            for deadline in work.deadlines:
                self._run(deadline)
        self._clear()

    def rolled_back(self) -> None:
        """See `Applier.rolled_back`."""
        self._outcomes = [o for o in self._taken if self._is_current(o)] + self._outcomes
        self._clear()

    def _is_current(self, outcome: Outcome) -> bool:
        """Whether the segment of an outcome was not given up since its command was sent."""
        return outcome.sent.segment in self._owned and outcome.sent.row.id in self._known

    def _clear(self) -> None:
        self._tentative, self._taken, self._removed, self._due_then = [], [], [], {}

    # sending ----------------------------------------------------------------------------------

    def _send(self, row: PendingCommand, command: Command | Exception) -> None:
        segment = segment_of_saga(row.saga, self.count)
        if self._sender is None or segment not in self._owned or row.id in self._known:
            return
        self._known[row.id] = segment
        self._sender.add(Outgoing(row, command, segment))

    def _sent(self, outcome: Outcome) -> None:
        first = not self._outcomes
        self._outcomes.append(outcome)
        if first:
            self._outcomes_due = time.monotonic() + _OUTCOMES_S
        if outcome.error is not None:
            self._outcomes_due = 0.0
        if first or outcome.error is not None:
            self.wake()

    def _late(self, outgoing: Outgoing) -> None:
        if outgoing.segment in self._owned:
            self._lates[outgoing.row.id] = outgoing
            self.wake()

    def _run(self, row: SagaDeadline) -> None:
        self._runs(segment_of_saga(row.saga, self.count), row.due)

    def _runs(self, index: int, due: float) -> None:
        if index in self._owned:
            self._due[index] = min(due, self._due.get(index, math.inf))

    # claims -----------------------------------------------------------------------------------

    async def claimed(self, views: ViewStore, segments: Sequence[Segment]) -> None:
        """See `Applier.claimed`: go on with the commands and deadlines that are stored."""
        for segment in segments:
            self._owned.add(segment.index)
            await self._requeue_former(views, segment)
            self._runs(segment.index, await self._next_due(views, segment.index))
            await self._scan(views, segment)

    async def refresh(self, views: ViewStore, segments: Sequence[Segment]) -> None:
        """See `Applier.refresh`: an administrator's retry may have stored more."""
        for segment in segments:
            if segment.index not in self._owned or segment.count != self.count:
                continue
            where = {"queue": saga_queue(self.name, segment.index, segment.count)}
            stored = await views.count(PendingCommand, where=where)
            self._runs(segment.index, await self._next_due(views, segment.index))
            if stored > sum(index == segment.index for index in self._known.values()):
                await self._scan(views, segment)

    async def _requeue_former(self, views: ViewStore, segment: Segment) -> None:
        """Queue the deadlines that an earlier release has stored, without their time."""
        where = {"queue": saga_queue(self.name, segment.index, segment.count)}
        while rows := (await views.find(SagaDeadline, where=where, limit=_PAGE)).items:
            async with views.transaction(synced=True) as transaction:
                there = await transaction.load(SagaDeadline, [row.id for row in rows])
                former = [row for row in there.values() if row.queue == where["queue"]]
                await transaction.save([requeued(self.name, row, self.count) for row in former])

    async def _scan(self, views: ViewStore, segment: Segment) -> None:
        async with self._scanning:  # one at a time, as they share `_gone`
            await self._scan_alone(views, segment)

    async def _scan_alone(self, views: ViewStore, segment: Segment) -> None:
        where = {"queue": saga_queue(self.name, segment.index, segment.count)}
        gone: set[str] = set()
        self._gone = gone
        try:
            cursor = ""
            while True:
                page = await views.find(PendingCommand, where=where, limit=_PAGE, cursor=cursor)
                for row in page.items:
                    if row.id not in gone and row.id not in self._known:
                        self._send(row, decode_command(row, self._near))
                cursor = page.next
                if not cursor:
                    break
        finally:
            self._gone = None

    async def resized(self, transaction: ViewTransaction, before: int, count: int) -> None:
        """See `Applier.resized`: commands and deadlines go to the new segments of their sagas."""
        for index in range(before):
            queue = saga_queue(self.name, index, before)
            moved: list[tuple[type[View], str | Range]] = [
                (PendingCommand, queue),
                (SagaDeadline, queue),
                (SagaDeadline, deadlines_of(queue)),
            ]
            for kind, which in moved:
                where = {"queue": which}
                while rows := (await transaction.find(kind, where=where, limit=_PAGE)).items:
                    await transaction.save([requeued(self.name, row, count) for row in rows])

    def dropped(self, indices: Sequence[int]) -> None:
        """See `Applier.dropped`."""
        gone = set(indices)
        self._owned -= gone
        self._outcomes = [o for o in self._outcomes if o.sent.segment not in gone]
        self._lates = {k: late for k, late in self._lates.items() if late.segment not in gone}
        self._known = {key: index for key, index in self._known.items() if index not in gone}
        self._due = {index: due for index, due in self._due.items() if index not in gone}
        if self._sender is not None:
            self._sender.drop(gone)

    async def close(self) -> None:
        """See `Applier.close`."""
        if self._sender is not None:
            await self._sender.close()

    async def outbox(self, views: ViewStore, count: int) -> Outbox:
        """See `Applier.outbox`."""
        return await outbox_of(views, self.name, count)

    def status(self) -> SagaStatus:
        """Return what is being sent."""
        waiting = self._sender.waiting if self._sender is not None else []
        return SagaStatus(
            waiting=len(waiting),
            in_flight=self._sender.in_flight if self._sender is not None else 0,
            due_s=None if self._due_at == math.inf else max(0.0, self._due_at - self.clock()),
            retrying=tuple((o.row.id, o.tries, o.error) for o in waiting if o.tries),
        )

    # dead letters -----------------------------------------------------------------------------

    async def retry(self, transaction: ViewTransaction, letter: DeadLetter) -> None:
        """See `Applier.retry`: a command is sent again, a deadline runs again (and is due)."""
        if letter.kind == "event":
            event = letter.event
            sagas = [] if event is None else [step.saga for step in self._steps([event])]
            if event is not None and letter.sequence in sagas:  # the others are done or parked, too
                letter = msgspec.structs.replace(letter, event=share_of(event, letter.sequence))
            await super().retry(transaction, letter)
            return
        kind: type[PendingCommand | SagaDeadline] = (
            PendingCommand if letter.kind == "command" else SagaDeadline
        )
        row = msgspec.json.decode(letter.content, type=kind)
        if isinstance(row, PendingCommand):  # it is decided anew, by a person
            row = msgspec.structs.replace(row, since=self.clock())
        await transaction.save([requeued(self.name, row, self.count)])
