"""Queries are checked once, for every backend."""

from typing import Annotated

from hypothesis import given
from hypothesis import strategies as st

from headwater.views import Index, Key, View
from headwater.views.selection import cursor_after, order_key, select


class Doc(View):
    id: Annotated[str, Key]
    value: Annotated[str | None, Index] = None


texts = st.text(st.characters(exclude_categories=["Cs"]))
values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | texts
    | st.floats(allow_nan=False)
)


@given(value=values, key=texts)
def test_a_cursor_holds_any_value(value: object, key: str) -> None:
    """Whatever the last value of a page was, infinity included, its cursor brings it back."""
    query = select(Doc, order_by="value")
    again = select(Doc, order_by="value", cursor=cursor_after(query, value, key))
    assert again.after == (value, key)


@given(texts, texts)
def test_text_is_ordered_as_its_bytes(left: str, right: str) -> None:
    """The order of code points is the order of UTF-8 bytes, which is SQLite's."""
    assert (order_key(left) < order_key(right)) == (left.encode() < right.encode())
