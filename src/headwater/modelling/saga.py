"""Sagas: durable state machines that are fed by events and answer with commands.

A saga is pure: it sees its state and a message, and returns effects. What runs it is in
`headwater.processing.sagas.applier`.
"""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import combinations
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from headwater.errors import (
    AggregateExists,
    AggregateNotFound,
    DeclarationError,
    HeadwaterError,
    Rejection,
)
from headwater.messages import Command, Event
from headwater.messages.inheritance import Method, handlers_of, nearest, qualified
from headwater.messages.keys import KeyOf, key_shape, keys_of
from headwater.messages.stored_form import StoredForm
from headwater.modelling.policies import Retry, Start, check_policies
from headwater.modelling.stored_state import check_fields

F = TypeVar("F", bound=Callable[..., Any])

_EVENT = "__headwater_saga_handler__"
_REJECTION = "__headwater_rejection_handler__"
_DEADLINE = "__headwater_deadline_handler__"


class Deadline(msgspec.Struct, frozen=True):
    """Call the saga's ``@deadline_handler(name)`` once, ``after`` this time from now.

    A deadline of the same name that is still running is replaced. It survives restarts; one that
    has passed meanwhile is due at once.
    """

    name: str
    after: timedelta


class Cancel(msgspec.Struct, frozen=True):
    """Call off the deadline of this name; it is fine if there is none."""

    name: str


class End(msgspec.Struct, frozen=True):
    """The saga is over: its state and deadlines are removed, commands on their way still go out."""


Effect = Command | Deadline | Cancel | End
Effects = Effect | Sequence[Effect] | None


class SagaHandler(msgspec.Struct, frozen=True):
    """The handler of one event type.

    ``keys`` gives the ids of the sagas that an event is for; there are ``several`` perhaps.
    """

    function: Callable[[Any, Any], Effects]
    keys: Callable[[Any], tuple[str, ...]]
    starts: bool
    several: bool


class RejectionHandler(msgspec.Struct, frozen=True):
    """The handler of refusals of one command type, of certain error classes."""

    function: Callable[[Any, Any, Any], Effects]
    command: type[Command]
    errors: tuple[type[HeadwaterError], ...]


class SagaType(msgspec.Struct, frozen=True):
    """What is known about one saga class, computed once.

    Attributes:
        cls: the class.
        name: its stable name in stores and idempotency keys.
        events, rejections, deadlines: its handlers.
        form: how its state is stored.
    """

    cls: Any
    name: str
    events: dict[type[Event], SagaHandler]
    rejections: tuple[RejectionHandler, ...]
    deadlines: dict[str, Callable[[Any], Effects]]
    form: StoredForm

    def event_handler(self, event: type[Event]) -> SagaHandler | None:
        """Return the handler that is nearest to an event, else None.

        Raises:
            DeclarationError: two are equally near.
        """
        declared = nearest(event, self.events, subject=qualified(self.cls))
        return None if declared is None else self.events[declared]

    def rejection_handler(self, command: Command, error: HeadwaterError) -> Any:
        """Return the handler that is nearest to this command and error, else None."""
        cases = [
            (handler, kind)
            for handler in self.rejections
            for kind in type(error).__mro__
            if isinstance(command, handler.command) and kind in handler.errors
        ]
        near = (h for h, kind in cases if not any(_is_nearer(case, h, kind) for case in cases))
        return next(near, None)


def _is_nearer(case: tuple[RejectionHandler, type], handler: RejectionHandler, error: type) -> bool:
    """Whether a case is nearer to what happened than a handler that takes it as this error."""
    command, kind = case[0].command, case[1]
    same = command is handler.command and kind is error
    return not same and issubclass(command, handler.command) and issubclass(kind, error)


class _SagaMeta(msgspec.StructMeta):
    """Checks a saga when its class is made (a struct's fields are not known any earlier)."""

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> Any:
        try:
            cls = super().__new__(mcs, name, bases, namespace, **options)
        except TypeError as error:  # a field without default follows ``id``, which has one
            raise DeclarationError(
                subject=name, reason=f"give every field a default: {error}"
            ) from error
        if bases != (msgspec.Struct,):
            saga_type(cls)
        return cls


class Saga(msgspec.Struct, metaclass=_SagaMeta):
    """A durable state machine: fields are its state, ``id`` is the key it was found by.

    Every field has a default. Handlers change the state and return effects: commands to be sent,
    deadlines, the end. They do no I/O and ask no clock. State, effects and progress commit
    together; then the commands are sent, in order within the saga, until they are acknowledged.

    Class options: ``saga_name`` (default: the class name; it must never change),
    ``saga_segments`` (into how many shares the sagas are divided when first started),
    ``saga_source`` (what it follows: the service's own store, or the event bus), ``saga_start``
    (where it begins when it is first started: ``"beginning"``, ``"now"``, or a time; to be said
    where there is a history. What comes later for sagas that would have begun before finds none),
    ``saga_retry`` (how often an event that fails is tried, if not as the settings say).
    """

    id: str = ""
    saga_name: ClassVar[str] = ""
    saga_segments: ClassVar[int] = 4
    saga_source: ClassVar[Literal["store", "bus"]] = "store"
    saga_start: ClassVar[Start] = ""
    saga_retry: ClassVar[Retry | None] = None


