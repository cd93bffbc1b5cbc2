"""What a view class declares, and what it is refused for."""

import datetime as dt
import enum
from typing import Annotated, Literal, NewType

import msgspec
import pytest

from headwater.errors import DeclarationError
from headwater.messages import BigInt
from headwater.views import Index, Key, View, view_type

AccountId = NewType("AccountId", str)
Cents = Annotated[int, msgspec.Meta(ge=0)]


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Huge(enum.Enum):
    SMALL = 1
    LARGE = 2**63


class Infinite(enum.Enum):
    NONE = 0.0
    ALL = float("inf")


class Everything(View):
    id: Annotated[AccountId, Key]
    text: Annotated[str, Index]
    cents: Annotated[Cents, Index]
    ratio: Annotated[float | None, Index]
    flag: Annotated[bool, Index()]
    state: Annotated[Literal["open", "closed"], Index]
    level: Annotated[Level, Index]
    free: list[str]


def test_indexes_are_text_numbers_and_truth_values() -> None:
    """Aliases, new types, literals, enumerations and None are all seen through."""
    kind = view_type(Everything)
    names = ("text", "cents", "ratio", "flag", "state", "level")
    assert (kind.name, kind.key, kind.indexes) == ("Everything", "id", names)
    view = Everything(AccountId("a"), "t", 5, None, True, "open", Level.HIGH, [])
    assert kind.row(view) == ("a", "t", 5, None, True, "open", "high")
    assert kind.decode(kind.write(view)[0]) == view


def test_a_number_may_be_the_key() -> None:
    """A key that is a number is stored as text, with or without indexes."""

    class Plain(View):
        number: Annotated[int, Key]

    class Indexed(View):
        number: Annotated[int, Key]
        text: Annotated[str, Index]

    assert view_type(Plain).row(Plain(7)) == ("7",)
    assert view_type(Indexed).row(Indexed(7, "x")) == ("7", "x")
    assert view_type(Indexed).key_of(Indexed(7, "x")) == "7"


def test_defaults_tell_whether_an_event_may_start_a_document() -> None:
    """`defaults` is true exactly when every field but the key has one."""

    class With(View):
        id: Annotated[str, Key]
        n: int = 0

    assert view_type(With).defaults
    assert not view_type(Everything).defaults


def refused(**fields: object) -> str:
    cls = type("Wrong", (View,), {"__annotations__": fields, "__module__": __name__})
    with pytest.raises(DeclarationError, match=r"^Wrong: ") as caught:
        view_type(cls)
    return str(caught.value)


def test_wrong_declarations_are_refused() -> None:
    """Each wrong declaration is refused with what is wrong about it."""
    key = Annotated[str, Key]
    assert "found []" in refused(a=str)
    assert "found ['a', 'b']" in refused(a=key, b=key)
    assert "the key 'a' must be str or int" in refused(a=Annotated[float, Key])
    assert "the key 'a' must be str or int" in refused(a=Annotated[str | None, Key])
    for hint in (list[str], dict, bytes, object, str | list[int]):
        assert "the index 'b' must be" in refused(a=key, b=Annotated[hint, Index])
    for hint in (BigInt, BigInt | None):
        assert "'b' is a BigInt, and an index holds 64" in refused(a=key, b=Annotated[hint, Index])
    assert "differ by more than case" in refused(
        a=key, b=Annotated[str, Index], B=Annotated[str, Index]
    )
    assert "none be 'document'" in refused(document=key)


def test_a_view_that_can_never_be_read_is_refused() -> None:
    """A field of a type that no decoder takes is refused when the view is declared."""
    key = Annotated[str, Key]
    for hint in (str | dt.date, Huge, Infinite):
        assert "could never be read back" in refused(a=key, b=hint)
