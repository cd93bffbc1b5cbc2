"""Names as PostgreSQL can store them: its text has no character 0, which ours may have."""

import re
from collections.abc import Sequence

import asyncpg

_MARK, _NUL_TO, _MARK_TO = "\1", "\1\1", "\1\2"
_MARKED = re.compile("\1([\1\2])")

WRONG = (
    asyncpg.DataError,
    asyncpg.NotNullViolationError,
    asyncpg.ProgramLimitExceededError,
    TypeError,
    ValueError,
    OverflowError,
    AttributeError,
)
"""What the driver raises for values that the database cannot hold."""


def to_text(name: str) -> str:
    """Return the form that is stored: the name itself, unless it has characters 0 or 1."""
    if "\0" in name or _MARK in name:
        return name.replace(_MARK, _MARK_TO).replace("\0", _NUL_TO)
    return name


def from_text(text: str) -> str:
    """Return the name whose stored form is the text."""
    if _MARK in text:
        return _MARKED.sub(lambda found: "\0" if found[1] == "\1" else _MARK, text)
    return text


def to_texts(names: Sequence[str]) -> list[str]:
    """Return the stored forms of many names; fast, because hardly any differs."""
    together = "".join(names)
    if "\0" in together or _MARK in together:
        return [to_text(name) for name in names]
    return list(names)