def saga_handler(*, key: str | KeyOf, starts: bool = False) -> Callable[[F], F]:
    """Mark ``def name(self, event: SomeEvent) -> Effects`` as the handler of an event.

    An event whose key is empty or None is ignored, and so is one that finds no saga and does not
    start one. A starting event that finds its saga is handled by it. A key is any value with a
    canonical text (see `Tag`), which is the saga's id; a list, tuple or set of them means several
    sagas, and each of them handles the event.

    Args:
        key: the field of the event that holds the saga's id or ids, or a function from event to
            id or ids.
        starts: the event begins a saga when there is none with this id.

    Raises:
        DeclarationError: it is a coroutine, or the key is empty.
    """

    def mark(function: F) -> F:
        _refuse_coroutine(function)
        if not key:
            raise DeclarationError(
                subject=function.__qualname__, reason='name the field: key="transfer_id"'
            )
        setattr(function, _EVENT, (key, starts))
        return function

    return mark


def rejection_handler(function: F) -> F:
    """Mark ``def name(self, command: SomeCommand, rejection: Rejection) -> Effects``.

    Called when whoever handles a command of the saga has decided against it: with a `Rejection`,
    or because the aggregate does not exist, or does already. The annotation of the second
    parameter says which errors it takes; a union names several. `AggregateNotFound` and
    `AggregateExists` come as themselves where a handler takes them, else as `CommandRefused`, and
    a rejection whose class is not known here as `RemoteRejection`; these two are a `Rejection`.

    Everything else is no decision, and the command is sent again until there is one: nobody
    handles it yet, an older version cannot read it, it is not allowed, a service is away.

    Raises:
        DeclarationError: it is a coroutine.
    """
    _refuse_coroutine(function)
    setattr(function, _REJECTION, True)
    return function


def deadline_handler(name: str) -> Callable[[F], F]:
    """Mark ``def name(self) -> Effects`` as what happens when the deadline ``name`` has passed.

    Raises:
        DeclarationError: it is a coroutine.
    """

    def mark(function: F) -> F:
        _refuse_coroutine(function)
        setattr(function, _DEADLINE, name)
        return function

    return mark


@functools.cache
def saga_type(cls: type[Saga]) -> SagaType:
    """Return the `SagaType` of a saga class.

    Raises:
        DeclarationError: something is declared wrongly.
    """
    missing = [field.name for field in msgspec.structs.fields(cls) if field.required]
    if missing:
        raise DeclarationError(
            subject=cls.__name__, reason=f"give every field a default: {', '.join(missing)}"
        )
    if not 1 <= cls.saga_segments <= 1024 or cls.saga_source not in {"store", "bus"}:
        raise DeclarationError(
            subject=cls.__name__,
            reason=f'saga_segments must be 1 to 1024 and saga_source "store" or "bus", got '
            f"{cls.saga_segments} and {cls.saga_source!r}",
        )
    check_policies(cls.__name__, cls.saga_retry, cls.saga_start)
    check_fields(cls, remedy=": the state of a saga is stored after each step")
    name = cls.__dict__.get("saga_name") or cls.__name__
    return SagaType(
        cls=cls,
        name=name,
        events=_event_handlers(cls),
        rejections=_rejections(cls),
        deadlines=_deadlines(cls),
        form=StoredForm(cls, f"saga {name!r}", bounded=False),
    )


def effects_of(kind: SagaType, returned: Effects) -> tuple[Effect, ...]:
    """Return what a handler returned as a tuple.

    Raises:
        DeclarationError: it is not an effect, or names a deadline without a handler.
    """
    if returned is None:
        return ()
    effects = (returned,) if isinstance(returned, Command | Deadline | Cancel | End) else returned
    for effect in effects:
        item: object = effect  # a handler's annotation may lie
        if not isinstance(item, Command | Deadline | Cancel | End):
            reason = f"returned {item!r}: return commands, Deadline, Cancel, End(), or None"
            raise DeclarationError(subject=kind.cls.__name__, reason=reason)
        if isinstance(item, Deadline | Cancel) and item.name not in kind.deadlines:
            reason = f"has no @deadline_handler({item.name!r}); it has {sorted(kind.deadlines)}"
            raise DeclarationError(subject=kind.cls.__name__, reason=reason)
    return tuple(effects)


