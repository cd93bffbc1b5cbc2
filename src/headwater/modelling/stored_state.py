"""States as they are stored: which classes can be, and whether a state comes back as it was.

JSON has fewer types than Python. What a class declares is looked through once, when the class is;
what its fields really hold is seen only when a state is stored, and is read back then. A state that
would come back as something else, a base class in place of its subclass, say, is not stored.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import msgspec.inspect as types

from headwater.errors import DeclarationError
from headwater.modelling.comparing import comparers

_TEXTS = (
    *(types.StrType, types.BytesType, types.UUIDType, types.DecimalType, types.DateType),
    *(types.DateTimeType, types.TimeType, types.TimeDeltaType),
)


class NotStorable(ValueError):
    """A state has no stored form, or one that would come back as another state."""


class StateForm:
    """The stored form of the states of one class.

    Attributes:
        decode: returns a state from its stored form.
    """

    def __init__(self, cls: type[msgspec.Struct]) -> None:
        """Take a class whose fields were checked."""
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(cls).decode
        self._encode = msgspec.json.Encoder().encode
        self._same = comparers(cls)
        self._name = cls.__name__

    def encode(self, state: Any) -> bytes:
        """Return the stored form of a state, which was read back and compared.

        Raises:
            NotStorable: it has none; says which field is at fault.
        """
        try:
            data = self._encode(state)
            back = self.decode(data)
        except Exception as error:
            raise NotStorable(f"{self._name} {self._culprit(state)}: {error}") from error
        if difference := self.difference(state, back):
            field, before, after = difference
            msg = f"{self._name}.{field} would come back as {after}, it is {before}"
            raise NotStorable(msg)
        return data

    def difference(self, one: Any, other: Any) -> tuple[str, str, str] | None:
        """Return the first field in which two states differ, and what they have there; or None."""
        for name, same in self._same:
            first, second = getattr(one, name), getattr(other, name)
            if not same(first, second):
                return name, _shown(first), _shown(second)
        return None

    def _culprit(self, state: Any) -> str:
        """Return which field keeps a state from being stored or read, with its value."""
        for field in msgspec.structs.fields(type(state)):
            value = getattr(state, field.name)
            try:
                msgspec.json.decode(self._encode(value), type=field.type)
            except Exception:  # noqa: BLE001  # that is the one, whatever it is
                return f"cannot be stored, because of {field.name} = {_shown(value)}"
        return "cannot be stored"


def check_fields(cls: type[msgspec.Struct], *, remedy: str) -> None:
    """Check that the fields of a class have types that can be stored, as far as that can be seen.

    Raises:
        DeclarationError: one cannot; names it, says why, and the ``remedy`` beside another type.
    """
    for field in msgspec.structs.fields(cls):
        problem = _problem_of(field.type)
        if problem:
            reason = f"field {field.name!r} cannot be stored: {problem}{remedy}"
            raise DeclarationError(subject=cls.__name__, reason=reason)


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001  # nested too deeply, or its class cannot say
        return f"a {type(value).__name__}"


def _problem_of(hint: Any) -> str:
    """Return why values of a type cannot be stored; empty when they can, or it cannot be seen."""
    try:
        msgspec.json.Decoder(hint)
        info = types.type_info(hint)
    except Exception as error:  # noqa: BLE001  # whatever it is, it names the type
        return str(error)
    return next(_problems(info, set()), "")


def _problems(info: types.Type, seen: set[int]) -> Iterator[str]:
    if id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, types.CustomType | types.ExtType):
        yield f"{_name(info)} has no form in JSON: use a type that has one"
    if isinstance(info, types.DictType):
        yield from _key_problems(info.key_type)
    for child in _children(info):
        yield from _problems(child, seen)


def _children(info: Any) -> Iterator[types.Type]:
    for name in ("item_type", "key_type", "value_type", "type"):
        child = getattr(info, name, None)
        if isinstance(child, types.Type):
            yield child
    for name in ("item_types", "types"):
        yield from getattr(info, name, ())
    for field in getattr(info, "fields", ()):
        yield field.type


def _key_problems(key: types.Type) -> Iterator[str]:
    found: set[type] = set()
    for kind in key.types if isinstance(key, types.UnionType) else (key,):
        plain = kind.type if isinstance(kind, types.Metadata) else kind
        if isinstance(plain, types.EnumType):
            found.update(type(member.value) for member in plain.cls)
        elif isinstance(plain, types.LiteralType):
            if len({str(value) for value in plain.values}) < len(plain.values):
                found |= {str, int}
        elif isinstance(plain, (*_TEXTS, types.IntType, types.FloatType)):
            found.add(str if isinstance(plain, _TEXTS) else int)
        elif not isinstance(plain, types.AnyType):
            yield f"a dict has keys of type {_name(plain)}, which JSON cannot have: use text"
    if len(found) > 1:
        yield (
            "a dict has numbers and text as keys, which JSON cannot tell apart: use one of the two"
        )


def _name(info: Any) -> str:
    cls = getattr(info, "cls", None)
    if cls is not None:
        return str(cls.__qualname__)
    return type(info).__name__.removesuffix("Type").removeprefix("Var").lower()
