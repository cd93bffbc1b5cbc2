"""What `ViewStore.find` means: the checked query, its order and its cursor, for every backend.

Values are in their plain form (see `scalars`). Their order is SQLite's and is part of the contract:
None, then numbers (False is 0, True is 1), then text by code points (which is the byte order of
UTF-8). Values of one index are of one kind, but for None.
"""

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec

from headwater.errors import InvalidInput
from headwater.messages import canonical_text
from headwater.messages.characters import check_text
from headwater.messages.whole_numbers import INT_MAX, INT_MIN
from headwater.views.conditions import AnyOf, In, Prefix, Range, Where
from headwater.views.model import View, ViewType, plain, view_type
from headwater.views.scalars import Unfit
from headwater.views.words import Word, asked

LIMIT_MAX = 10_000
VALUES_MAX = 1000
ALTERNATIVES_MAX = 50


class Asked(TypedDict, total=False):
    """What `ViewStore.find` takes; see there."""

    where: Where | None
    matching: str
    order_by: str
    descending: bool
    limit: int
    cursor: str
    include_total: bool


class Between(msgspec.Struct, frozen=True):
    """A value that is not None, within bounds; None for open.

    Attributes:
        field: whose it is.
        least: inclusive.
        most: inclusive.
        below: exclusive.
    """

    field: str
    least: Any = None
    most: Any = None
    below: Any = None


class Conditions(msgspec.Struct, frozen=True):
    """What must hold, all of it: ``equal`` are fields and the values of which each has one."""

    equal: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    between: tuple[Between, ...] = ()


class Selection(msgspec.Struct, frozen=True):
    """A checked query.

    Attributes:
        kind: the view type.
        alternatives: of these one must hold.
        words: those that the full text must have.
        order_by: the field to order by; ties are in order of the key.
        descending: whether the whole order, ties included, is reversed.
        limit: how many at most.
        total: whether all are to be counted.
        after: the order value and the key of the last document of the page before.
        fingerprint: identifies the query in its cursors.
    """

    kind: ViewType
    alternatives: tuple[Conditions, ...]
    words: tuple[Word, ...]
    order_by: str
    descending: bool
    limit: int
    total: bool
    after: tuple[Any, str] | None
    fingerprint: int


class _Cursor(msgspec.Struct, array_like=True):
    fingerprint: int
    value: str | int | float | bool | None
    key: str


_encode = msgspec.msgpack.Encoder().encode  # and not JSON, which has no infinity
_decode = msgspec.msgpack.Decoder(_Cursor).decode


def select(
    view: type[View],
    *,
    where: Where | None = None,
    matching: str = "",
    order_by: str = "",
    descending: bool = False,
    limit: int = 100,
    cursor: str = "",
    include_total: bool = False,
) -> Selection:
    """Return the checked query.

    Raises:
        InvalidInput: see `ViewStore.find`.
    """
    kind = view_type(view)
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidInput(reason=f"limit is {limit}: choose 1 to {LIMIT_MAX}")
    order_by = order_by or kind.key
    _check_field(kind, order_by)
    alternatives = _alternatives(kind, where)
    words = _words(kind, matching) if matching else ()
    shape = [kind.name, alternatives, words, order_by, descending]
    fingerprint = zlib.crc32(repr(shape).encode("utf-8", "surrogatepass"))
    return Selection(
        kind=kind,
        alternatives=alternatives,
        words=words,
        order_by=order_by,
        descending=descending,
        limit=limit,
        total=include_total,
        after=_after(cursor, fingerprint) if cursor else None,
        fingerprint=fingerprint,
    )


def cursor_after(selection: Selection, value: Any, key: str) -> str:
    """Return the cursor of the page that follows the document with this order value and key."""
    raw = _encode(_Cursor(selection.fingerprint, value, key))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def order_key(value: Any) -> tuple[int, Any]:
    """Return what to sort a value by."""
    if value is None:
        return (0, 0)
    return (2, value) if isinstance(value, str) else (1, value)


def _alternatives(kind: ViewType, where: Where | None) -> tuple[Conditions, ...]:
    if not isinstance(where, AnyOf):
        return (_conditions(kind, where or {}),)
    if len(where.alternatives) > ALTERNATIVES_MAX:
        reason = f"AnyOf has {len(where.alternatives)} sets: give at most {ALTERNATIVES_MAX}"
        raise InvalidInput(reason=reason)
    return tuple(_conditions(kind, one) for one in where.alternatives)