def _refuse_coroutine(function: Callable[..., Any]) -> None:
    is_async: bool = inspect.iscoroutinefunction(function)
    if is_async:
        raise DeclarationError(
            subject=function.__qualname__, reason="a saga handler is pure: declare it without async"
        )


def _hints(method: Method, count: int, shape: str) -> list[Any]:
    """Return the annotations of the parameters after self."""
    names = method.parameters
    if len(names) != count:
        raise DeclarationError(
            subject=method.function.__qualname__, reason=f"declare it as {shape}"
        )
    return [method.hints.get(name) for name in names]


def _event_handlers(cls: type[Saga]) -> dict[type[Event], SagaHandler]:
    found: dict[type[Event], SagaHandler] = {}
    for method in handlers_of(cls, _EVENT):
        function, (key, starts) = method.function, method.mark
        (event,) = _hints(method, 1, "(self, event: SomeEvent) -> Effects")
        own = "annotate its parameter with an event type of its own"
        if not (isinstance(event, type) and issubclass(event, Event)):
            raise DeclarationError(subject=qualified(function), reason=f"{own}, got {event!r}")
        if event in found:
            other = qualified(found[event].function)
            reason = f"{own}, {event.__name__} has a handler already, {other}"
            raise DeclarationError(subject=qualified(function), reason=reason)
        subject = function.__qualname__
        shape = key_shape(subject, event, key)
        several = bool(shape.many) or shape.unknown
        found[event] = SagaHandler(function, _ids(subject, event, key), starts, several)
    if found and not any(handler.starts for handler in found.values()):
        raise DeclarationError(
            subject=cls.__name__, reason="no handler has starts=True, so it would never begin"
        )
    return found


def _ids(subject: str, event: type[Event], key: str | KeyOf) -> Callable[[Any], tuple[str, ...]]:
    keys = keys_of(subject, event, key)

    def ids(message: Any) -> tuple[str, ...]:
        found = keys(message)
        if isinstance(found, str):
            return (found,) if found else ()
        return tuple(filter(None, found))

    return ids


def _rejections(cls: type[Saga]) -> tuple[RejectionHandler, ...]:
    found = tuple(map(_rejection, handlers_of(cls, _REJECTION)))
    cases = [(one, error) for one in found for error in one.errors]
    declared = {(one.command, error) for one, error in cases}
    for (one, error), (other, wider) in combinations(cases, 2):
        both = _narrower(one.command, other.command), _narrower(error, wider)
        same = (one.command, error) == (other.command, wider)
        if one is not other and None not in both and (same or both not in declared):
            raise DeclarationError(
                subject=qualified(one.function),
                reason=f"{_named(both)} could go to {qualified(other.function)}, too: declare "
                + ("one of the two only" if same else "a handler of its own for that"),
            )
    return found


def _narrower(one: type, other: type) -> type | None:
    """Return the one of two classes that derives from the other; None: neither does."""
    return one if issubclass(one, other) else other if issubclass(other, one) else None


def _named(case: Sequence[type | None]) -> str:
    command, error = case
    return f"{qualified(error)} of {qualified(command)}"


def _rejection(method: Method) -> RejectionHandler:
    function = method.function
    shape = "(self, command: SomeCommand, rejection: Rejection) -> Effects"
    command, errors = _hints(method, 2, shape)
    kinds = get_args(errors) if get_origin(errors) in {Union, UnionType} else (errors,)
    if not (isinstance(command, type) and issubclass(command, Command)) or not all(
        isinstance(kind, type) and issubclass(kind, HeadwaterError) for kind in kinds
    ):
        raise DeclarationError(subject=function.__qualname__, reason=f"declare it as {shape}")
    decisions = (Rejection, AggregateNotFound, AggregateExists)
    never = [k for k in kinds if not (k.decided or any(issubclass(d, k) for d in decisions))]
    if never:
        raise DeclarationError(
            subject=function.__qualname__,
            reason=f"{never[0].__name__} is no decision about a command, which is sent again until "
            "there is one: take a Rejection, AggregateNotFound or AggregateExists",
        )
    return RejectionHandler(function, command, kinds)


def _deadlines(cls: type[Saga]) -> dict[str, Callable[[Any], Effects]]:
    found: dict[str, Callable[[Any], Effects]] = {}
    for method in handlers_of(cls, _DEADLINE):
        function, name = method.function, method.mark
        _hints(method, 0, "(self) -> Effects")
        if not re.fullmatch(r"[\w-]+", name) or name in found:
            raise DeclarationError(
                subject=function.__qualname__,
                reason=f"a deadline needs a name of its own (letters, digits, - and _): {name!r}",
            )
        found[name] = function
    return found
