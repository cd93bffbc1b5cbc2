"""Sends what is due, as the commands of sagas are sent: from the view store, until acknowledged."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import structlog

from headwater.dispatch import CommandBus
from headwater.errors import CommandTooOld, ConfigurationError, DeclarationError
from headwater.messages import Command, message_type, new_id, new_metadata
from headwater.messages.codec import message_form
from headwater.messages.idempotency import key_for
from headwater.messages.inheritance import qualified
from headwater.modelling import Saga
from headwater.processing.handling.dead_letters import DeadLetter
from headwater.processing.handling.failures import is_of_callee
from headwater.processing.sagas.applier import SagaApplier
from headwater.processing.sagas.commands import decode_command, letter_of_saga
from headwater.processing.sagas.sender import Outcome
from headwater.processing.sagas.steps import SagaWork
from headwater.processing.sagas.views import (
    PendingCommand,
    SagaDeadline,
    deadlines_of,
    queued,
    saga_queue,
)
from headwater.processing.scheduling.recurring import Recurring
from headwater.processing.scheduling.views import NAME, RECURRING, ScheduledCommand
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources.nothing import Nothing
from headwater.views import Prefix, Segment, View, ViewStore, ViewTransaction

_PAGE = 1000
_log = structlog.get_logger("headwater.processing")


class ScheduledCommands(Saga):
    """Stands for what has no saga of its own: no events, no refusals, no deadlines."""


class ScheduleApplier(SagaApplier):
    """Sends scheduled commands when they are due.

    What is due becomes a `PendingCommand` in one transaction, which also puts down the next tick of
    what recurs; from there on all is as with the commands of sagas. There is one segment, so
    nobody needs to know how many there are to put something down.
    """

    shared_views: tuple[type[View], ...] = (ScheduledCommand, PendingCommand)

    def __init__(
        self,
        commands: CommandBus | None,
        *,
        concurrency: int,
        settings: ProcessorSettings,
        service: str,
        recurring: Mapping[str, Recurring],
        known: Sequence[type[Command]],
    ) -> None:
        """Without a command bus nothing is sent (for administration).

        ``known`` are the command classes that are meant where several have one name, and the one
        that was put down is not there any more.
        """
        super().__init__(
            ScheduledCommands,
            Nothing(),
            commands,
            concurrency=concurrency,
            settings=settings,
            service=service,
        )
        assert self.name == NAME
        self._keys = f"{service}:{NAME}"
        self._recurring = recurring
        self._near = list(known)

    def told(self, due: float) -> None:
        """Hear that a command was put down here, which may be undone."""
        self._runs(0, due)
        self.wake()

    # what is due ------------------------------------------------------------------------------

    async def _deadlines(self, transaction: ViewTransaction, index: int, now: float) -> None:
        """Let what is due be sent after the commit, some at a time."""
        where = {"queue": deadlines_of(NAME, until=now)}
        page = await transaction.find(ScheduledCommand, where=where, order_by="queue", limit=_PAGE)
        ids = [row.id for row in page.items]
        there = await transaction.load(ScheduledCommand, ids)  # cancelled by nobody from now on
        due = [there[id] for id in ids if id in there and there[id].due <= now]
        await transaction.delete(ScheduledCommand, [row.id for row in due])
        work = self._work()
        for row in due:
            if row.content:
                self._send_later(work, row, saga=row.id)
            else:
                await self._tick(transaction, work, row, now)
        await transaction.save([pending for pending, _ in work.commands])
        self._tentative.append(work)
        self._due_then[index] = await self._next_due(transaction, index)

    def _send_later(self, work: SagaWork, row: ScheduledCommand, *, saga: str) -> None:
        pending = PendingCommand(
            id=f"{NAME}/{row.id}",
            queue=saga_queue(NAME, 0, 1),
            saga=saga,
            type=row.type,
            content=row.content,
            idempotency_key=row.idempotency_key,
            cause=row.cause,
            since=self.clock(),
            declared=row.declared,
        )
        work.commands.append((pending, decode_command(pending, self._near)))

    async def _tick(
        self, transaction: ViewTransaction, work: SagaWork, row: ScheduledCommand, now: float
    ) -> None:
        """Make the command of a tick, and put down the next one."""
        rule = self._recurring.get(row.type)
        tick: float | None = row.due
        if not row.alone:
            if rule is None:
                _log.info("no longer declared, so it recurs no more", schedule=row.type)
                return
            await transaction.save([_next_tick(rule, now)])
            if row.rule != rule.text:
                return
            tick = rule.made_up(row.due, now)
            if tick is None:
                _log.warning("a tick was missed, and is skipped", schedule=row.type)
                return
        assert tick is not None
        time = datetime.fromtimestamp(tick, UTC).isoformat()
        saga = f"{RECURRING}{row.type}"
        try:
            command, content = _made(row, rule, tick)
        except BaseException as error:
            if not is_of_callee(error):
                raise
            failed = SagaDeadline(
                id=f"{saga}/{time}", queue="", saga=saga, name=row.type, due=tick, cause=row.cause
            )
            await transaction.save([letter_of_saga(NAME, failed, error)])
            return
        made = msgspec.structs.replace(
            row,
            id=f"{saga}/{time}",
            type=message_type(type(command)).name,
            content=content,
            idempotency_key=key_for(f"{self._keys}/{row.type}/{time}"),
            declared=qualified(type(command)),
        )
        self._send_later(work, made, saga=saga)

    async def _next_due(self, views: ViewStore | ViewTransaction, index: int) -> float:  # noqa: ARG002
        where = {"queue": deadlines_of(NAME)}
        page = await views.find(ScheduledCommand, where=where, order_by="queue", limit=1)
        return page.items[0].due if page.items else math.inf

    # claims -----------------------------------------------------------------------------------

    async def _requeue_former(self, views: ViewStore, segment: Segment) -> None:  # noqa: ARG002
        """Put down the first ticks of what was declared, and forget what is declared no more."""
        async with views.transaction(synced=True) as transaction:
            where = {"id": Prefix(RECURRING)}
            page = await transaction.find(ScheduledCommand, where=where, limit=_PAGE)
            rows = {row.id: row for row in page.items if not row.alone}
            there = await transaction.load(ScheduledCommand, list(rows))
            gone = [id for id, row in there.items() if row.type not in self._recurring]
            await transaction.delete(ScheduledCommand, gone)
            now = self.clock()
            await transaction.save(
                [
                    _next_tick(rule, now)
                    for rule in self._recurring.values()
                    if (known := there.get(f"{RECURRING}{rule.name}")) is None
                    or known.rule != rule.text
                ]
            )

    async def resized(self, transaction: ViewTransaction, before: int, count: int) -> None:
        """See `Applier.resized`: there is one segment."""

    # letters ----------------------------------------------------------------------------------

    async def _refused(self, transaction: ViewTransaction, refused: Sequence[Outcome]) -> None:
        """Make letters of what was refused for good."""
        ids = [outcome.sent.row.id for outcome in refused]
        there = await transaction.load(PendingCommand, ids)
        letters = [
            letter_of_saga(NAME, outcome.sent.row, outcome.error)
            for outcome in refused
            if outcome.sent.row.id in there and outcome.error is not None
        ]
        for letter in letters:
            _log.warning("refused for good, and kept as a letter", command=letter.type,
                         sequence=letter.sequence, reason=letter.error)  # fmt: skip
        await transaction.save(letters)
        await transaction.delete(PendingCommand, ids)
        self._removed += ids

    async def retry(self, transaction: ViewTransaction, letter: DeadLetter) -> None:
        """See `Applier.retry`: a command is sent again, a tick is due again."""
        if letter.kind == "deadline":
            failed = msgspec.json.decode(letter.content, type=SagaDeadline)
            tick = ScheduledCommand(
                id=failed.id,
                queue=queued(NAME, failed.due),
                due=failed.due,
                type=failed.name,
                content="",
                idempotency_key="",
                cause=failed.cause,
                alone=True,
            )
            await transaction.save([tick])
            return
        row = msgspec.json.decode(letter.content, type=PendingCommand)
        key = row.idempotency_key
        if letter.code != CommandTooOld.code:
            # It was refused, which is kept under its key: it was not carried out, nor will it be.
            key = key_for(f"{key}#{new_id()}")
        row = msgspec.structs.replace(
            row, since=self.clock(), idempotency_key=key, error="", tries=0
        )
        await transaction.save([row])


def _made(row: ScheduledCommand, rule: Recurring | None, tick: float) -> tuple[Command, str]:
    """Return the command of a tick, and its stored form."""
    if rule is None:
        raise ConfigurationError(
            subject=f"schedule {row.type!r}", reason="is not declared any more: drop its letters"
        )
    command = rule.command(rule.time(tick))
    if not isinstance(command, Command):
        raise DeclarationError(
            subject=f"schedule {row.type!r}", reason=f"returned {command!r}: return a command"
        )
    content, back = message_form(type(command)).write(command)
    return back, content.decode()


def _next_tick(rule: Recurring, now: float) -> ScheduledCommand:
    due = rule.after(now)
    return ScheduledCommand(
        id=f"{RECURRING}{rule.name}",
        queue=queued(NAME, due),
        due=due,
        type=rule.name,
        content="",
        idempotency_key="",
        cause=new_metadata(),
        rule=rule.text,
    )
