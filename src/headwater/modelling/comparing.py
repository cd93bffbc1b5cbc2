"""Comparing values of declared types: as they were before they were stored, and as they come back.

A value of a declared type is compared by what it is; where anything may be (`Any`), by its type,
too, throughout. A container must come back as the very same kind, since a subclass (a
``defaultdict``) does more than its base; where an abstract one is declared (``Sequence``), as any
of that kind.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect as types

Same = Callable[[Any, Any], bool]

_LEAVES = (
    *(types.NoneType, types.BoolType, types.IntType, types.FloatType, types.StrType),
    *(types.BytesType, types.ByteArrayType, types.MemoryViewType, types.UUIDType),
    *(types.DecimalType, types.DateType, types.DateTimeType, types.TimeType, types.TimeDeltaType),
    *(types.EnumType, types.LiteralType),
)


def comparers(cls: type[msgspec.Struct]) -> list[tuple[str, Same]]:
    """Return the names of the fields of a class, each with what compares two values of it."""
    return _Comparing().of_fields(types.type_info(cls))


class _Comparing:
    """Makes comparers, one for each declared type."""

    def __init__(self) -> None:
        self._made: dict[int, list[tuple[str, Same]]] = {}
        self._looked_at: list[types.Type] = []  # so that no other gets the id of one of them

    def of_fields(self, info: Any) -> list[tuple[str, Same]]:
        """Return the fields of a class with what compares them."""
        made = self._made.get(id(info))
        if made is None:
            made = self._made[id(info)] = []  # before its fields, among which it may be
            self._looked_at.append(info)
            hints = get_type_hints(get_origin(info.cls) or info.cls)
            for field in info.fields:
                loose = _abstract(hints.get(field.name))
                made.append((field.name, self._of(field.type, loose=loose)))
        return made

    def _of(self, info: Any, *, loose: bool) -> Same:
        if isinstance(info, types.Metadata):
            return self._of(info.type, loose=loose)
        if isinstance(info, _LEAVES):
            return _equal
        if isinstance(info, types.StructType | types.DataclassType | types.NamedTupleType):
            return _fields(get_origin(info.cls) or info.cls, self.of_fields(info))
        if isinstance(info, types.TypedDictType):
            return _keys(dict(self.of_fields(info)))
        if isinstance(info, types.UnionType):
            return _any_of([self._of(each, loose=loose) for each in info.types])
        return self._of_container(info, loose=loose)

    def _of_container(self, info: Any, *, loose: bool) -> Same:
        def of(inner: Any) -> Same:
            return self._of(inner, loose=loose)

        if isinstance(info, types.DictType):
            return _mapping(of(info.key_type), of(info.value_type))
        if isinstance(info, types.TupleType):
            return _each([of(item) for item in info.item_types])
        if isinstance(info, types.ListType | types.VarTupleType):
            declared: type = list if isinstance(info, types.ListType) else tuple
            return _items(of(info.item_type), (list, tuple) if loose else (declared,))
        if isinstance(info, types.SetType | types.FrozenSetType):
            declared = set if isinstance(info, types.SetType) else frozenset
            return _elements(of(info.item_type), (set, frozenset) if loose else (declared,))
        return _alike


def _abstract(hint: Any) -> bool:
    """Whether a type has an abstract collection in it, such as ``Sequence[int]``."""
    origin = get_origin(hint) or hint
    if isinstance(origin, type) and origin.__module__ == "collections.abc":
        return issubclass(origin, Collection) and not issubclass(origin, Mapping)
    return any(_abstract(each) for each in get_args(hint))


def _equal(before: Any, after: Any) -> bool:
    return bool(before == after)


def _any_of(branches: list[Same]) -> Same:
    """Return what compares values of a union; each branch says no to values that are not its."""
    if all(branch is _equal for branch in branches):
        return _equal
    each = [_plain if branch is _equal else branch for branch in branches]
    return lambda before, after: any(branch(before, after) for branch in each)


def _plain(before: Any, after: Any) -> bool:
    return not isinstance(before, (dict, list, tuple, set, frozenset)) and bool(before == after)


def _fields(cls: type, fields: list[tuple[str, Same]]) -> Same:
    def same(before: Any, after: Any) -> bool:
        return (
            type(before) is cls
            and type(after) is cls
            and all(compare(getattr(before, n), getattr(after, n)) for n, compare in fields)
        )

    return same


def _keys(fields: dict[str, Same]) -> Same:
    def same(before: Any, after: Any) -> bool:
        return (
            type(before) is dict
            and before.keys() == after.keys()
            and all(fields[name](before[name], after[name]) for name in before)
        )

    return same


def _each(items: list[Same]) -> Same:
    def same(before: Any, after: Any) -> bool:
        return (
            type(before) is tuple
            and len(before) == len(items)
            and all(compare(a, b) for compare, a, b in zip(items, before, after, strict=True))
        )

    return same


def _items(item: Same, kinds: tuple[type, ...]) -> Same:
    def same(before: Any, after: Any) -> bool:
        if type(before) not in kinds:
            return False
        if item is _equal and type(before) is type(after):
            return bool(before == after)
        return len(before) == len(after) and all(map(item, before, after))

    return same


def _elements(item: Same, kinds: tuple[type, ...]) -> Same:
    def same(before: Any, after: Any) -> bool:
        return (
            type(before) in kinds
            and before == after
            and (item is not _alike or set(map(type, before)) == set(map(type, after)))
        )

    return same


def _mapping(key: Same, value: Same) -> Same:
    def same(before: Any, after: Any) -> bool:
        if type(before) is not dict:
            return False
        if key is value is _equal:
            return bool(before == after)
        return len(before) == len(after) and all(
            key(a, b) and value(before[a], after[b]) for a, b in zip(before, after, strict=True)
        )

    return same


def _alike(before: Any, after: Any) -> bool:
    """Whether two values are the same in type and content, throughout."""
    if type(before) is not type(after):
        return False
    if isinstance(before, dict):
        return _mapping(_alike, _alike)(before, after)
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(_alike, before, after))
    if isinstance(before, set | frozenset):
        return _elements(_alike, (type(before),))(before, after)
    if isinstance(before, msgspec.Raw):
        return bytes(before) == bytes(after)
    return bool(before == after)
