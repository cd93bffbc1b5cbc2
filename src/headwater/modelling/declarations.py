"""The decorators of modelling, and reading what they marked on a class."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar, overload

import msgspec

from headwater.errors import DeclarationError
from headwater.messages import Command, Event, message_type
from headwater.messages.inheritance import handlers_of, qualified
from headwater.messages.types import MessageType

F = TypeVar("F", bound=Callable[..., Any])
Creates = bool | Literal["if_missing"]
Events = Event | Iterable[Event] | None

_COMMAND = "__headwater_command_handler__"
_EVENT = "__headwater_event_sourcing_handler__"


class CommandHandler(msgspec.Struct, frozen=True):
    """One compiled command handler.

    Attributes:
        command: the command's type.
        function: called with the state (empty, when it creates), the command and models.
        creates: False: the aggregate must exist; True: it must not; ``"if_missing"``: either.
        models: the decision models it asks for, in order of its parameters.
    """

    command: MessageType
    function: Callable[..., Events]
    creates: Creates
    models: tuple[Any, ...]


@overload
def command_handler(function: F) -> F: ...
@overload
def command_handler(*, creates: Creates = False) -> Callable[[F], F]: ...
def command_handler(function: F | None = None, *, creates: Creates = False) -> Any:
    """Mark a method that decides a command: state and command in, events out.

    It returns one event, several, or none; it does no I/O, asks no clock, and does not change
    the state (that is what event-sourcing handlers are for). It refuses by raising a `Rejection`.
    Further parameters annotated with a `DecisionModel` are loaded and guarded for it.

    Args:
        function: the method, when used without parentheses.
        creates: True for a handler that begins a new aggregate and finds an empty state;
            ``"if_missing"`` for one that begins it only when there is none yet.

    Raises:
        DeclarationError: it is a coroutine.
    """

    def mark(target: F) -> F:
        _refuse_coroutine(target, "a command handler")
        setattr(target, _COMMAND, creates)
        return target

    return mark if function is None else mark(function)


def event_sourcing_handler(function: F) -> F:
    """Mark a method that changes the state as an event says; it never refuses.

    Raises:
        DeclarationError: it is a coroutine.
    """
    _refuse_coroutine(function, "an event-sourcing handler")
    setattr(function, _EVENT, True)
    return function


def _refuse_coroutine(function: Callable[..., Any], what: str) -> None:
    is_async: bool = inspect.iscoroutinefunction(function)
    if is_async:
        raise DeclarationError(
            subject=function.__qualname__, reason=f"{what} is pure: declare it without async"
        )


def command_handlers_of(cls: type, model: type) -> dict[type[Command], CommandHandler]:
    """Return the command handlers of a class; ``model`` is the base of decision models.

    Raises:
        DeclarationError: a parameter is not annotated as it must be, or a command has two.
    """
    found: dict[type[Command], CommandHandler] = {}
    for method in handlers_of(cls, _COMMAND):
        function, names = method.function, method.parameters
        command = method.hints.get(names[0]) if names else None
        if not (isinstance(command, type) and issubclass(command, Command)):
            raise DeclarationError(
                subject=function.__qualname__,
                reason="annotate its second parameter with a command type: (self, command: Open)",
            )
        models = tuple(method.hints.get(name) for name in names[1:])
        for name, kind in zip(names[1:], models, strict=True):
            if not (isinstance(kind, type) and issubclass(kind, model)):
                raise DeclarationError(
                    subject=function.__qualname__,
                    reason=f"parameter {name!r} must be annotated with a DecisionModel: {kind!r}",
                )
        if command in found:
            other = qualified(found[command].function)
            reason = f"{command.__name__} has a handler already, {other}"
            raise DeclarationError(subject=qualified(function), reason=reason)
        found[command] = CommandHandler(message_type(command), function, method.mark, models)
    return found


def event_handlers_of(cls: type) -> dict[type[Event], Callable[[Any, Any], None]]:
    """Return the event-sourcing handlers of a class by event type.

    Raises:
        DeclarationError: a parameter is not annotated with an event, or an event has two.
    """
    found: dict[type[Event], Callable[[Any, Any], None]] = {}
    for method in handlers_of(cls, _EVENT):
        function, names = method.function, method.parameters
        event = method.hints.get(names[0]) if len(names) == 1 else None
        own = "annotate its one parameter with an event type of its own"
        if not (isinstance(event, type) and issubclass(event, Event)):
            raise DeclarationError(subject=qualified(function), reason=f"{own}, got {event!r}")
        if event in found:
            reason = f"{own}, {event.__name__} has a handler already, {qualified(found[event])}"
            raise DeclarationError(subject=qualified(function), reason=reason)
        found[event] = function
    return found


def events_of(decided: Events) -> tuple[Event, ...]:
    """Return what a command handler decided as a tuple.

    Raises:
        TypeError: the handler returned something that is not an event.
    """
    if decided is None:
        return ()
    if isinstance(decided, Event):
        return (decided,)
    events = tuple(decided)
    for event in events:
        item: object = event  # a handler's annotation may lie
        if not isinstance(item, Event):
            msg = f"a command handler returned {item!r}, which is not an Event"
            raise TypeError(msg)
    return events
