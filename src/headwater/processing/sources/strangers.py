"""Events of other programs on a bus: which of them were seen before.

They have no position, so that what is sent twice is told by ``source`` and ``id``, which identify a
CloudEvent. The last `WINDOW` of each partition are remembered in the token, which is committed with
the effects: a repetition within the window has no effect, whatever happens in between.
"""

from base64 import b85encode
from collections.abc import Iterable
from hashlib import blake2b

from headwater.eventbus import BusEvent

WINDOW = 256
"""How many events of other programs are remembered for each partition of a bus."""


class Strangers:
    """What is remembered of one partition."""

    def __init__(self, known: Iterable[str]) -> None:
        """Begin with what a token says."""
        self._known = dict.fromkeys(known)

    def see(self, event: BusEvent) -> bool:
        """Remember an event; whether it was not seen before."""
        identity = _identity(event)
        if identity in self._known:
            return False
        self._known[identity] = None
        if len(self._known) > WINDOW:
            del self._known[next(iter(self._known))]
        return True

    @property
    def known(self) -> tuple[str, ...]:
        """What is remembered, for the token."""
        return tuple(self._known)


def _identity(event: BusEvent) -> str:
    """Return 128 bits that stand for an event, in 20 characters."""
    text = f"{len(event.source)}:{event.source}{event.id}"
    return b85encode(blake2b(text.encode(), digest_size=16).digest()).decode()


__all__ = ["WINDOW", "Strangers"]
