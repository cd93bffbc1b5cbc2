"""The switch-over: nobody works on the old generation any more, the new one takes over."""

from collections.abc import Sequence

from headwater.errors import InvalidInput
from headwater.processing.handling.applier import Applier
from headwater.processing.handling.dead_letters import forget_older
from headwater.processing.sources.tokens import Token, token_of
from headwater.views import Segment, ViewStore


class SwitchOver:
    """Brings a generation to an end and makes its successor active.

    The order guarantees that readers never go back: first the old generation is frozen (its
    tokens name the successor, its fences rise), then the successor goes at least as far as the
    source was after that, then it is made active. Whoever finds a frozen generation works on the
    successor and finishes the switch-over, so a crash in between stops nothing.
    """

    def __init__(self, applier: Applier, views: ViewStore) -> None:
        """Switch over the views of a processor."""
        self._applier = applier
        self._source = applier.source
        self._views = views
        self._goal: tuple[int, Token] | None = None

    async def freeze(self, active: int, successor: int) -> None:
        """Stop all work on the active generation; readers go on to see it.

        Does nothing if it is not the active one any more.
        """
        name, token = self._applier.name, Token(successor=successor).text
        # If nobody has begun to work on it yet, nobody shall.
        await self._views.open_segments(name, count=1, token=token, generation=active)
        await self._views.reset(name, token=token, generation=active)

    async def finish(self, segments: Sequence[Segment], successor: int) -> bool:
        """Make the successor of a frozen generation active if it has come far enough.

        Returns whether it is active now. The letters of the frozen one, which nobody can park any
        more, are removed before, so that whoever ends in between leaves none.
        """
        if self._goal is None or self._goal[0] != successor:
            self._goal = (successor, await self._source.head())
        if not reached(self._applier, segments, successor, self._goal[1]):
            return False
        name, code = self._applier.name, self._applier.code
        await forget_older(self._views, name, successor, code=code)
        return await activated(self._applier, self._views, successor)


async def activated(applier: Applier, views: ViewStore, generation: int) -> bool:
    """Make a generation active; return whether it is: not if a later one is active by now.

    Raises:
        InvalidInput: one of its views has a later one.
    """
    try:
        await views.activate(applier.name, generation, applier.views, code=applier.code)
    except InvalidInput:
        if await views.generation(applier.name, code=applier.code) <= generation:
            raise
        return False
    return True


def reached(applier: Applier, segments: Sequence[Segment], generation: int, goal: Token) -> bool:
    """Whether all segments of a generation are at or past a goal."""
    source = applier.source
    mine = [s for s in segments if s.generation == generation]
    return bool(mine) and all(
        source.reached(source.restrict(token_of(s.token), {s.index}, s.count), goal) for s in mine
    )
