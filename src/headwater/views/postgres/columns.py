"""Index columns of PostgreSQL: which type a field gets, and the contract's order of values on it.

A field that holds text only, whole numbers only and so on gets the real type, so that any SQL
tool can use it. A field that holds text and numbers gets bytes whose order is the contract's.

PostgreSQL's text cannot hold U+0000, Python's can: U+0000 is stored as U+0001 U+0001 and U+0001
as U+0001 U+0002, which keeps the order; all other text is stored as it is.
"""

import math
import struct
from collections.abc import Sequence
from decimal import Decimal
from types import NoneType
from typing import Any

from headwater.errors import InvalidInput

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
NOTHING = object()
"""No stored value meets the condition."""
ANYTHING = object()
"""All stored values but None meet the condition."""


def escape(text: str) -> str:
    """Return text that PostgreSQL can store, in the same order."""
    if "\0" in text or "\1" in text:
        return text.replace("\1", "\1\2").replace("\0", "\1\1")
    return text


def unescape(text: str) -> str:
    """Undo `escape`."""
    if "\1" in text:
        return text.replace("\1\1", "\0").replace("\1\2", "\1")
    return text


def escape_all(texts: Sequence[Any]) -> list[Any]:
    """Escape many at once, which nearly always means to look and do nothing."""
    try:
        joined = "".join(texts)
    except TypeError:  # None among them, or something that is refused later
        return [escape(text) if isinstance(text, str) else text for text in texts]
    if "\0" in joined or "\1" in joined:
        return [escape(text) for text in texts]
    return list(texts)


class Column:
    """An index column that holds text; the base of the others.

    ``equal``, ``least`` and ``most`` turn a value of a query into what to compare the column
    with, or into `NOTHING` or `ANYTHING` when the kind of the value decides.
    """

    sql = 'text COLLATE "C"'
    array = "text[]"
    takes: tuple[type, ...] = (str,)

    def __init__(self, name: str) -> None:
        """Describe a column of a field, ``View.field``."""
        self.name = name

    def store(self, values: list[Any]) -> list[Any]:
        """Return what to bind for a column of many rows.

        Raises:
            InvalidInput: a value is not of a declared kind.
        """
        self.check(values, {str, NoneType})
        return escape_all(values)

    def check(self, values: list[Any], plainly: set[type]) -> bool:
        """Whether all values are plainly of these classes, not of subclasses.

        Raises:
            InvalidInput: one is not even of a subclass of what the column takes.
        """
        if plainly.issuperset(map(type, values)):
            return True
        for value in values:
            if value is not None and not isinstance(value, self.takes):
                kinds = " or ".join(kind.__name__ for kind in self.takes)
                reason = f"{self.name} is {value!r}, but is declared to hold {kinds}"
                raise InvalidInput(reason=reason)
        return False

    def equal(self, value: Any) -> Any:
        """Return what equals a value."""
        return escape(value) if isinstance(value, str) else NOTHING

    def least(self, value: Any) -> Any:
        """Return the lower bound; numbers come before text."""
        if isinstance(value, str):
            return escape(value)
        return NOTHING if value != value else ANYTHING  # noqa: PLR0124  # nan

    def most(self, value: Any) -> Any:
        """Return the upper bound."""
        return escape(value) if isinstance(value, str) else NOTHING

    def to_cursor(self, stored: Any) -> Any:
        """Return the value for a cursor."""
        return stored

    def from_cursor(self, value: Any) -> Any:
        """Return the stored value of a cursor.

        Raises:
            InvalidInput: it is not from this column.
        """
        if type(value) is not str:
            raise _foreign(self.name)
        return value


class _Number(Column):
    """What columns of numbers have in common; bounds may be NOTHING or ANYTHING."""

    takes = (int, float)

    def equal(self, value: Any) -> Any:
        if isinstance(value, str) or value != value:  # noqa: PLR0124  # nan
            return NOTHING
        bound = self.lower(value)
        return bound if bound is ANYTHING or bound is NOTHING or bound == value else NOTHING

    def least(self, value: Any) -> Any:
        if isinstance(value, str) or value != value:  # noqa: PLR0124  # nan
            return NOTHING
        return self.lower(value)

    def most(self, value: Any) -> Any:
        if isinstance(value, str):
            return ANYTHING
        return NOTHING if value != value else self.upper(value)  # noqa: PLR0124  # nan

    def lower(self, value: float) -> Any:
        """Return the least value of the column that is not below a number."""
        raise NotImplementedError

    def upper(self, value: float) -> Any:
        """Return the largest value of the column that is not above a number."""
        raise NotImplementedError


