"""The swap to a new generation: nobody works on the old one any more, the new one takes over."""

from collections.abc import Sequence

from headwater.processing.applier import Applier
from headwater.processing.dead_letters import PAGE, DeadLetter, queue_of
from headwater.processing.tokens import Token, token_of
from headwater.views import Segment, ViewStore


class Swap:
    """Brings a generation to an end and makes its successor active.

    The order guarantees that readers never go back: first the old generation is frozen (its
    tokens name the successor, its fences rise), then the successor goes at least as far as the
    source was after that, then it is made active. Whoever finds a frozen generation works on the
    successor and finishes the swap, so a crash in between stops nothing.
    """

    def __init__(self, applier: Applier, views: ViewStore) -> None:
        """Swap the views of a processor."""
        self._applier = applier
        self._source = applier.source
        self._views = views
        self._goal: tuple[int, Token] | None = None

    async def freeze(self, active: int, successor: int) -> None:
        """Stop all work on the active generation; readers go on to see it."""
        token = Token(successor=successor).text
        await self._views.reset(self._applier.name, token=token, generation=active)

    async def finish(self, segments: Sequence[Segment], active: int, successor: int) -> bool:
        """Make the successor of a frozen generation active if it has come far enough.

        Returns whether it is active now.
        """
        if self._goal is None or self._goal[0] != successor:
            self._goal = (successor, await self._source.head())
        if not reached(self._applier, segments, successor, self._goal[1]):
            return False
        await self._views.activate(self._applier.name, successor, self._applier.views)
        await forget_letters(self._views, queue_of(self._applier.name, active))
        return True


def reached(applier: Applier, segments: Sequence[Segment], generation: int, goal: Token) -> bool:
    """Whether all segments of a generation are at or past a goal."""
    source = applier.source
    mine = [s for s in segments if s.generation == generation]
    return bool(mine) and all(
        source.reached(source.restrict(token_of(s.token), {s.index}, s.count), goal) for s in mine
    )


async def forget_letters(views: ViewStore, queue: str, *, after: int = 0, since: int = 0) -> None:
    """Remove the dead letters of a queue: of events after a position, recorded since a time."""
    cursor = ""
    while True:
        async with views.transaction() as transaction:
            page = await transaction.find(
                DeadLetter, where={"queue": queue}, limit=PAGE, cursor=cursor
            )
            gone = [
                letter.id
                for letter in page.items
                if letter.event is None
                or (letter.event.position > after and letter.event.time >= since)
            ]
            await transaction.delete(DeadLetter, gone)
        cursor = page.next
        if not cursor:
            return
