"""Stored commands of sagas: their classes found again by wire name, and their dead letters."""

import sys
from collections.abc import Iterator, Sequence

import msgspec

from headwater.errors import ViewUnreadable
from headwater.messages import Command, message_type, now_us
from headwater.messages.codec import message_form
from headwater.messages.inheritance import qualified
from headwater.processing.handling.applier import Outbox
from headwater.processing.handling.dead_letters import DeadLetter, queue_of, sequence_key_of, within
from headwater.processing.handling.failures import code_of, describe, traceback_of
from headwater.processing.sagas.views import (
    PendingCommand,
    SagaDeadline,
    queued,
    saga_queue,
    segment_of_saga,
)
from headwater.views import View, ViewStore

_SAGA_BYTES = 200  # of the saga in the id of a letter, which names it twice
_PAGE = 1000
COMMANDS = "#commands"  # refused commands of saga x are the sequence x#commands


def letter_of_saga(
    processor: str, row: PendingCommand | SagaDeadline, error: BaseException
) -> DeadLetter:
    """Return the dead letter of a refused command, or of a deadline whose handler raised."""
    sequence, queue = row.saga + COMMANDS, queue_of(processor, 1)
    is_command = isinstance(row, PendingCommand)
    sequence_key = sequence_key_of(queue, sequence)
    return DeadLetter(
        id=f"{sequence_key}|{row.id.replace(row.saga, within(row.saga, _SAGA_BYTES))}",
        queue=queue,
        sequence_key=sequence_key,
        sequence=sequence,
        kind="command" if is_command else "deadline",
        type=row.type if isinstance(row, PendingCommand) else row.name,
        error=describe(error),
        code=code_of(error),
        traceback=traceback_of(error),
        attempts=1,
        parked_us=now_us(),
        content=msgspec.json.encode(row).decode(),
    )


def requeued(processor: str, row: PendingCommand | SagaDeadline, count: int) -> View:
    """Return a row where the segment of its saga finds it."""
    queue = saga_queue(processor, segment_of_saga(row.saga, count), count)
    if isinstance(row, SagaDeadline):
        queue = queued(queue, row.due)
    return msgspec.structs.replace(row, queue=queue)


async def outbox_of(views: ViewStore, processor: str, count: int) -> Outbox:
    """Return what is still to be sent of all segments of a saga's processor."""
    found, since, reason = 0, 0.0, ""
    for index in range(count):
        where = {"queue": saga_queue(processor, index, count)}
        cursor = ""
        while True:
            page = await views.find(PendingCommand, where=where, limit=_PAGE, cursor=cursor)
            found += len(page.items)
            for row in page.items:
                if row.since and (not since or row.since < since):
                    since, reason = row.since, row.error
            cursor = page.next
            if not cursor:
                break
    return Outbox(found, since, reason)


def decode_command(row: PendingCommand, near: Sequence[type[Command]]) -> Command | Exception:
    """Return a stored command; or why it cannot be sent by this process, as it is now.

    Its class is the one that was stored with it, else one of those ``near``, else of all that there
    are.
    """
    cls = command_class(row.type, near, declared=row.declared)
    if cls is None:
        meant = f" (it was {row.declared})" if row.declared else ""
        return LookupError(f"no one command class is named {row.type!r}{meant}: import its module")
    try:
        command: Command = message_form(cls).read(row.content)
    except Exception as error:  # noqa: BLE001  # a `__post_init__` may raise anything
        return ViewUnreadable(
            view=f"command {row.type!r}",
            key=row.id,
            reason=str(error),
            remedy="correct the class; it is tried again",
        )
    return command


def command_class(
    name: str, near: Sequence[type[Command]], *, declared: str = ""
) -> type[Command] | None:
    """Return the command class of a wire name: as declared, else of these, else the only one."""
    every = list(_subclasses(Command))
    for candidates in ([cls for cls in every if qualified(cls) == declared], near, every):
        found = {cls for cls in candidates if name in message_type(cls).names}
        if len(found) == 1:
            return found.pop()
    return None


def commands_near(saga: type) -> list[type[Command]]:
    """Return the command classes that the module of a saga knows."""
    module = sys.modules.get(saga.__module__)
    return [
        cls
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Command) and cls is not Command
    ]


def _subclasses(cls: type[Command]) -> Iterator[type[Command]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)
