"""What an index holds: values of one type, in a plain form whose order is that of the values.

The plain form is text, a number or a truth value. Every store compares it in the same way: numbers
by value (False is 0, True is 1), text by code points, None before all else. So one of another type
is a text or a number that stands in the order of what it is of: a time by its instant, a decimal
by its value.
"""

import datetime as dt
import enum
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import msgspec

from headwater.messages.hints import alternatives
from headwater.messages.whole_numbers import INT_MAX, INT_MIN

DIGITS_MAX = 500
"""How many digits an indexed decimal has at most, and how far they are from its point."""

_MICROSECOND = dt.timedelta(microseconds=1)
_OFFSET = 5000  # makes the exponent of a decimal a number of four digits
_COMPLEMENT = str.maketrans("0123456789", "9876543210")
_DECIMAL = re.compile(r"1|2(\d{4})(\d+)|0(\d{4})(\d+)~")


class Unfit(ValueError):
    """A value cannot stand in an index; the text says why, within a longer sentence."""


class Scalar(msgspec.Struct, frozen=True):
    """The type of an index.

    Attributes:
        name: what it is.
        told: the same for a person, with an article.
        types: of which classes a value may be that a query compares it with.
        others: classes derived from these whose values are something else.
        plain: returns the plain form of a value, or raises `Unfit`; None: values are plain.
    """

    name: str
    told: str
    types: tuple[type, ...]
    plain: Callable[[Any], Any] | None = None
    others: tuple[type, ...] = ()


def instant_text(value: dt.datetime) -> str:
    """Return a time in UTC, in one length, so that text is in the order of the instants."""
    if value.tzinfo is None:
        reason = "which has no time zone, and an index is in the order of instants"
        raise Unfit(reason)
    try:
        moved = value.astimezone(dt.UTC)
    except OverflowError:
        reason = "which in UTC is outside of the years 1 to 9999"
        raise Unfit(reason) from None
    return moved.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def decimal_text(value: Decimal | int) -> str:
    """Return text that is in the order of decimals: 0 negative, 1 zero, 2 positive.

    Then, of 0.ddd times ten to the power of e: e, and the digits without zeros at their end. Of
    negative ones each digit is complemented, and the end stands behind all digits.
    """
    sign, digits, exponent = Decimal(value).as_tuple()
    if not isinstance(exponent, int):
        reason = "which is no number that has a place in an order"
        raise Unfit(reason)
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return "1"
    power = len(text) + exponent
    text = text.rstrip("0")
    if len(text) > DIGITS_MAX or abs(power) > DIGITS_MAX:
        reason = f"and an index takes {DIGITS_MAX} digits, as many places from the point"
        raise Unfit(reason)
    whole = f"{power + _OFFSET:04}{text}"
    return f"0{whole.translate(_COMPLEMENT)}~" if sign else f"2{whole}"


def decimal_of(text: str) -> Decimal:
    """Return the decimal that `decimal_text` has made this of, but for zeros at its end.

    Raises:
        ValueError: it has made this of none.
    """
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise ValueError(text)
    if text == "1":
        return Decimal(0)
    power, digits = found[1] or found[3], found[2] or found[4]
    if found[3]:
        power, digits = power.translate(_COMPLEMENT), digits.translate(_COMPLEMENT)
    return Decimal(
        (int(bool(found[3])), tuple(map(int, digits)), int(power) - _OFFSET - len(digits))
    )


def microseconds_of(value: dt.timedelta) -> int:
    """Return a duration in microseconds."""
    found = value // _MICROSECOND
    if not INT_MIN <= found <= INT_MAX:
        reason = "which has more than 64 bits of microseconds"
        raise Unfit(reason)
    return found


_NUMBERS = (int, float)
_SCALARS: dict[type, Scalar] = {
    str: Scalar("text", "text", (str,)),
    int: Scalar("whole", "a whole number", _NUMBERS),
    float: Scalar("real", "a number", _NUMBERS),
    bool: Scalar("truth", "a truth value", _NUMBERS),
    dt.date: Scalar("date", "a date", (dt.date,), dt.date.isoformat, (dt.datetime,)),
    dt.datetime: Scalar("datetime", "a datetime", (dt.datetime,), instant_text),
    dt.timedelta: Scalar("duration", "a timedelta", (dt.timedelta,), microseconds_of),
    Decimal: Scalar("decimal", "a Decimal", (Decimal, int), decimal_text),
    uuid.UUID: Scalar("uuid", "a UUID", (uuid.UUID,), str),
}
TOLD = "str, int, float, bool, date, datetime, timedelta, Decimal, UUID or an Enum"


def scalar_of(hint: Any) -> Scalar | None:
    """Return the type of an index of an annotation; None if there is none, or are several."""
    kinds = classes_of(hint) - {NoneType}
    if len(kinds) != 1:
        return None
    (kind,) = kinds
    exact = (one for one in kind.__mro__ if one in _SCALARS)
    found = next(exact, None)
    return None if found is None else _SCALARS[found]


def classes_of(hint: Any) -> set[type]:
    """Return the classes that stored values of a hint have; `object` for what cannot be told."""
    return set().union(*(_classes(kind) for kind, _ in alternatives(hint)))


def _classes(kind: Any) -> set[type]:
    if get_origin(kind) is Literal:
        return {type(value) for value in get_args(kind)}
    if isinstance(kind, enum.EnumMeta):
        members: list[Any] = list(kind)
        return {type(member.value) for member in members}
    return {kind} if isinstance(kind, type) else {object}
