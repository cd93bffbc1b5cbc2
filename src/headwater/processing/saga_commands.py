"""Stored commands of sagas: their classes found again by wire name, and their dead letters."""

import sys
from collections.abc import Iterator

import msgspec

from headwater.errors import MalformedMessage, UnknownMessage
from headwater.messages import Command, message_type, now_us
from headwater.processing.dead_letters import DeadLetter, code_of, describe, lane_of, queue_of
from headwater.processing.saga_views import PendingCommand, SagaDeadline

COMMANDS = "#commands"  # refused commands of saga x are the sequence x#commands


def letter_of_saga(
    processor: str, row: PendingCommand | SagaDeadline, error: Exception
) -> DeadLetter:
    """Return the dead letter of a refused command, or of a deadline whose handler raised."""
    sequence, queue = row.saga + COMMANDS, queue_of(processor, 1)
    is_command = isinstance(row, PendingCommand)
    return DeadLetter(
        id=f"{lane_of(queue, sequence)}|{row.id}",
        queue=queue,
        lane=lane_of(queue, sequence),
        sequence=sequence,
        kind="command" if is_command else "deadline",
        type=row.type if isinstance(row, PendingCommand) else row.name,
        error=describe(error),
        code=code_of(error),
        attempts=1,
        parked_us=now_us(),
        content=msgspec.json.encode(row).decode(),
    )


def decode_command(row: PendingCommand, saga: type) -> Command:
    """Return a stored command.

    Raises:
        UnknownMessage: its class is not known in this process.
        MalformedMessage: its content does not fit the class.
    """
    cls = command_class(row.type, saga)
    if cls is None:
        raise UnknownMessage(name=row.type)
    try:
        return msgspec.json.decode(row.content, type=cls)
    except msgspec.MsgspecError as error:
        raise MalformedMessage(name=f"command {row.type!r}", reason=str(error)) from error


def command_class(name: str, saga: type) -> type[Command] | None:
    """Return the command class of a wire name: from the saga's module, else if there is one."""
    for candidates in (commands_near(saga), list(_subclasses(Command))):
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
