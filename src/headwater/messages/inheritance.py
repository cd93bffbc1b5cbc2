"""Classes that derive from others: which handler takes them, and what an override inherits.

A handler of ``Moved`` takes every event that derives from it, unless a handler of a class in
between is nearer. A method that overrides a handler is one, with or without its decorator.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, TypeVar, get_type_hints

import msgspec

from headwater.errors import DeclarationError
from headwater.messages.types import Event, message_type

T = TypeVar("T")

_MARK = "__headwater_"


def qualified(cls: Any) -> str:
    """Return the name of a class or function with its module: ``shop.orders.OrderPlaced``."""
    return f"{cls.__module__}.{cls.__qualname__}"


# which handler -------------------------------------------------------------------------------


def nearest(cls: type[T], declared: Collection[type[T]], *, subject: str) -> type[T] | None:
    """Return the declared class that a class derives from most closely; itself, if declared.

    Raises:
        DeclarationError: it derives from two, and neither is nearer. ``subject`` says whose
            handlers they are.
    """
    bases: list[type[T]] = [base for base in cls.__mro__ if base in declared]
    found = [b for b in bases if not any(o is not b and issubclass(o, b) for o in bases)]
    if len(found) > 1:
        rivals = " and of ".join(map(qualified, found))
        raise DeclarationError(
            subject=subject,
            reason=f"{qualified(cls)} could go to the handler of {rivals}: "
            "declare a handler of its own",
        )
    return found[0] if found else None


def known_events(declared: Iterable[type[Event]]) -> tuple[type[Event], ...]:
    """Return the classes, and behind them all that derive from them as far as defined by now.

    One that has the wire name of a declared class is left out: what is stored under the name is
    the declared one's. Of a class that was defined again (a module loaded anew, a function called
    again) only the last definition counts.

    Raises:
        DeclarationError: two that are not declared have the same wire name.
    """
    own = dict.fromkeys(declared)
    taken = {name for cls in own for name in _names(cls)}
    derived: dict[tuple[str, str], type[Event]] = {}
    for cls in dict.fromkeys(sub for base in own for sub in _below(base) if sub not in own):
        names = _names(cls)
        if not names or not taken.isdisjoint(names):
            continue
        for name in names:
            other = derived.setdefault(name, cls)
            if other is not cls and not _again(cls, other):
                raise same_wire_name(cls, other, name[1])
            derived[name] = cls
    return (*own, *(cls for name, cls in derived.items() if _names(cls)[0] == name))


def _names(cls: type[Event]) -> list[tuple[str, str]]:
    """Return the wire names of an event, each with the service that it is bound to."""
    try:
        kind = message_type(cls)
    except NameError:  # its annotations name what is gone: nobody can store or read it
        return []
    return [(kind.source, name) for name in kind.names]


def same_wire_name(cls: type, other: type, name: str) -> DeclarationError:
    """Return the error for two message classes of one wire name."""
    return DeclarationError(
        subject=qualified(cls),
        reason=f"wire name {name!r} belongs to {qualified(other)} already: give one of the two "
        'another one, @wire("AnotherName")',
    )


def _again(cls: type, other: type) -> bool:
    """Whether a class is another one, defined again."""
    return qualified(cls) == qualified(other) or "<locals>" in cls.__qualname__


def _below(cls: type[T]) -> Iterator[type[T]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _below(sub)


# what an override inherits -------------------------------------------------------------------


class Method(msgspec.Struct, frozen=True):
    """A method that is a handler.

    Attributes:
        name: what it is called in its class.
        function: the method.
        mark: what its decorator, or that of the method it overrides, noted.
        hints: its annotations by parameter, and ``return``; what an override leaves out is as in
            the method it overrides.
    """

    name: str
    function: Callable[..., Any]
    mark: Any
    hints: dict[str, Any]

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters after self."""
        return _parameters(self.function)


def handlers_of(cls: type, mark: str) -> list[Method]:
    """Return the methods of a class with a mark, in order of declaration, bases first.

    An override without a decorator inherits the mark; ``name = None`` removes a handler.

    Raises:
        DeclarationError: an override is no method, takes something else than the method it
            overrides, or is a handler of another kind; or an annotation cannot be resolved.
    """
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        names.update(dict.fromkeys(base.__dict__))
    found = (_handler(cls, name, mark) for name in names)
    return [method for method in found if method is not None]


def _handler(cls: type, name: str, mark: str) -> Method | None:
    own, *overridden = (base.__dict__[name] for base in cls.__mro__ if name in base.__dict__)
    if hasattr(getattr(own, "__func__", own), mark):
        if not inspect.isfunction(own):
            reason = f"is a handler: make it a plain method, not a {type(own).__name__}"
            raise DeclarationError(subject=f"{qualified(cls)}.{name}", reason=reason)
        return Method(name, own, getattr(own, mark), annotations_of(own))
    handler = next((o for o in overridden if inspect.isfunction(o) and hasattr(o, mark)), None)
    if handler is None or own is None:
        return None
    if not inspect.isfunction(own):
        raise _vanished(own, handler, f"is {own!r}", where=f"{qualified(cls)}.{name}")
    if any(key.startswith(_MARK) for key in vars(own)):
        raise _vanished(own, handler, "is a handler of another kind")
    if inspect.iscoroutinefunction(own) != inspect.iscoroutinefunction(handler):
        raise _vanished(own, handler, "only one of the two is async")
    return Method(name, own, getattr(handler, mark), _inherited(own, handler))


def _inherited(own: Callable[..., Any], handler: Callable[..., Any]) -> dict[str, Any]:
    hints, theirs = annotations_of(own), annotations_of(handler)
    for name, other in zip(_parameters(own), _parameters(handler), strict=False):
        if other in theirs and hints.setdefault(name, theirs[other]) != theirs[other]:
            raise _vanished(own, handler, f"takes {hints[name]!r} instead of {theirs[other]!r}")
    if "return" in theirs:
        hints.setdefault("return", theirs["return"])
    return hints


def _vanished(
    own: Any, handler: Callable[..., Any], reason: str, *, where: str = ""
) -> DeclarationError:
    return DeclarationError(
        subject=where or qualified(own),
        reason=f"overrides the handler {qualified(handler)}, but {reason}: mark it with a "
        "decorator of its own, call it otherwise, or remove the handler with = None",
    )


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function.

    Raises:
        DeclarationError: one names nothing that exists at run time.
    """
    try:
        return get_type_hints(function)
    except NameError as error:
        raise DeclarationError(
            subject=function.__qualname__,
            reason=f"its annotations cannot be resolved ({error}): import the types at run time",
        ) from error


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)[1:]
