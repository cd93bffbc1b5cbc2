"""Finding the class of a stored command again, by its wire name."""

import sys
from collections.abc import Iterator

import msgspec

from headwater.errors import MalformedMessage
from headwater.messages import Command, message_type
from headwater.processing.saga_views import PendingCommand


def decode_command(row: PendingCommand, saga: type) -> Command | None:
    """Return a stored command; None when its class is not known in this process.

    Raises:
        MalformedMessage: its content does not fit the class.
    """
    cls = command_class(row.type, saga)
    if cls is None:
        return None
    try:
        return msgspec.json.decode(row.content, type=cls)
    except msgspec.MsgspecError as error:
        raise MalformedMessage(name=f"command {row.type!r}", reason=str(error)) from error


def command_class(name: str, saga: type) -> type[Command] | None:
    """Return the command class of a wire name: from the saga's module, else if there is one."""
    module = sys.modules.get(saga.__module__)
    near = [
        cls
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Command) and cls is not Command
    ]
    for candidates in (near, list(_subclasses(Command))):
        found = {cls for cls in candidates if message_type(cls).name == name}
        if len(found) == 1:
            return found.pop()
    return None


def _subclasses(cls: type[Command]) -> Iterator[type[Command]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)
