"""What `ViewStore.find` means: the checked query, its order and its cursor, for every backend.

The order of values is SQLite's and is part of the contract: None, then numbers (False is 0, True
is 1), then text by code points (which is the byte order of UTF-8).
"""

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from headwater.errors import InvalidInput
from headwater.messages import canonical_text
from headwater.messages.characters import check_text
from headwater.messages.whole_numbers import INT_MAX, INT_MIN
from headwater.views.api import Range
from headwater.views.model import View, ViewType, plain, view_type

LIMIT_MAX = 10_000


class Selection(msgspec.Struct, frozen=True):
    """A checked query.

    Attributes:
        kind: the view type.
        equal: fields and the values that they must have.
        ranges: fields and their inclusive bounds, None for open; None is never in a range.
        order_by: the field to order by; ties are in order of the key.
        descending: whether the whole order, ties included, is reversed.
        limit: how many at most.
        after: the order value and the key of the last document of the page before.
        fingerprint: identifies the query in its cursors.
    """

    kind: ViewType
    equal: tuple[tuple[str, Any], ...]
    ranges: tuple[tuple[str, Any, Any], ...]
    order_by: str
    descending: bool
    limit: int
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
    where: Mapping[str, Any] | None = None,
    order_by: str = "",
    descending: bool = False,
    limit: int = 100,
    cursor: str = "",
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
    equal: list[tuple[str, Any]] = []
    ranges: list[tuple[str, Any, Any]] = []
    for field, value in (where or {}).items():
        _check_field(kind, field)
        if isinstance(value, Range):
            ranges.append(
                (field, _value(kind, field, value.least), _value(kind, field, value.most))
            )
        else:
            equal.append((field, _value(kind, field, value)))
    shape = [kind.name, sorted(equal), sorted(ranges), order_by, descending]
    fingerprint = zlib.crc32(repr(shape).encode("utf-8", "surrogatepass"))
    return Selection(
        kind=kind,
        equal=tuple(equal),
        ranges=tuple(ranges),
        order_by=order_by,
        descending=descending,
        limit=limit,
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


def _check_field(kind: ViewType, field: str) -> None:
    if field != kind.key and field not in kind.indexes:
        names = ", ".join((kind.key, *kind.indexes))
        raise InvalidInput(
            reason=f"{kind.name}.{field} is not indexed: use one of {names}, "
            f"or declare {field}: Annotated[..., Index] and rebuild the projection"
        )


def _value(kind: ViewType, field: str, value: Any) -> Any:
    value = plain(value)
    if field == kind.key:
        value = value if value is None else canonical_text(value)
    if isinstance(value, str):
        check_text((value,))
    if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        return _near(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise InvalidInput(
        reason=f"{kind.name}.{field} is compared with {value!r}: give text, a number, "
        "a truth value, None or a Range of them"
    )


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
