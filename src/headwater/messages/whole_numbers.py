"""Whole numbers of messages have at most 64 bits, so that every store and every reader takes them.

A field that is to hold larger ones says so: ``total: BigInt``.
"""

import re
from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import inspect

from headwater.messages.kinds import Kind, bare, flat, is_free, parts_of, reachable

INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_BIG = "headwater.big"
BigInt = Annotated[int, msgspec.Meta(extra_json_schema={"format": "bigint"}, extra={_BIG: True})]
"""A whole number of any size. Other systems may not be able to read it; no index can hold it."""

TOO_LARGE = f"which has more than 64 bits ({INT_MIN} to {INT_MAX}) and is not declared BigInt"

# So many digits in a row are enough for more than 64 bits; a number that is in question has them in
# its JSON, and hardly anything else has, least of all behind what a number is behind in JSON.
DIGITS_ASKED = 19
_RUN = b"0" * DIGITS_ASKED
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))
_NUMBER = re.compile(rb"[:,\[]-?[0-9]{19}").search
_NUMBER_OR_KEY = re.compile(rb'[:,\[{]"?-?[0-9]{19}').search

Within = Callable[[Any, bytes], bool]
"""Whether all whole numbers of a value, whose JSON is given, may be in range; False: look."""


def within(kind: inspect.Type) -> Within | None:
    """Return the quick check for values of a class; None where no number is in question."""
    asked = [one for one in reachable(kind) if _in_question(one)]
    if not asked:
        return None
    structs = [one for each in flat(kind) if isinstance(one := bare(each), inspect.StructType)]
    fields = [f for one in structs for f in one.fields if any(map(_in_question, reachable(f.type)))]
    if 1 <= len(fields) <= 2 and all(map(_is_number, fields)):
        return _of_fields([field.name for field in fields])
    dicts = [one for each in reachable(kind) if isinstance(one := bare(each), inspect.DictType)]
    keys = any(_in_question(key) for one in dicts for key in flat(one.key_type))
    return _of_digits(_NUMBER_OR_KEY if keys else _NUMBER)


def beyond(value: Any, kind: Kind) -> tuple[str, int] | None:
    """Return where in a value there is a whole number out of range, and which, if anywhere."""
    if isinstance(value, int):
        fits = INT_MIN <= value <= INT_MAX or any(map(is_big, kind.types))
        return None if fits else ("", value)
    for part in parts_of(value, kind):
        found = beyond(part.value, part.kind)
        if found is not None:
            return part.step + found[0], found[1]
    return None


def _of_fields(names: list[str]) -> Within:
    first, *others = (attrgetter(name) for name in names)
    if not others:
        return lambda value, _: INT_MIN <= first(value) <= INT_MAX
    second = others[0]
    return lambda value, _: (
        INT_MIN <= first(value) <= INT_MAX and INT_MIN <= second(value) <= INT_MAX
    )


def _of_digits(number: Callable[[bytes], object]) -> Within:
    return lambda _, data: data.translate(_DIGITS).find(_RUN) < 0 or number(data) is None


def _is_number(field: inspect.Field) -> bool:
    """Whether the value is always a whole number."""
    return isinstance(bare(field.type), inspect.IntType) and field.default is not msgspec.UNSET


def _in_question(kind: inspect.Type) -> bool:
    """Whether values of a type, by themselves, may be whole numbers out of range."""
    one = bare(kind)
    if not isinstance(one, inspect.IntType):
        return is_free(kind)
    bounded = (one.ge, one.gt) != (None, None) and (one.le, one.lt) != (None, None)
    return not (bounded or is_big(kind))


def is_big(kind: inspect.Type) -> bool:
    """Whether a type is declared as `BigInt`."""
    return isinstance(kind, inspect.Metadata) and bool((kind.extra or {}).get(_BIG))


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
