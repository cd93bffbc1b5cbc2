"""Values beside the types that are declared for them: what a value is made of, part by part.

For the rare moment when something is wrong with a value and it has to be said where. A path is
written as ``items[1].sku``; names are those of the stored form.
"""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import msgspec
from msgspec import inspect

Kinds = tuple[inspect.Type, ...]
"""The types that are declared for a value, a union taken apart; none: they are not known."""

ANYTHING: Kinds = (inspect.AnyType(),)
KEY = " key"
"""How the step to a key of a mapping begins; no other does."""
_RECORDS = (inspect.StructType, inspect.DataclassType)
_DICTS = (inspect.DictType, inspect.FrozenDictType)


class Part(NamedTuple):
    """A part of a value: what is to be added to the path, the part, and its declared types."""

    step: str
    value: Any
    kinds: Kinds


@functools.cache
def kinds_of(cls: Any) -> Kinds:
    """Return what is declared with a class, or another type."""
    return flat(inspect.type_info(cls))


def flat(kind: inspect.Type) -> Kinds:
    """Return a type as the members of its union, what is said beside them (`Meta`) kept."""
    inner = kind.type if isinstance(kind, inspect.Metadata) else kind
    if isinstance(inner, inspect.UnionType):
        return tuple(one for member in inner.types for one in flat(member))
    return (kind,)


def is_open(kinds: Kinds) -> bool:
    """Whether any value may stand there, as for `Any`: it comes back as what JSON makes of it."""
    free = (inspect.AnyType, inspect.RawType, inspect.CustomType)
    return any(isinstance(bare(kind), free) for kind in kinds)


def bare(kind: inspect.Type) -> inspect.Type:
    """Return a type without what is said beside it."""
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def class_of(kind: inspect.StructType | inspect.DataclassType) -> type:
    """Return the class of a record, also of a generic one."""
    cls: type = getattr(kind.cls, "__origin__", kind.cls)
    return cls


def reachable(kinds: Kinds) -> Iterator[inspect.Type]:
    """Yield types and all that they are made of, each once, unions taken apart."""
    seen: set[int] = set()
    left = list(kinds)
    while left:
        kind = left.pop()
        if id(kind) in seen:  # a type may contain itself
            continue
        seen.add(id(kind))
        yield kind
        left += [each for inner in _inside(bare(kind)) for each in flat(inner)]


def is_record(value: Any) -> bool:
    """Whether a value has named fields of a class: a struct, or a data class."""
    return isinstance(value, msgspec.Struct) or _is_dataclass(value)


def is_collection(value: Any) -> TypeGuard[Collection[Any]]:
    """Whether a value is a list or the like, of other values."""
    return isinstance(value, list | tuple | set | frozenset)


def parts_of(value: Any, kinds: Kinds) -> Iterator[Part]:
    """Yield the parts of a value, in order; keys of a mapping are parts, each before its value."""
    if is_record(value):
        for name, stored, of_field in _fields(value, kinds):
            yield Part(f".{stored}", getattr(value, name), of_field)
    elif isinstance(value, Mapping):
        yield from _entries(value, kinds)
    elif is_collection(value):
        yield from _items(value, kinds)


def joined(path: str, step: str) -> str:
    """Return a path that goes on with a step."""
    return (path + step).removeprefix(".").lstrip()


def _inside(kind: inspect.Type) -> Iterator[inspect.Type]:
    for value in (getattr(kind, name) for name in kind.__struct_fields__):
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, inspect.Field):
                yield each.type
            elif isinstance(each, inspect.Type):
                yield each


def _entries(value: Mapping[Any, Any], kinds: Kinds) -> Iterator[Part]:
    fields = {f.encode_name: f.type for kind in kinds for f in _fields_of(kind, dict)}
    dicts = [one for kind in kinds if isinstance(one := bare(kind), _DICTS)]
    keys = tuple(one for kind in dicts for one in flat(kind.key_type))
    values = tuple(one for kind in dicts for one in flat(kind.value_type))
    for key, item in value.items():
        of_key = _otherwise(keys, kinds)
        of_value = flat(fields[key]) if key in fields else _otherwise(values, kinds)
        yield Part(f"{KEY} {key!r}", key, of_key)
        yield Part(f"[{key!r}]", item, of_value)


def _items(value: Collection[Any], kinds: Kinds) -> Iterator[Part]:
    common = tuple(
        one
        for kind in kinds
        if isinstance(each := bare(kind), inspect.CollectionType)
        for one in flat(each.item_type)
    )
    for n, item in enumerate(value):
        placed = tuple(
            one
            for kind in kinds
            for types in (_placed(kind),)
            if n < len(types)
            for one in flat(types[n])
        )
        yield Part(f"[{n}]", item, _otherwise(common + placed, kinds))


def _placed(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """Return the types of a tuple of fixed length, by their places."""
    one = bare(kind)
    if isinstance(one, inspect.NamedTupleType):
        return tuple(field.type for field in one.fields)
    return one.item_types if isinstance(one, inspect.TupleType) else ()


def _otherwise(found: Kinds, kinds: Kinds) -> Kinds:
    return found or (ANYTHING if is_open(kinds) else ())


def _fields(value: Any, kinds: Kinds) -> Iterator[tuple[str, str, Kinds]]:
    declared = [field for kind in kinds for field in _fields_of(kind, type(value))]
    if declared:
        for field in declared:
            yield field.name, field.encode_name, flat(field.type)
    elif isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        yield from ((name, stored, ANYTHING) for name, stored in names)
    else:
        names_only = getattr(value, "__dataclass_fields__", None) or [
            field.name for field in value.__attrs_attrs__
        ]
        yield from ((name, name, ANYTHING) for name in names_only)


def _fields_of(kind: inspect.Type, cls: type) -> tuple[inspect.Field, ...]:
    """Return the fields that a kind declares for values of a class, if it is one of them."""
    one = bare(kind)
    if cls is dict:
        return one.fields if isinstance(one, inspect.TypedDictType) else ()
    if not isinstance(one, _RECORDS):
        return ()
    return one.fields if class_of(one) is cls else ()


def _is_dataclass(value: Any) -> bool:
    cls = type(value)
    return dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__")


__all__ = [
    "ANYTHING",
    "KEY",
    "Kinds",
    "Part",
    "bare",
    "class_of",
    "flat",
    "is_collection",
    "is_open",
    "is_record",
    "joined",
    "kinds_of",
    "parts_of",
    "reachable",
]