def _conditions(kind: ViewType, where: Mapping[str, Any]) -> Conditions:
    equal: list[tuple[str, tuple[Any, ...]]] = []
    between: list[Between] = []
    for field in sorted(where):
        value = where[field]
        _check_field(kind, field)
        if isinstance(value, Range):
            least, most = (_value(kind, field, bound) for bound in (value.least, value.most))
            between.append(Between(field, least, most))
        elif isinstance(value, Prefix):
            between.append(_beginning(kind, field, value))
        elif isinstance(value, In):
            equal.append((field, _several(kind, field, value)))
        else:
            equal.append((field, (_value(kind, field, value),)))
    return Conditions(tuple(equal), tuple(between))


def _several(kind: ViewType, field: str, among: In) -> tuple[Any, ...]:
    if isinstance(among.values, str | bytes) or len(among.values) > VALUES_MAX:
        reason = f"{kind.name}.{field} is compared with {str(among)[:200]}: give In a list of at "
        raise InvalidInput(reason=f"{reason}most {VALUES_MAX} values")
    found = dict.fromkeys(_value(kind, field, value) for value in among.values)
    return tuple(sorted(found, key=order_key))


def _beginning(kind: ViewType, field: str, prefix: Any) -> Between:
    if field != kind.key and kind.scalars[field].name != "text":
        reason = f"{kind.name}.{field} holds {kind.scalars[field].told}, which has no Prefix: give "
        raise InvalidInput(reason=f"{reason}a Range")
    if not isinstance(prefix.text, str):
        reason = f"{kind.name}.{field} is compared with {prefix!r}: give Prefix a text"
        raise InvalidInput(reason=reason)
    check_text((prefix.text,))
    return Between(field, prefix.text or None, below=_behind(prefix.text))


def _behind(prefix: str) -> str | None:
    """Return the least text that is above all with a prefix; None: there is none."""
    while prefix:
        last = ord(prefix[-1])
        prefix = prefix[:-1]
        if last != 0x10FFFF:
            return prefix + chr(0xE000 if last == 0xD7FF else last + 1)  # no surrogates
    return None


def _words(kind: ViewType, matching: str) -> tuple[Word, ...]:
    if not kind.full_text:
        raise InvalidInput(
            reason=f"{kind.name} has no full text to find {matching[:80]!r} in: declare a field "
            "Annotated[str, FullText] and rebuild the projection"
        )
    return asked(matching, subject=kind.name)


def _check_field(kind: ViewType, field: str) -> None:
    if field != kind.key and field not in kind.indexes:
        names = ", ".join((kind.key, *kind.indexes))
        raise InvalidInput(
            reason=f"{kind.name}.{field} is not indexed: use one of {names}, "
            f"or declare {field}: Annotated[..., Index] and rebuild the projection"
        )


def _value(kind: ViewType, field: str, value: Any) -> Any:
    value = plain(value)
    if value is None:
        return None
    if field == kind.key:
        value = canonical_text(value)
        check_text((value,))
        return value
    scalar = kind.scalars[field]
    reason = f"give {scalar.told}, None, or a Range or In of them"
    if isinstance(value, scalar.types) and not isinstance(value, scalar.others):
        if scalar.plain is not None:
            try:
                return scalar.plain(value)
            except Unfit as error:
                reason = str(error)
        elif isinstance(value, str):
            check_text((value,))
            return value
        elif isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
            return _near(value)
        else:
            return value
    raise InvalidInput(reason=f"{kind.name}.{field} is compared with {value!r}: {reason}")


def _near(value: int) -> float:
    """Return what a whole number that no column holds is compared as."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _after(cursor: str, fingerprint: int) -> tuple[Any, str]:
    reason = "it is of another query"
    try:
        found = _decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError) as error:
        reason = str(error)
    else:
        if found.fingerprint == fingerprint:
            return (found.value, found.key)
    raise InvalidInput(
        reason=f"the cursor {cursor[:80]!r} does not fit ({reason}): "
        "send back `next` of the page before, with the same query"
    )
