"""What can be asked of an index, besides that a value is equal to one."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec


class Range(msgspec.Struct, frozen=True):
    """Selects index values from ``least`` to ``most``, both inclusive, None for open.

    A document whose value is None is in no range, not even in one that is open at both ends.
    """

    least: Any = None
    most: Any = None


class In(msgspec.Struct, frozen=True):
    """Selects index values that are equal to one of ``values``: at most 1,000, of which none may.

    None among them selects the documents whose value is None.
    """

    values: Sequence[Any]


class Prefix(msgspec.Struct, frozen=True):
    """Selects texts that begin with ``text``, as they are written: case and accents count."""

    text: str


class AnyOf:
    """Selects documents that meet one of several sets of conditions, or more of them.

    ``AnyOf({"status": "open"}, {"owner": "ann", "due": Range(most=today)})``; the conditions of
    one set must all hold. At most 50 sets; with none nothing is selected.
    """

    __slots__ = ("alternatives",)

    def __init__(self, *alternatives: Mapping[str, Any]) -> None:
        """Take the sets of conditions."""
        self.alternatives = alternatives

    def __repr__(self) -> str:
        return f"AnyOf({', '.join(map(repr, self.alternatives))})"


Where: TypeAlias = Mapping[str, Any] | AnyOf
"""For each indexed field (or the key) a value, `Range`, `In` or `Prefix`; or several such sets."""
