"""The canonical text of a value: what tags and the keys of views and sagas are made of.

Equal values have equal texts, in every process and release, since they are stored and compared.
Different values of one type have different texts.
"""

import base64
import datetime as dt
import enum
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from headwater.errors import InvalidInput

Textual = (
    str
    | int
    | float
    | Decimal
    | enum.Enum
    | uuid.UUID
    | dt.date
    | dt.time
    | dt.timedelta
    | bytes
    | bytearray
)
"""What has a canonical text (`bool` and `datetime` are among them, as subclasses)."""

HAVE_TEXT = (
    "text, numbers, truth values, enumerations, UUIDs, dates, times, durations and bytes have one"
)

_PLACES_MAX = 400  # a number of more places is written with an exponent: all floats have fewer
_WHOLE_MAX = 10**_PLACES_MAX
_WHOLE_MIN = -_WHOLE_MAX


def canonical_text(value: Textual) -> str:
    """Return the text of a value; see `headwater.messages.Tag` for what it looks like.

    Raises:
        InvalidInput: it has none: another type, not a number, infinite, or None.
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[return-value]  # it is a str
    make = _MAKERS.get(kind) or _maker(kind)
    return make(value)


def has_text(value: object) -> bool:
    """Whether a value is of a type that has a canonical text."""
    kind = type(value)
    return (_MAKERS.get(kind) or _maker(kind)) is not _refused


def text_kind(cls: Any) -> str:
    """Return which kind of values (see `TAKES`) a class has; ``""`` when they have no text.

    Only values of one kind can be equal.
    """
    if isinstance(cls, enum.EnumMeta):
        kinds = {text_kind(type(member.value)) for member in cls}  # type: ignore[var-annotated]
        return kinds.pop() if len(kinds) == 1 else ""
    if not isinstance(cls, type):
        return ""
    return next((kind for base, (kind, _) in _BASES.items() if issubclass(cls, base)), "")


def shown(value: object) -> str:
    """Return a value for an error message, cut off when it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _maker(kind: type) -> Callable[[Any], str]:
    """Find out once how values of a class, perhaps a subclass, become text."""
    if issubclass(kind, enum.Enum):
        make: Callable[[Any], str] = _enumerated
    else:
        make = next((m for base, (_, m) in _BASES.items() if issubclass(kind, base)), _refused)
    _MAKERS[kind] = make
    return make


def _refused(value: object) -> str:
    reason = f"{shown(value)} has no canonical text: {HAVE_TEXT}"
    raise InvalidInput(reason=reason)


def _enumerated(value: enum.Enum) -> str:
    return canonical_text(value.value)


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _whole(value: int) -> str:
    if _WHOLE_MIN < value < _WHOLE_MAX:
        return f"{value:d}"
    return _number(Decimal(value))


def _floating(value: float) -> str:
    if value.is_integer():
        return _whole(int(value))
    return _number(Decimal(float.__repr__(value))) if math.isfinite(value) else _refused(value)


def _number(value: Decimal) -> str:
    """Return the digits of a number, without zeros that say nothing, and without an exponent."""
    sign, figures, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return _refused(value)
    digits = "".join(map(str, figures))
    exponent += len(digits)
    digits = digits.rstrip("0")
    exponent -= len(digits)  # of the last digit that is left
    digits = digits.lstrip("0")
    if not digits:
        return "0"
    minus = "-" if sign else ""
    before = len(digits) + exponent  # digits before the point
    if exponent < -_PLACES_MAX or before > _PLACES_MAX:
        return f"{minus}{digits}E{exponent}"
    if exponent >= 0:
        return f"{minus}{digits}{'0' * exponent}"
    if before > 0:
        return f"{minus}{digits[:before]}.{digits[before:]}"
    return f"{minus}0.{'0' * -before}{digits}"


def _instant(value: dt.datetime) -> str:
    if value.utcoffset() is None:
        return dt.datetime.isoformat(value)
    try:
        utc = value.astimezone(dt.UTC)
    except OverflowError:
        return _refused(value)  # before the year 1, or after 9999
    return f"{dt.datetime.isoformat(utc.replace(tzinfo=None))}Z"


def _time(value: dt.time) -> str:
    offset = value.utcoffset()
    if offset is None:
        return dt.time.isoformat(value)
    # Times are equal when they are after their offsets are taken off, which may leave the day.
    of_day = dt.timedelta(
        hours=value.hour,
        minutes=value.minute,
        seconds=value.second,
        microseconds=value.microsecond,
    )
    utc = of_day - offset
    minus, utc = ("-", -utc) if utc < dt.timedelta() else ("", utc)
    whole, micros = divmod(utc // dt.timedelta(microseconds=1), 1_000_000)
    clock = f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{minus}{clock}.{micros:06}Z" if micros else f"{minus}{clock}Z"


def _duration(value: dt.timedelta) -> str:
    micros = value // dt.timedelta(microseconds=1)
    minus = "-" if micros < 0 else ""
    return f"{minus}PT{_number(Decimal((0, tuple(map(int, str(abs(micros)))), -6)))}S"


def _binary(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


_BASES: dict[type, tuple[str, Callable[[Any], str]]] = {  # subclasses before their bases
    str: ("text", str.__str__),
    bool: ("truth value", _truth),
    int: ("number", _whole),
    float: ("number", _floating),
    Decimal: ("number", _number),
    uuid.UUID: ("UUID", uuid.UUID.__str__),
    dt.datetime: ("date and time", _instant),
    dt.date: ("date", dt.date.isoformat),
    dt.time: ("time", _time),
    dt.timedelta: ("duration", _duration),
    bytes: ("bytes", _binary),
    bytearray: ("bytes", _binary),
}
_MAKERS: dict[type, Callable[[Any], str]] = {base: make for base, (_, make) in _BASES.items()}

TAKES: dict[str, type] = {
    kind: Decimal if kind == "number" else base for base, (kind, _) in reversed(_BASES.items())
}
"""The kinds of values that have a text, and a type that takes any value of the kind."""
