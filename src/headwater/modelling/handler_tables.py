"""From a declared class to its table of handlers: checked once, at the declaration."""

import inspect
from collections.abc import Callable
from typing import Any, get_args, get_origin

import msgspec

from headwater.errors import DeclarationError
from headwater.messages import Event
from headwater.messages.hints import fields_of, shape_of
from headwater.messages.inheritance import Method, handlers_of, nearest, qualified
from headwater.messages.keys import Keys, key_shape, keys_of
from headwater.modelling.event_message import EventMessage
from headwater.modelling.foreign import ForeignSource
from headwater.modelling.marks import MARK, Marks
from headwater.modelling.policies import check_policies
from headwater.views import ReadModel, View, ViewTransaction, ViewType, view_type
from headwater.views.model import checked_model


class KeyedHandler(msgspec.Struct, frozen=True):
    """A handler of one event for views; ``wants_view`` false and not ``deletes``: creates.

    ``key`` gives the keys of the views; ``several`` says that it returns a list of views.
    """

    method: str
    event: type[Event]
    view: ViewType
    key: Keys
    wants_view: bool
    wants_message: bool
    deletes: bool
    several: bool


class FreeHandler(msgspec.Struct, frozen=True):
    """A free-form handler; ``arguments`` are what it takes, in order."""

    method: str
    event: type[Event]
    arguments: tuple[str, ...]
    replay: bool


class HandlerTable(msgspec.Struct, frozen=True):
    """All handlers of a class, by the event type that they declare, in order of declaration."""

    cls: type[Any]
    keyed: dict[type[Event], tuple[KeyedHandler, ...]]
    free: dict[type[Event], tuple[FreeHandler, ...]]
    views: tuple[ReadModel, ...]

    @property
    def documents(self) -> tuple[type[View], ...]:
        """The view types among the views, without tables of SQL."""
        return tuple(view for view in self.views if issubclass(view, View))

    @property
    def events(self) -> tuple[type[Event], ...]:
        """The event types that are declared."""
        return tuple(dict.fromkeys((*self.keyed, *self.free)))

    def of(self, event: type[Event]) -> tuple[list[KeyedHandler], tuple[FreeHandler, ...]]:
        """Return the handlers of an event, which may derive from a declared one.

        For each view those of the nearest declared type, and the same for the free-form ones.

        Raises:
            DeclarationError: two types are equally near.
        """
        subject = qualified(self.cls)
        views: dict[type[View], set[type[Event]]] = {}
        for declared, handlers in self.keyed.items():
            for handler in handlers:
                views.setdefault(handler.view.cls, set()).add(declared)
        near = {view: nearest(event, types, subject=subject) for view, types in views.items()}
        keyed = [h for of in self.keyed.values() for h in of if near[h.view.cls] is h.event]
        free = nearest(event, self.free, subject=subject)
        return keyed, self.free[free] if free is not None else ()


def check_declaration(cls: type[Any]) -> None:
    """Check options and handlers of a class.

    Raises:
        DeclarationError: something is declared wrongly.
    """
    if not 1 <= cls.segments <= 1024:
        raise DeclarationError(
            subject=cls.__name__, reason=f"segments must be 1 to 1024, got {cls.segments}"
        )
    if cls.source not in ("store", "bus") and not isinstance(cls.source, ForeignSource):
        raise DeclarationError(
            subject=cls.__name__,
            reason=f'source must be "store", "bus" or a queue such as AmqpQueue("name", ...), '
            f"got {cls.source!r}",
        )
    if cls.timeout_s is not None and cls.timeout_s <= 0:
        raise DeclarationError(
            subject=cls.__name__, reason=f"timeout_s must be above 0, or None, got {cls.timeout_s}"
        )
    check_policies(cls.__name__, cls.retry, cls.start)
    if cls.keeps_views and cls.start:
        reason = "a projection always begins at the beginning: leave start out"
        raise DeclarationError(subject=cls.__name__, reason=reason)
    if not isinstance(cls.version, str):
        raise DeclarationError(
            subject=cls.__name__, reason=f"version must be text, got {cls.version!r}"
        )
    table = handler_table(cls)
    if table.views and not cls.keeps_views:
        raise DeclarationError(
            subject=cls.__name__, reason="keeps views: derive it from Projection"
        )


def handler_table(cls: type[Any]) -> HandlerTable:
    """Return the handlers of a class.

    Raises:
        DeclarationError: a handler is declared wrongly.
    """
    keyed: dict[type[Event], list[KeyedHandler]] = {}
    free: dict[type[Event], list[FreeHandler]] = {}
    for method in handlers_of(cls, MARK):
        for mark in method.mark:
            if mark.view is None:
                handler = _free(method, mark)
                free.setdefault(handler.event, []).append(handler)
            else:
                one = _keyed(method, mark)
                keyed.setdefault(one.event, []).append(one)
    views: dict[ReadModel, None] = dict.fromkeys(
        h.view.cls for handlers in keyed.values() for h in handlers
    )
    views.update(dict.fromkeys(map(checked_model, cls.view_types)))
    return HandlerTable(
        cls=cls,
        keyed={event: tuple(handlers) for event, handlers in keyed.items()},
        free={event: tuple(handlers) for event, handlers in free.items()},
        views=tuple(views),
    )


