"""Which views or sagas an event is for: from ``key=`` of a handler to texts."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import Any

import msgspec

from headwater.errors import DeclarationError, InvalidInput
from headwater.messages.hints import Shape, alternatives, fields_of, shape_of
from headwater.messages.text import HAVE_TEXT, Textual, canonical_text, has_text, shown

KeyOf = Callable[[Any], "Textual | Iterable[Textual | None] | None"]
"""A function from an event to a key, to several, or to None for none."""

Keys = Callable[[Any], "str | tuple[str, ...]"]
"""A compiled key: one text, or none or several, each once."""


def key_shape(subject: str, event: type, key: str | KeyOf) -> Shape:
    """Return which keys there will be; of a function nothing is known.

    Raises:
        DeclarationError: the event has no such field, or its values have no canonical text.
    """
    if not isinstance(key, str):
        return Shape(unknown=True)
    hints = _fields(event)
    if key not in hints:
        reason = f"is no field of {event.__name__}, which has {', '.join(hints) or 'none'}"
        raise DeclarationError(subject=subject, reason=f"key={key!r} {reason}")
    shape = shape_of(hints[key])
    if shape.others:
        reason = (
            f"key={key!r} is {hints[key]!r}, and {shape.others[0]!r} has no canonical text: name "
            f"another field of {event.__name__}, or give a function from event to key ({HAVE_TEXT})"
        )
        raise DeclarationError(subject=subject, reason=reason)
    return shape


def keys_of(subject: str, event: type, key: str | KeyOf) -> Keys:
    """Return what gives the keys of an event; ``subject`` names the handler in errors.

    It returns a text for a single value, else a tuple: empty for None; for a list, tuple, set or
    any other series one text for each item that is not None, in their order (of a set: sorted),
    each once. For anything else it raises `DeclarationError`.

    Raises:
        DeclarationError: as for `key_shape`.
    """
    key_shape(subject, event, key)
    get: Callable[[Any], Any] = attrgetter(key) if isinstance(key, str) else key
    if isinstance(key, str):
        kinds = [kind for kind, _ in alternatives(_fields(event)[key])]
        if kinds == [str]:
            return get

    def keys(message: Any) -> str | tuple[str, ...]:
        value = get(message)
        if type(value) is str:
            return value
        try:
            if has_text(value):
                return canonical_text(value)
            found: list[str] = []
            _gather(value, found)
        except InvalidInput as error:
            reason = (
                f"its key of {type(message).__name__} is {shown(value)}, which is none: give a "
                f"value that has a canonical text, several of them, or None ({HAVE_TEXT})"
            )
            raise DeclarationError(subject=subject, reason=reason) from error
        return tuple(dict.fromkeys(found))

    return keys


def _fields(event: Any) -> dict[str, Any]:
    """Return the annotations of an event's fields; `Any`, when they are declared further down."""
    try:
        return fields_of(event) or {}
    except NameError:
        return dict.fromkeys(event.__struct_fields__, Any)


def _gather(value: Any, found: list[str]) -> None:
    if value is None or value is msgspec.UNSET:
        return
    if has_text(value) or isinstance(value, Mapping) or not isinstance(value, Iterable):
        found.append(canonical_text(value))
        return
    inner: list[str] = []
    for item in value:
        _gather(item, inner)
    found.extend(sorted(inner) if isinstance(value, AbstractSet) else inner)
