"""What PostgreSQL's columns hold stands in the order of the contract."""

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InvalidInput
from headwater.views.postgres.columns import (
    ANYTHING,
    NOTHING,
    Column,
    Whole,
    column,
    escape,
    escape_all,
    unescape,
)
from headwater.views.scalars import scalar_of

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text("\0\1\2a", max_size=6)
near = st.integers(-2, 2).flatmap(
    lambda n: st.sampled_from([2**53 + n, -(2**53) + n, 2**62 + n, 2**63 - 3 + n, 0 + n])
)
numbers = st.integers(-(2**63), 2**63 - 1) | near | st.floats(allow_nan=False)


@given(texts, texts)
def test_escaping_keeps_text_and_order(one: str, other: str) -> None:
    """Escaped text holds no U+0000, comes back as it was, and keeps the order of code points."""
    assert "\0" not in escape(one)
    assert unescape(escape(one)) == one
    assert escape_all([one, other]) == [escape(one), escape(other)]
    assert (escape(one) < escape(other)) == (one < other)


@given(numbers, st.integers(-(2**63), 2**63 - 1))
def test_bounds_of_whole_numbers(bound: float, value: int) -> None:
    """A bound of any kind on whole numbers selects what the bound itself would select."""
    whole = Whole("V.f")
    for found, expected in (
        (whole.least(bound), value >= bound),
        (whole.most(bound), value <= bound),
    ):
        if found is NOTHING or found is ANYTHING:
            assert expected is (found is ANYTHING)
    least, most, equal = whole.least(bound), whole.most(bound), whole.equal(bound)
    if isinstance(least, int):
        assert (value >= least) == (value >= bound)
    if isinstance(most, int):
        assert (value <= most) == (value <= bound)
    assert (equal == value) == (value == bound)


def test_what_does_not_fit_its_field_is_refused() -> None:
    """A value of another kind than declared is refused by name, not stored as something else."""
    for kind, value in ((str, 5), (str, 5j), (int, "5"), (int, 2.5), (float, "x")):
        with pytest.raises(InvalidInput, match=r"V\.f is .* declared to hold"):
            of(kind).store([None, value])
    assert type(of(str)) is Column


def test_cursors_of_other_columns_are_refused() -> None:
    """A value in a cursor that is not of the column is refused with a remedy."""
    cases = ((str, 5), (int, "5"), (int, 2**63), (float, 1), (Decimal, "x"), (Decimal, "25001"))
    for kind, value in (*cases, (dt.date, "x"), (dt.datetime, 5), (uuid.UUID, "7")):
        with pytest.raises(InvalidInput, match="send back `next`"):
            of(kind).from_cursor(value)


def of(kind: Any) -> Column:
    scalar = scalar_of(kind)
    assert scalar is not None
    return column("V.f", scalar)
