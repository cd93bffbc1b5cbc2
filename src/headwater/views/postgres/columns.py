"""Index columns of PostgreSQL: which type a field gets, and the contract's order of values on it.

Each gets the type of the database that holds its values, so that any SQL tool can use it. What
comes and goes here is the plain form of values (see `scalars`), which has the same order.

PostgreSQL's text cannot hold U+0000, Python's can: U+0000 is stored as U+0001 U+0001 and U+0001
as U+0001 U+0002, which keeps the order; all other text is stored as it is.
"""

import datetime as dt
import math
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from types import NoneType
from typing import Any

from headwater.errors import InvalidInput
from headwater.views.scalars import Scalar, decimal_of, decimal_text, instant_text

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
    with, or into `NOTHING` or `ANYTHING` for a number that the column cannot hold.
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
        return escape(value)

    def least(self, value: Any) -> Any:
        """Return the lower bound."""
        return escape(value)

    def most(self, value: Any) -> Any:
        """Return the upper bound."""
        return escape(value)

    def stored(self, given: str) -> str:
        """Return what is stored of a parameter."""
        return given

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
        if value != value:  # noqa: PLR0124  # nan
            return NOTHING
        bound = self.lower(value)
        return bound if bound is ANYTHING or bound is NOTHING or bound == value else NOTHING

    def least(self, value: Any) -> Any:
        if value != value:  # noqa: PLR0124  # nan
            return NOTHING
        return self.lower(value)

    def most(self, value: Any) -> Any:
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


class Converted(Column):
    """Values whose plain form is another one than the database's; bounds have the same type."""

    def __init__(
        self,
        name: str,
        *,
        sql: str,
        of_plain: Callable[[Any], Any],
        to_plain: Callable[[Any], Any],
    ) -> None:
        """Describe a column.

        Args:
            name: see `Column`.
            sql: the type of the database.
            of_plain: returns what it holds, or raises ValueError for what is no plain form.
            to_plain: returns the plain form of what it holds.
        """
        super().__init__(name)
        self.sql, self.array = sql, f"{sql}[]"
        self._of_plain, self._to_plain = of_plain, to_plain

    def store(self, values: list[Any]) -> list[Any]:
        """See `Column.store`."""
        return [None if value is None else self._of_plain(value) for value in values]

    def equal(self, value: Any) -> Any:
        """See `Column.equal`."""
        return self._of_plain(value)

    least = most = equal

    def to_cursor(self, stored: Any) -> Any:
        """See `Column.to_cursor`."""
        return None if stored is None else self._to_plain(stored)

    def from_cursor(self, value: Any) -> Any:
        """See `Column.from_cursor`."""
        if type(value) is str:
            try:
                return self._of_plain(value)
            except ValueError:
                pass
        raise _foreign(self.name)


class Words(Column):
    """The words of full text, as text that makes a vector."""

    sql = "tsvector"
    array = "text[]"

    def stored(self, given: str) -> str:
        """Return what makes the vector of a parameter; its words are taken as they are."""
        return f"array_to_tsvector(string_to_array({given}, ' '))"


def _instant(stored: dt.datetime) -> str:
    """Return the plain form of a time; the driver gives its first and last one without a zone."""
    return instant_text(stored if stored.tzinfo else stored.replace(tzinfo=dt.UTC))


_COLUMNS: dict[str, Callable[[str], Column]] = {
    "text": Column,
    "whole": Whole,
    "truth": Whole,
    "duration": Whole,
    "real": Floating,
    "date": partial(
        Converted, sql="date", of_plain=dt.date.fromisoformat, to_plain=dt.date.isoformat
    ),
    "datetime": partial(
        Converted, sql="timestamptz", of_plain=dt.datetime.fromisoformat, to_plain=_instant
    ),
    "decimal": partial(Converted, sql="numeric", of_plain=decimal_of, to_plain=decimal_text),
    "uuid": partial(Converted, sql="uuid", of_plain=uuid.UUID, to_plain=str),
}


def column(name: str, scalar: Scalar) -> Column:
    """Return the column for an index."""
    return _COLUMNS[scalar.name](name)


def _foreign(name: str) -> InvalidInput:
    reason = f"the cursor is not from {name}: send back `next` of the page before"
    return InvalidInput(reason=reason)
