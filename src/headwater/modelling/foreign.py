"""What handlers may follow besides the service's own store and the event bus."""

from typing import Literal, Protocol, runtime_checkable


@runtime_checkable
class ForeignSource(Protocol):
    """A queue of messages of other programs, as ``source`` of a class names it.

    Who handles its messages is the only one to see them: nothing can be read again.
    """

    @property
    def place(self) -> str:
        """What it is called; handlers of one service may not share it."""


FollowedSource = Literal["store", "bus"] | ForeignSource
"""What the class option ``source`` may be."""


def kind_of(source: FollowedSource) -> Literal["store", "bus", "foreign"]:
    """Return what kind of a source it is."""
    return source if isinstance(source, str) else "foreign"


__all__ = ["FollowedSource", "ForeignSource", "kind_of"]
