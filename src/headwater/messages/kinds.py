"""Values beside the types that are declared for them: what a value is made of, part by part.

For the moment when something is wrong with a value and it has to be said where, and for looking
at the parts of values that are not equal as a whole. Types are compiled into `Kind` once.
"""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import msgspec
from msgspec import inspect

Field = tuple[str, str, "Kind"]
"""The name of a field, its name in the stored form, and what is declared for it."""

_FREE = (inspect.AnyType, inspect.RawType, inspect.CustomType)
_RECORDS = (inspect.StructType, inspect.DataclassType)
_DICTS = (inspect.DictType, inspect.FrozenDictType)


class Kind:
    """What is declared for a value; for a union, by all its members together.

    Attributes:
        is_open: any value may stand there, as for `Any`: it comes back as what JSON makes of it.
        types: the members, with what is said beside them (`Meta`).
    """

    __slots__ = ("_entries", "_fields", "_items", "_known", "is_open", "types")

    def __init__(self, kind: inspect.Type, known: dict[int, "Kind"]) -> None:
        """Take a type apart; ``known`` are the kinds of all types of one compilation."""
        known[id(kind)] = self  # it may contain itself
        self._known = known
        self.types = flat(kind)
        self.is_open = any(isinstance(bare(one), _FREE) for one in self.types)
        self._fields: dict[type, tuple[Field, ...]] = {}
        self._entries: tuple[Kind, Kind, dict[str, Kind]] | None = None
        self._items: tuple[Kind, tuple[Kind, ...]] | None = None

    def fields(self, cls: type) -> tuple[Field, ...]:
        """Return the fields of a record of a class."""
        found = self._fields.get(cls)
        if found is None:
            found = self._fields[cls] = self._fields_of(cls)
        return found

    def entries(self) -> tuple["Kind", "Kind", dict[str, "Kind"]]:
        """Return the kinds of a mapping's keys and values, and of values with keys of their own."""
        if self._entries is None:
            dicts = [one for each in self.types if isinstance(one := bare(each), _DICTS)]
            typed = [
                one for each in self.types if isinstance(one := bare(each), inspect.TypedDictType)
            ]
            named = {f.encode_name: self._kind(f.type) for one in typed for f in one.fields}
            keys = self._either([one.key_type for one in dicts])
            values = self._either([one.value_type for one in dicts])
            self._entries = (keys, values, named)
        return self._entries

    def item(self, place: int) -> "Kind":
        """Return the kind of an item of a collection."""
        if self._items is None:
            collections = [
                one.item_type
                for each in self.types
                if isinstance(one := bare(each), inspect.CollectionType)
            ]
            placed = [types for each in self.types if (types := _placed(bare(each)))]
            self._items = (
                self._either(collections),
                tuple(self._kind(kind) for kind in (placed[0] if placed else ())),
            )
        common, placed_kinds = self._items
        return placed_kinds[place] if place < len(placed_kinds) else common

    def _fields_of(self, cls: type) -> tuple[Field, ...]:
        for each in self.types:
            one = bare(each)
            if isinstance(one, _RECORDS) and class_of(one) is cls:
                return tuple((f.name, f.encode_name, self._kind(f.type)) for f in one.fields)
        return tuple((name, stored, ANYTHING) for name, stored in _names_of(cls))

    def _kind(self, kind: inspect.Type) -> "Kind":
        return self._known.get(id(kind)) or Kind(kind, self._known)

    def _either(self, kinds: list[inspect.Type]) -> "Kind":
        if not kinds:
            return ANYTHING if self.is_open else NOTHING
        return self._kind(kinds[0])  # a union has one type of each shape


class Part(NamedTuple):
    """A part of a value: how to say where it is, the part, and what is declared for it."""

    step: str
    value: Any
    kind: Kind


KEY = " key"
"""How the step to a key of a mapping begins; no other does."""


@functools.cache
def kind_of(cls: Any) -> Kind:
    """Return what is declared with a class, or another type."""
    return Kind(inspect.type_info(cls), {})


def flat(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """Return a type as the members of its union, what is said beside them (`Meta`) kept."""
    inner = bare(kind)
    if isinstance(inner, inspect.UnionType):
        return tuple(one for member in inner.types for one in flat(member))
    return (kind,)


def bare(kind: inspect.Type) -> inspect.Type:
    """Return a type without what is said beside it."""
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def class_of(kind: inspect.StructType | inspect.DataclassType) -> type:
    """Return the class of a record, also of a generic one."""
    cls: type = getattr(kind.cls, "__origin__", kind.cls)
    return cls


def reachable(*kinds: inspect.Type) -> Iterator[inspect.Type]:
    """Yield types and all that they are made of, each once, unions taken apart."""
    seen: set[int] = set()
    left = [one for kind in kinds for one in flat(kind)]
    while left:
        kind = left.pop()
        if id(kind) in seen:  # a type may contain itself
            continue
        seen.add(id(kind))
        yield kind
        left += [each for inner in _inside(bare(kind)) for each in flat(inner)]


def is_free(kind: inspect.Type) -> bool:
    """Whether any value may stand there."""
    return isinstance(bare(kind), _FREE)


def is_record(value: Any) -> bool:
    """Whether a value has named fields of a class: a struct, or a data class."""
    return isinstance(value, msgspec.Struct) or _is_dataclass(type(value))


def is_collection(value: Any) -> TypeGuard[Collection[Any]]:
    """Whether a value is a list or the like, of other values."""
    return isinstance(value, list | tuple | set | frozenset)


def parts_of(value: Any, kind: Kind) -> Iterator[Part]:
    """Yield the parts of a value, in order; keys of a mapping are parts, each before its value."""
    if is_record(value):
        for name, stored, of_field in kind.fields(type(value)):
            yield Part(f".{stored}", getattr(value, name), of_field)
    elif isinstance(value, Mapping):
        of_key, of_value, named = kind.entries()
        for key, item in value.items():
            yield Part(f"{KEY} {key!r}", key, of_key)
            yield Part(f"[{key!r}]", item, named.get(key, of_value))
    elif is_collection(value):
        for place, item in enumerate(value):
            yield Part(f"[{place}]", item, kind.item(place))


def _inside(kind: inspect.Type) -> Iterator[inspect.Type]:
    for value in (getattr(kind, name) for name in kind.__struct_fields__):
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, inspect.Field):
                yield each.type
            elif isinstance(each, inspect.Type):
                yield each


def _placed(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """Return the types of a tuple of fixed length, by their places."""
    if isinstance(kind, inspect.NamedTupleType):
        return tuple(field.type for field in kind.fields)
    return kind.item_types if isinstance(kind, inspect.TupleType) else ()


def _names_of(cls: Any) -> Iterator[tuple[str, str]]:
    """Yield the fields of a record of which nothing is declared."""
    if issubclass(cls, msgspec.Struct):
        yield from zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)
    elif dataclasses.is_dataclass(cls):
        yield from ((field.name, field.name) for field in dataclasses.fields(cls))
    else:
        yield from ((field.name, field.name) for field in cls.__attrs_attrs__)


def _is_dataclass(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__")


ANYTHING = Kind(inspect.AnyType(), {})
"""Declared is `Any`, or nothing."""
NOTHING = Kind(inspect.NoneType(), {})
"""For parts that no declared type has."""

__all__ = [
    "ANYTHING",
    "KEY",
    "Kind",
    "Part",
    "bare",
    "class_of",
    "flat",
    "is_collection",
    "is_free",
    "is_record",
    "kind_of",
    "parts_of",
    "reachable",
]
