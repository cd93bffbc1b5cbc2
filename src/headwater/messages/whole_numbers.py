"""Whole numbers of messages have at most 64 bits, so that every store and every reader takes them.

A field that is to hold larger ones says so: ``total: BigInt``.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import inspect

from headwater.messages.kinds import Kinds, bare, flat, is_open, joined, parts_of, reachable

INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_BIG = "headwater.big"
BigInt = Annotated[int, msgspec.Meta(extra_json_schema={"format": "bigint"}, extra={_BIG: True})]
"""A whole number of any size. Other systems may not be able to read it; no index can hold it."""

TOO_LARGE = f"which has more than 64 bits ({INT_MIN} to {INT_MAX}) and is not declared BigInt"

# So many digits in a row are enough for more than 64 bits; a number that is in question has them in
# its JSON, and hardly anything else has.
DIGITS_ASKED = 19
_RUN = b"0" * DIGITS_ASKED
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))

Within = Callable[[Any, bytes], bool]
"""Whether all whole numbers of a value, whose JSON is given, may be in range; False: look."""


def within(kinds: Kinds) -> Within | None:
    """Return the quick check for values of a class; None where no number is in question."""
    if not _may_exceed(kinds):
        return None
    structs = [one for kind in kinds if isinstance(one := bare(kind), inspect.StructType)]
    asked = [f for one in structs for f in one.fields if _may_exceed(flat(f.type))]
    if 1 <= len(asked) <= 2 and all(map(_is_number, asked)):
        return _of_fields([field.name for field in asked])
    return _of_digits


def beyond(value: Any, kinds: Kinds, path: str = "") -> tuple[str, int] | None:
    """Return where in a value there is a whole number out of range, and which, if anywhere."""
    if isinstance(value, int):
        fits = INT_MIN <= value <= INT_MAX or any(map(is_big, kinds))
        return None if fits else (path, value)
    found = (beyond(p.value, p.kinds, joined(path, p.step)) for p in parts_of(value, kinds))
    return next(filter(None, found), None)


def _of_fields(names: list[str]) -> Within:
    first, *others = (attrgetter(name) for name in names)
    if not others:
        return lambda value, _: INT_MIN <= first(value) <= INT_MAX
    second = others[0]
    return lambda value, _: (
        INT_MIN <= first(value) <= INT_MAX and INT_MIN <= second(value) <= INT_MAX
    )


def _of_digits(_: Any, data: bytes) -> bool:
    return data.translate(_DIGITS).find(_RUN) < 0


def _is_number(field: inspect.Field) -> bool:
    """Whether the value is always a whole number."""
    return isinstance(bare(field.type), inspect.IntType) and field.default is not msgspec.UNSET


def is_big(kind: inspect.Type) -> bool:
    """Whether a type is declared as `BigInt`."""
    return isinstance(kind, inspect.Metadata) and bool((kind.extra or {}).get(_BIG))


def _may_exceed(kinds: Kinds) -> bool:
    """Whether a value of a type can hold a whole number that is in question."""
    return any(is_open((kind,)) or _is_unbounded(kind) for kind in reachable(kinds))


def _is_unbounded(kind: inspect.Type) -> bool:
    one = bare(kind)
    if not isinstance(one, inspect.IntType) or is_big(kind):
        return False
    return (one.ge, one.gt) == (None, None) or (one.le, one.lt) == (None, None)


__all__ = [
    "DIGITS_ASKED",
    "INT_MAX",
    "INT_MIN",
    "TOO_LARGE",
    "BigInt",
    "Within",
    "beyond",
    "is_big",
    "within",
]
