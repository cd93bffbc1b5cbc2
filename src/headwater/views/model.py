"""View types: keyed documents with declared indexes."""

import enum
import functools
import operator
import types
from collections.abc import Callable
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NewType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from headwater.errors import DeclarationError, StoreError


class Key:
    """Marks the field that identifies a document: ``id: Annotated[str, Key]``."""


class Index:
    """Marks a field to find and order by: ``holder: Annotated[str, Index]``."""


class View(msgspec.Struct):
    """Base of read models: a mutable document with one key and any number of indexes.

    Class option: ``view_name``, what its tables are called (default: the class name).
    """

    view_name: ClassVar[str] = ""


class ViewType(msgspec.Struct, frozen=True):
    """What is known about one view class.

    Attributes:
        cls: the class.
        name: its name in stores.
        key: the name of its key field.
        indexes: the names of its indexed fields, in order of declaration.
        defaults: whether all fields but the key have defaults, so that an event may start one.
        encode, decode: msgspec JSON; decode raises `StoreError` when the document does not fit.
        row: the key as text, then the indexed values (text, number, truth value or None).
    """

    cls: Any
    name: str
    key: str
    indexes: tuple[str, ...]
    defaults: bool
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes | str], Any]
    row: Callable[[Any], tuple[Any, ...]]

    def key_of(self, view: Any) -> str:
        """Return a document's key as text."""
        return str(getattr(view, self.key))


@functools.cache
def view_type(cls: type[View]) -> ViewType:
    """Return the `ViewType` of a view class.

    Raises:
        DeclarationError: not exactly one field is marked `Key`, it is not text or a whole number,
            an indexed field is not text, a number or a truth value (or None), or the names
            cannot be columns side by side.
    """
    hints = get_type_hints(cls, include_extras=True)
    keys = [name for name, hint in hints.items() if _marked(hint, Key)]
    if len(keys) != 1:
        raise DeclarationError(
            subject=cls.__name__,
            reason=f"a view needs one field marked Key, found {keys}: id: Annotated[str, Key]",
        )
    key = keys[0]
    indexes = tuple(n for n, hint in hints.items() if n != key and _marked(hint, Index))
    _check_columns(cls, hints, key, indexes)
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    return ViewType(
        cls=cls,
        name=_name(cls),
        key=key,
        indexes=indexes,
        defaults=all(not field.required for name, field in fields.items() if name != key),
        encode=msgspec.json.Encoder().encode,
        decode=_decoder(cls),
        row=_row(hints, key, indexes),
    )


def _name(cls: type[View]) -> str:
    name: str = cls.__dict__.get("view_name") or cls.__name__
    if not name.isidentifier():  # it becomes part of names in SQL
        raise DeclarationError(
            subject=cls.__name__,
            reason=f"view_name is {name!r}: use letters, digits and _, a letter or _ first",
        )
    return name


def index_kinds(cls: type[View]) -> dict[str, set[type]]:
    """Return by indexed field the classes of its values, those of enumerations taken apart."""
    hints = get_type_hints(cls, include_extras=True)
    found: dict[str, set[type]] = {}
    for name in view_type(cls).indexes:
        kinds = found[name] = set()
        for kind in _kinds(hints[name]):
            if issubclass(kind, enum.Enum):
                kinds.update(type(member.value) for member in kind)
            else:
                kinds.add(kind)
    return found


def plain(value: Any) -> Any:
    """Return the value of an enumeration's member, and any other value as it is."""
    return value.value if isinstance(value, enum.Enum) else value


def _decoder(cls: type[View]) -> Callable[[bytes | str], Any]:
    decode_json = msgspec.json.Decoder(cls).decode

    def decode(document: bytes | str) -> Any:
        try:
            return decode_json(document)
        except msgspec.MsgspecError as error:
            reason = (
                f"a stored document does not fit the class ({error}): give new fields a default, "
                "or rebuild the projection"
            )
            raise StoreError(store=f"views of {cls.__name__}", reason=reason) from error

    return decode


def _row(
    hints: dict[str, Any], key: str, indexes: tuple[str, ...]
) -> Callable[[Any], tuple[Any, ...]]:
    kinds = {name: _kinds(hints[name]) for name in (key, *indexes)}
    if not indexes:
        return lambda view: (str(getattr(view, key)),)
    fetch = operator.attrgetter(key, *indexes)
    if any(issubclass(kind, enum.Enum) for name in indexes for kind in kinds[name]):
        return lambda view: (str(getattr(view, key)), *map(plain, fetch(view)[1:]))
    if kinds[key] == {str}:
        return fetch

    def row(view: Any) -> tuple[Any, ...]:
        first, *rest = fetch(view)
        return (str(first), *rest)

    return row


def _check_columns(cls: type, hints: dict[str, Any], key: str, indexes: tuple[str, ...]) -> None:
    columns = ("document", key, *indexes)
    reason = ""
    if not _kinds(hints[key]) <= {str, int}:
        reason = f"the key {key!r} must be str or int, not {hints[key]}"
    elif len({name.casefold() for name in columns}) < len(columns):
        reason = f"{list(columns[1:])} must differ by more than case, and none be 'document'"
    for name in indexes:
        kinds = _kinds(hints[name])
        if not kinds or not all(issubclass(kind, _INDEXABLE) for kind in kinds):
            reason = f"the index {name!r} must be str, int, float or bool, not {hints[name]}"
    if reason:
        raise DeclarationError(subject=cls.__name__, reason=reason)


_INDEXABLE = (str, int, float, types.NoneType, enum.Enum)


def _kinds(hint: Any) -> set[type]:
    """Return the classes that values of a hint have; `object` for one that cannot be told."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _kinds(get_args(hint)[0])
    if origin is Literal:
        return {type(value) for value in get_args(hint)}
    if origin in (Union, types.UnionType):
        return set().union(*map(_kinds, get_args(hint)))
    if isinstance(hint, NewType):
        return _kinds(hint.__supertype__)
    if isinstance(hint, enum.EnumMeta):
        members: list[Any] = list(hint)
        values: set[type] = {type(member.value) for member in members}
        return {hint} if all(issubclass(v, _INDEXABLE) for v in values) else {object}
    return {hint} if isinstance(hint, type) else {object}


def _marked(hint: Any, mark: type) -> bool:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return any(m is mark or isinstance(m, mark) for m in marks)
