"""Upcasting: content that older programs stored, lifted to what the classes of today expect.

Content has the form it has in JSON, before an upcaster and after it, and is decoded like content
that is stored today. So whatever survives storing survives lifting, for every type.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from headwater.errors import DeclarationError, EventUnreadable
from headwater.messages.types import Event, MessageType, message_type

_DEPTH_MAX = 50  # one event becomes others, which become others, ...: more can only be a circle


class Upcast(msgspec.Struct, frozen=True):
    """One of the events that an older one becomes: an event class, and content of a version of it.

    The version is the one that the content is written for. When the class moves on later, its own
    upcasters lift the content further, and the upcaster that made it stays as it is.
    """

    event: type[Event]
    version: int
    content: dict[str, Any]


Became = dict[str, Any] | Upcast | Iterable[Upcast]
Upcaster = Callable[[dict[str, Any]], Became]


class Step(msgspec.Struct, frozen=True):
    """A registered upcaster, and the classes of other events that its content may become."""

    function: Upcaster
    into: tuple[type[Event], ...]


_STEPS: dict[type, dict[int, Step]] = {}
_SOURCES: dict[type, dict[type, None]] = {}  # class → those whose stored events may become it


def upcaster(
    event: type[Event], *, from_version: int, into: Iterable[type[Event]] = ()
) -> Callable[[Upcaster], Upcaster]:
    """Register a function that turns content of ``from_version`` into the next version's.

    The function gets the content and returns that of the next version. Or it says that the event
    has become others, of the classes named in ``into`` (or of its own), by returning an `Upcast`,
    several, or an empty list for none. Whoever handles one of them reads the older event, too.

    Content is as it is in JSON: keys are text, dates are text, numbers are int or float.

    Raises:
        DeclarationError: that step is registered already, the event has no later version, or
            ``into`` names something that is no event.
    """

    def declare(function: Upcaster) -> Upcaster:
        kind = message_type(event)
        steps = _STEPS.setdefault(event, {})
        if from_version in steps or not 1 <= from_version < kind.version:
            reason = (
                f"@upcaster(from_version={from_version}) is given twice or outside "
                f"1..{kind.version - 1}: raise @wire(version=) or remove one"
            )
            raise DeclarationError(subject=event.__name__, reason=reason)
        targets = tuple(dict.fromkeys(into))
        for target in targets:
            if not (isinstance(target, type) and issubclass(target, Event) and target is not Event):
                reason = f"@upcaster(from_version={from_version}): {target!r} in into= is no event"
                raise DeclarationError(subject=event.__name__, reason=reason)
        steps[from_version] = Step(function, targets)
        for target in targets:
            _SOURCES.setdefault(target, {})[event] = None
        return function

    return declare


def steps_of(event: type[Event]) -> tuple[Upcaster, ...]:
    """Return the upcasters of an event, in order of the versions."""
    return tuple(step.function for _, step in sorted(_STEPS.get(event, {}).items()))


def sources_of(event: type[Event]) -> tuple[type[Event], ...]:
    """Return the other classes whose stored events may become events of a class, at any remove."""
    found: dict[type, None] = {}
    left = [event]
    while left:
        for source in _SOURCES.get(left.pop(), ()):
            if source not in found and source is not event:
                found[source] = None
                left.append(source)
    return tuple(found)


def check_steps(kind: MessageType) -> None:
    """Check that content of every older version of an event can be lifted.

    Raises:
        DeclarationError: an upcaster is missing.
    """
    steps = _STEPS.get(kind.cls, {})
    missing = [version for version in range(1, kind.version) if version not in steps]
    if missing:
        wanted = ", ".join(f"@upcaster({kind.cls.__name__}, from_version={v})" for v in missing)
        raise DeclarationError(
            subject=kind.cls.__name__,
            reason=f"event {kind.name!r} is at version {kind.version}, and what was stored at "
            f"version {', '.join(map(str, missing))} cannot be read: add {wanted}, or import the "
            "module that has it before the event is used",
        )


def lift(kind: MessageType, version: int, data: bytes) -> Iterator[tuple[MessageType, Any]]:
    """Yield what an older event has become: kinds, and content at their current versions.

    Raises:
        EventUnreadable: an upcaster is missing or fails, or a program of a later version has
            stored the event.
        msgspec.DecodeError: it is not JSON.
    """
    return _lifted(kind, version, _decode(data), depth=0)


def encode_content(kind: MessageType, content: Any) -> bytes:
    """Return lifted content in its stored form, to be decoded like that of today.

    Raises:
        EventUnreadable: an upcaster put something into it that cannot be stored.
    """
    try:
        return _encode(content)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"its upcasters made content of it that cannot be stored: {error}"
        raise EventUnreadable(type=kind.name, reason=reason) from error


def _lifted(
    kind: MessageType, version: int, content: Any, *, depth: int
) -> Iterator[tuple[MessageType, Any]]:
    if version > kind.version:
        reason = f"stored at version {version}, this program knows {kind.version}: upgrade"
        raise _unreadable(kind, reason)
    if depth > _DEPTH_MAX:
        raise _unreadable(kind, "its upcasters lead round in a circle")
    steps = _STEPS.get(kind.cls, {})
    while version < kind.version:
        step = steps.get(version)
        if step is None:
            reason = (
                f"stored at version {version}, the class is at {kind.version} and no "
                f"@upcaster(from_version={version}) is registered"
            )
            raise _unreadable(kind, reason)
        became = _step(kind, version, step, content)
        if isinstance(became, _Parts):
            for item in became:
                lifted = message_type(item.event)
                yield from _lifted(lifted, item.version, item.content, depth=depth + 1)
            return
        content, version = became, version + 1
    yield kind, content


class _Parts(tuple[Upcast, ...]):
    """What an event has become, where that is not content of its next version."""

    __slots__ = ()


def _step(kind: MessageType, version: int, step: Step, content: Any) -> Any:
    """Return content of the next version, or the parts that the event has become."""
    try:
        became: Any = step.function(content)
        if isinstance(became, Iterator):
            became = list(became)
    except Exception as error:
        reason = f"its upcaster from version {version} raised {type(error).__name__}: {error}"
        raise _unreadable(kind, reason) from error
    if became is None:
        reason = (
            f"its upcaster from version {version} returned None: return the content, or [] when "
            "the event is to be left out"
        )
        raise _unreadable(kind, reason)
    items = [became] if isinstance(became, Upcast) else became
    if not isinstance(items, (list, tuple)) or not all(isinstance(i, Upcast) for i in items):
        return became  # which is a list when the event is stored as an array
    for item in items:
        onwards = item.event is kind.cls and item.version > version
        if not onwards and item.event not in step.into:
            named = ", ".join(each.__name__ for each in step.into) or "nothing"
            reason = (
                f"its upcaster from version {version} gave {item.event.__name__} at version "
                f"{item.version}, into= names {named}: name it, so that its readers get the older "
                "event, too"
            )
            raise _unreadable(kind, reason)
    return _Parts(items)


def _unreadable(kind: MessageType, reason: str) -> EventUnreadable:
    return EventUnreadable(type=kind.name, reason=reason)


class _Number(float):
    """A number whose float would be written otherwise than it was stored; remembers how."""

    text: str


def _number(text: str) -> float:
    value = float(text)
    if repr(value) == text:
        return value
    exact = _Number(value)
    exact.text = text
    return exact


def _as_stored(value: Any) -> Any:
    if isinstance(value, _Number):
        return msgspec.Raw(value.text.encode())
    msg = f"{value!r}, of type {type(value).__name__}, has no form in JSON"
    raise TypeError(msg)


_decode = msgspec.json.Decoder(float_hook=_number).decode
# Decimals as numbers: the one form that fields of either type take, float and Decimal.
_encode = msgspec.json.Encoder(enc_hook=_as_stored, decimal_format="number").encode
