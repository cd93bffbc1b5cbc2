"""When two services mean two things by one event name."""

import pytest

from headwater.eventbus.types import EventType, is_other


def made(
    source: str = "a",
    *,
    declared: str = "",
    name: str = "Moved",
    fields: dict[str, str] | None = None,
    optional: tuple[str, ...] = (),
    bound: bool = False,
) -> EventType:
    """Return a type; all fields must be there but the optional ones."""
    known = {"id": "text"} if fields is None else fields
    required = tuple(field for field in known if field not in optional)
    return EventType(name, source, declared or f"{source}.{name}", known, required, bound)


AMOUNT = {"id": "text", "amount": "number"}


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (made("b"), False),
        (made("b", fields=AMOUNT), True),
        (made("b", fields=AMOUNT, optional=("amount",)), False),
        (made("b", fields={"id": "number"}), True),
        (made("b", fields={}), True),
        (made("b", fields={"key": "text"}), True),
        (made("b", fields=AMOUNT, name="Other"), False),
        (made("a", fields=AMOUNT), False),
        (made("b", fields=AMOUNT, declared="a.Moved"), False),
        (made("b", fields=AMOUNT, bound=True), True),
    ],
)
def test_what_is_another_type(other: EventType, differs: bool) -> None:
    """Types of two services are others when one cannot read what the other writes.

    Not so for one class in several versions, and for one service.
    """
    assert is_other(made(), other) is differs
    assert is_other(other, made()) is differs


def test_types_that_say_whose_they_are() -> None:
    """When both classes say which service they are of, nobody takes one for the other."""
    one, other = made(bound=True), made("b", fields=AMOUNT, bound=True)
    assert not is_other(one, other)