def _keyed(method: Method, mark: Marks) -> KeyedHandler:
    assert mark.view is not None
    view, function = view_type(mark.view), method.function
    roles, event = _roles(method, view=mark.view)
    is_async: bool = inspect.iscoroutinefunction(function)
    wants_view, wants_message = roles[:1] == ["view"], roles[-1:] == ["message"]
    expected = ["view"] * wants_view + ["event"] + ["message"] * wants_message
    returns = method.hints.get("return", type(None))
    creates = not wants_view and not mark.deletes
    several = returns == list[mark.view]  # type: ignore[name-defined]  # known here
    reason = ""
    if is_async:
        reason = (
            "a keyed handler does no I/O: declare it without async, or use @event_handler alone"
        )
    elif roles != expected:
        reason = f"its parameters must be [view,] event[, message] in this order, got {roles}"
    elif mark.deletes and wants_view:
        reason = "with deletes=True it takes no view: (self, event) -> None"
    elif creates and not several and returns is not mark.view:
        reason = (
            f"without a view parameter it creates: declare it -> {mark.view.__name__} (or a list "
            f"of them), or take view: {mark.view.__name__}, or say deletes=True"
        )
    elif not creates and returns is not type(None):
        reason = f"it returns nothing: declare it -> None, got {returns!r}"
    else:
        reason = _unfit_key(function, event, mark, one=creates and not several)
    if reason:
        raise DeclarationError(subject=function.__qualname__, reason=reason)
    return KeyedHandler(
        method=method.name,
        event=event,
        view=view,
        key=keys_of(function.__qualname__, event, mark.key),
        wants_view=wants_view,
        wants_message=wants_message,
        deletes=mark.deletes,
        several=several,
    )


def _unfit_key(function: Any, event: type[Event], mark: Marks, *, one: bool) -> str:
    """Return why a key does not fit the view, as far as its type tells."""
    assert mark.view is not None
    shape, view = key_shape(function.__qualname__, event, mark.key), view_type(mark.view)
    if one and shape.many:
        return (
            f"key={mark.key!r} names several views: declare it -> list[{view.name}] and return "
            "one for each key"
        )
    kinds, taken = shape.one | shape.many, shape_of((fields_of(view.cls) or {})[view.key]).one
    if "text" in taken or kinds <= {"text", *taken}:
        return ""
    return (
        f"key={mark.key!r} is a {' or '.join(sorted(kinds))}, and {view.name}.{view.key} a "
        f"{' or '.join(sorted(taken))}: declare both of one type"
    )


def _free(method: Method, mark: Marks) -> FreeHandler:
    roles, event = _roles(method, view=None)
    function = method.function
    is_async: bool = inspect.iscoroutinefunction(function)
    if not is_async:
        raise DeclarationError(
            subject=function.__qualname__,
            reason="a free-form handler is async; a keyed one names its view: "
            "@event_handler(SomeView, key=...)",
        )
    return FreeHandler(method.name, event, tuple(roles), mark.replay)


def _roles(method: Method, *, view: type[View] | None) -> tuple[list[str], type[Event]]:
    """Return what each parameter is, by its annotation, and the event type."""
    function = method.function
    roles: list[str] = []
    events: list[type[Event]] = []
    for parameter in method.parameters:
        hint = method.hints.get(parameter)
        role = _role(hint, view)
        if not role or role in roles:
            raise DeclarationError(
                subject=function.__qualname__, reason=_unfit(parameter, hint, view)
            )
        if role == "event":
            events.append(hint)  # type: ignore[arg-type]  # _role checked that it is an event type
        if role == "message":
            _check_message(function, hint, events)
        roles.append(role)
    if not events:
        raise DeclarationError(
            subject=function.__qualname__,
            reason="it needs a parameter annotated with an event type: event: AccountOpened",
        )
    return roles, events[0]


def _role(hint: Any, view: type[View] | None) -> str:
    if hint is EventMessage or get_origin(hint) is EventMessage:
        return "message"
    if hint is ViewTransaction:
        return "transaction" if view is None else ""
    if isinstance(hint, type) and issubclass(hint, Event) and hint is not Event:
        return "event"
    if view is not None and hint is view:
        return "view"
    return ""


def _unfit(parameter: str, hint: Any, view: type[View] | None) -> str:
    allowed = "an event type, EventMessage" + (
        ", ViewTransaction" if view is None else f" or {view.__name__}"
    )
    return f"parameter {parameter!r} is annotated {hint!r}: annotate it, once each, with {allowed}"


def _check_message(function: Callable[..., Any], hint: Any, events: list[type[Event]]) -> None:
    of = get_args(hint)
    if of and events and of[0] is not events[0]:
        raise DeclarationError(
            subject=function.__qualname__,
            reason=f"message is EventMessage[{of[0]!r}], the event is {events[0].__name__}",
        )
