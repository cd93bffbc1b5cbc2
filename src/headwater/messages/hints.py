"""Reading annotations: through aliases, unions and generics, down to what a value can be."""

import collections.abc
import dataclasses
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NewType,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec

from headwater.messages.text import text_kind

ABSENT = (type(None), msgspec.UnsetType)
"""The types of values that say that there is none."""


class Shape(msgspec.Struct, frozen=True):
    """What values an annotation allows, None aside.

    Attributes:
        one: kinds of single values (see `text_kind`).
        many: kinds of the items of lists, tuples and sets, at any depth.
        others: what has no text, such as structs and dicts.
        unknown: anything may come, as for `Any`.
    """

    one: frozenset[str] = frozenset()
    many: frozenset[str] = frozenset()
    others: tuple[Any, ...] = ()
    unknown: bool = False


def alternatives(hint: Any, marks: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield what a value of an annotation can be, each with the marks that stand on it.

    That is, look through `Annotated`, unions, optional values, new types and aliases.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        hint, *more = get_args(hint)
        yield from alternatives(hint, (*marks, *more))
    elif origin in (Union, types.UnionType):
        for one in get_args(hint):
            yield from alternatives(one, marks)
    elif isinstance(hint, NewType):
        yield from alternatives(hint.__supertype__, marks)
    elif origin in (Final, Required, NotRequired):
        yield from alternatives(get_args(hint)[0], marks)
    elif isinstance(hint, TypeVar):
        for bound in hint.__constraints__ or (hint.__bound__ or Any,):
            yield from alternatives(bound, marks)
    elif _is_alias(hint):
        yield from alternatives(hint.__value__, marks)
    elif _is_alias(origin):
        bound = dict(zip(origin.__type_params__, get_args(hint), strict=False))
        yield from alternatives(_substituted(origin.__value__, bound), marks)
    else:
        yield hint, marks


def marks_on(hint: Any, kind: type) -> tuple[Any, ...]:
    """Return the marks of a class that stand on an annotation, as instances or as the class."""
    found = (m for _, marks in alternatives(hint) for m in marks)
    return tuple({id(m): m for m in found if m is kind or isinstance(m, kind)}.values())


def classes_of(kind: Any) -> tuple[type, ...]:
    """Return the classes of the values of one of the `alternatives`, as `isinstance` takes them."""
    origin = get_origin(kind) or kind
    if origin is Literal:
        return tuple({type(value): None for value in get_args(kind)})
    if is_typeddict(origin):
        return (dict,)
    return (origin,) if isinstance(origin, type) else (object,)


def kinds_of(kind: Any) -> frozenset[str]:
    """Return the kinds of texts of one of the `alternatives`; none for what has no text."""
    if get_origin(kind) is Literal:
        found = {text_kind(cls) for cls in classes_of(kind) if cls not in ABSENT}
        return frozenset() if "" in found else frozenset(found)
    return frozenset(filter(None, [text_kind(kind)]))


def items_of(kind: Any) -> tuple[Any, ...] | None:
    """Return the annotations of a collection's items; None for what is no list, tuple or set.

    There is one for all items, except for a tuple of a fixed length, which has one for each.
    """
    origin = get_origin(kind) or kind
    if not isinstance(origin, type) or not issubclass(origin, collections.abc.Iterable):
        return None
    if kinds_of(kind) or fields_of(kind) is not None or issubclass(origin, collections.abc.Mapping):
        return None
    args = get_args(kind)
    return tuple(arg for arg in args if arg is not Ellipsis) or (Any,)


def shape_of(hint: Any) -> Shape:
    """Return what values an annotation allows."""
    one: set[str] = set()
    many: set[str] = set()
    others: list[Any] = []
    unknown = False
    for kind, _ in alternatives(hint):
        items = items_of(kind)
        if items is not None:
            for inner in map(shape_of, items):
                many |= inner.one | inner.many
                others += inner.others
                unknown |= inner.unknown
        elif kinds := kinds_of(kind):
            one |= kinds
        elif kind is Any or kind is object:
            unknown = True
        elif kind not in ABSENT:
            others.append(kind)
    return Shape(frozenset(one), frozenset(many), tuple(others), unknown)


def fields_of(kind: Any) -> dict[str, Any] | None:
    """Return the annotations of the fields of a record; None for what is none.

    Records are structs, data classes, attrs classes, named tuples and typed dicts. Parameters of
    generic classes, also of bases, are what they are bound to.
    """
    cls: Any = get_origin(kind) or kind
    names = _field_names(cls)
    if names is None:
        return None
    bound = _bound(kind)
    hints = get_type_hints(cls, include_extras=True)
    owners = {
        name: base
        for base in reversed(getattr(cls, "__mro__", (cls,)))
        for name in inspect.get_annotations(base)
    }
    found = {}
    for name in names:
        parameters = bound.get(owners.get(name), {})
        found[name] = _substituted(hints[name], parameters) if parameters else hints[name]
    return found


def getter_of(kind: Any, field: str) -> Callable[[Any], Any]:
    """Return what gets a field of a record; None for a key that a typed dict lacks."""
    if is_typeddict(get_origin(kind) or kind):
        return lambda value: value.get(field)
    return attrgetter(field)


def _field_names(cls: Any) -> tuple[str, ...] | None:
    if is_typeddict(cls):
        return tuple(cls.__annotations__)
    if not isinstance(cls, type):
        return None
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    if hasattr(cls, "__attrs_attrs__"):
        return tuple(attribute.name for attribute in cls.__attrs_attrs__)
    return getattr(cls, "_fields", None) if issubclass(cls, tuple) else None


def _bound(kind: Any) -> dict[Any, dict[Any, Any]]:
    """Return for a class and each of its bases what their type parameters are bound to."""
    cls = get_origin(kind) or kind
    found = {cls: dict(zip(getattr(cls, "__parameters__", ()), get_args(kind), strict=False))}
    for base in getattr(cls, "__dict__", {}).get("__orig_bases__", ()):
        if isinstance(get_origin(base), type) and get_origin(base) is not Generic:
            found |= _bound(_substituted(base, found[cls]))
    for base in getattr(cls, "__bases__", ()):
        if base not in found:
            found |= _bound(base)
    return found


def _substituted(hint: Any, bound: Mapping[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return bound.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if isinstance(hint, type) or not parameters:  # a generic class by itself is not subscribed
        return hint
    return hint[tuple(bound.get(parameter, parameter) for parameter in parameters)]


def _is_alias(hint: Any) -> bool:
    return type(hint).__name__ == "TypeAliasType"  # of `typing` from Python 3.12 on
