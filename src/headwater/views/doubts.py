"""Claims of which nobody can say whether their last step was stored."""

from collections.abc import Iterable, Sequence

from headwater.errors import ClaimLost
from headwater.views.api import Segment

Claim = tuple[str, int, int, int, int]
"""What identifies a claim: processor, generation, index, count, fence."""


def claim_of(segment: Segment) -> Claim:
    """Return what identifies the claim of a segment."""
    return (segment.processor, segment.generation, segment.index, segment.count, segment.fence)


class Doubts:
    """The claims that count as lost: whoever claims the segments anew reads their tokens anew."""

    def __init__(self) -> None:
        """Doubt nothing."""
        self._claims: set[Claim] = set()

    def add(self, claims: Iterable[Claim]) -> None:
        """Note the claims of a transaction whose outcome is unknown."""
        self._claims.update(claims)

    def check(self, segments: Sequence[Segment]) -> None:
        """Refuse to go on with a claim that is in doubt.

        Raises:
            ClaimLost: one of these is.
        """
        if not self._claims:
            return
        for segment in segments:
            if claim_of(segment) in self._claims:
                raise ClaimLost(processor=segment.processor, segment=segment.index)