class Whole(_Number):
    """Whole numbers and truth values."""

    sql = "bigint"
    array = "bigint[]"

    def store(self, values: list[Any]) -> list[Any]:
        """See `Column.store`."""
        if self.check(values, {int, bool, NoneType}):
            return values
        for value in values:
            if isinstance(value, float) and not value.is_integer():
                reason = f"{self.name} is {value!r}, but is declared to hold whole numbers"
                raise InvalidInput(reason=reason)
        return [None if value is None else int(value) for value in values]

    def equal(self, value: Any) -> Any:
        """See `Column.equal`."""
        found = super().equal(value)
        return NOTHING if found is ANYTHING else found

    def lower(self, value: float) -> Any:
        """See `_Number.lower`."""
        if value > INT_MAX:
            return NOTHING
        return ANYTHING if value < INT_MIN else math.ceil(value)

    def upper(self, value: float) -> Any:
        """See `_Number.upper`."""
        if value < INT_MIN:
            return NOTHING
        return ANYTHING if value > INT_MAX else math.floor(value)

    def from_cursor(self, value: Any) -> Any:
        """See `Column.from_cursor`."""
        if type(value) is not int or not INT_MIN <= value <= INT_MAX:
            raise _foreign(self.name)
        return value


class Floating(_Number):
    """Floating-point numbers."""

    sql = "double precision"
    array = "float8[]"

    def store(self, values: list[Any]) -> list[Any]:
        """See `Column.store`."""
        if self.check(values, {float, NoneType}):
            return values
        return [None if value is None else float(value) for value in values]

    def lower(self, value: float) -> Any:
        """See `_Number.lower`."""
        near = float(value)
        return near if near >= value else math.nextafter(near, math.inf)

    def upper(self, value: float) -> Any:
        """See `_Number.upper`."""
        near = float(value)
        return near if near <= value else math.nextafter(near, -math.inf)

    def from_cursor(self, value: Any) -> Any:
        """See `Column.from_cursor`."""
        if type(value) is not float:
            raise _foreign(self.name)
        return value


class AnyNumber(_Number):
    """Whole and floating-point numbers together, compared exactly."""

    sql = "numeric"
    array = "numeric[]"

    def store(self, values: list[Any]) -> list[Any]:
        """See `Column.store`."""
        self.check(values, {int, float, bool, NoneType})
        return [None if value is None else Decimal(value) for value in values]

    def lower(self, value: float) -> Any:
        """See `_Number.lower`."""
        return Decimal(value)

    def upper(self, value: float) -> Any:
        """See `_Number.upper`."""
        return Decimal(value)

    def to_cursor(self, stored: Any) -> Any:
        """See `Column.to_cursor`; text, because a cursor has no decimals."""
        return None if stored is None else str(stored)

    def from_cursor(self, value: Any) -> Any:
        """See `Column.from_cursor`."""
        if type(value) is str:
            try:
                return Decimal(value)
            except ArithmeticError:
                pass
        raise _foreign(self.name)


class Mixed(Column):
    """Text and numbers in one field, as bytes: the kind, then text or an orderable number."""

    sql = "bytea"
    array = "bytea[]"
    takes = (str, int, float)

    def store(self, values: list[Any]) -> list[Any]:
        """See `Column.store`."""
        self.check(values, set())
        return [None if value is None else _sortable(value) for value in values]

    def equal(self, value: Any) -> Any:
        """See `Column.equal`."""
        return NOTHING if value != value else _sortable(value)  # noqa: PLR0124  # nan

    least = most = equal

    def to_cursor(self, stored: Any) -> Any:
        """See `Column.to_cursor`; text, because what the bytes stand for is not needed."""
        return None if stored is None else stored.hex()

    def from_cursor(self, value: Any) -> Any:
        """See `Column.from_cursor`."""
        if type(value) is str:
            try:
                return bytes.fromhex(value)
            except ValueError:
                pass
        raise _foreign(self.name)


def column(name: str, kinds: set[type]) -> Column:
    """Return the column for a field that holds values of some classes, None aside."""
    text = any(issubclass(kind, str) for kind in kinds)
    floating = any(issubclass(kind, float) for kind in kinds)
    whole = any(issubclass(kind, int) for kind in kinds)
    if text:
        return Mixed(name) if floating or whole else Column(name)
    if floating:
        return AnyNumber(name) if whole else Floating(name)
    return Whole(name)


def _sortable(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\2" + value.encode()
    # The next floating-point number below or at the value, and how far the value is above it,
    # which is less than 1,024 for 64 bits: exact for both kinds of numbers.
    near = float(value)
    if near > value:
        near = math.nextafter(near, -math.inf)
    rest = 0 if isinstance(value, float) else value - int(near)
    (bits,) = struct.unpack(">Q", struct.pack(">d", near + 0.0))  # + 0.0: there is one zero only
    bits = bits ^ (2**64 - 1) if bits >> 63 else bits | 1 << 63
    return b"\1" + struct.pack(">QH", bits, rest)


def _foreign(name: str) -> InvalidInput:
    reason = f"the cursor is not from {name}: send back `next` of the page before"
    return InvalidInput(reason=reason)
