"""Joining what was edited in a directory with what others stored meanwhile."""

import itertools

import pytest

from headwater.config.changes import difference
from headwater.config.working_copy import merge


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged", "clashing"),
    [
        ("1", "1", "1", "1", False),
        ("1", "2", "1", "2", False),
        ("1", "1", "2", "2", False),
        ("1", "2", "2", "2", False),
        ("1", "2", "3", "2", True),
        ("1", None, "1", None, False),
        ("1", "1", None, None, False),
        ("1", None, None, None, False),
        ("1", "2", None, "2", True),
        ("1", None, "2", None, True),
        (None, "1", None, "1", False),
        (None, None, "1", "1", False),
        (None, "1", "1", "1", False),
        (None, "1", "2", "1", True),
    ],
)
def test_merge(
    base: str | None, mine: str | None, theirs: str | None, merged: str | None, clashing: bool
) -> None:
    """Whoever changed a file prevails; when both did, and differently, it is a clash."""

    def files(content: str | None) -> dict[str, bytes]:
        return {} if content is None else {"a.yml": content.encode()}

    found = merge(files(base), files(mine), files(theirs))
    assert found == (files(merged), ["a.yml"] if clashing else [])


def test_merge_is_fair() -> None:
    """Without a clash the result does not depend on who asks."""
    contents = [None, b"1", b"2", b"3"]
    for case in itertools.product(contents, repeat=3):
        base, one, two = ({} if c is None else {"a.yml": c} for c in case)
        merged, clashing = merge(base, one, two)
        other, also = merge(base, two, one)
        assert clashing == also
        assert clashing or merged == other


def test_difference() -> None:
    """Each file is added, changed, removed, or left alone."""
    change = difference({"a": 1, "b": 1, "c": 1}, {"b": 2, "c": 1, "d": 1}, number=7)
    assert (change.added, change.changed, change.removed) == (("d",), ("b",), ("a",))
    assert change.number == 7
