"""Which generation of a processor's views belongs to this program.

Each program has the views that its own code has filled; those of other versions are beside them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from headwater.processing.handling.applier import Applier
from headwater.processing.handling.dead_letters import forget_dropped
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.views import Generation, ViewStore
from headwater.views.catalog import active_of


class State(NamedTuple):
    """What a program's code has: its active generation (0: none), and the newest one."""

    active: int
    complete: bool
    newest: int


class Lineage:
    """The generations of a processor's views that belong to one code.

    A processor without a code (a saga, handlers with effects elsewhere) has what there is.
    """

    def __init__(
        self, applier: Applier, views: ViewStore, settings: ProcessorSettings = DEFAULTS
    ) -> None:
        """Know nothing yet."""
        self._applier = applier
        self._views = views
        self._settings = settings
        self._name, self._code = applier.name, applier.code
        self._used_at = 0.0  # seconds since 1970 UTC

    async def find(self) -> State:
        """Return what there is of this code."""
        every = await self._views.generations(self._name)
        mine = [g for g in every if not self._code or g.code == self._code]
        if not self._code:
            active = active_of(mine)
            return State(active, complete=True, newest=max([active, *_numbers(mine)]))
        if not mine:
            return State(0, complete=False, newest=0)
        active = active_of(mine)
        complete = any(g.complete for g in mine)
        return State(active, complete=complete, newest=max(_numbers(mine)))

    async def open(self) -> State:
        """Return what there is of this code, which has a generation from now on."""
        found = await self.find()
        if not found.active:
            await self._views.settle_generation(self._name, self._code, self._applier.views)
            found = await self.find()
        return found

    async def following(self, generation: int) -> int:
        """Return the generation of this code that follows another one; made if there is none."""
        return await self._views.next_generation(
            self._name, self._code, self._applier.views, after=generation
        )

    async def keep(self, generation: int) -> list[int]:
        """Say now and then that a generation is used; return which others were dropped."""
        clock, unused_s = self._applier.clock, self._settings.unused_s
        if not self._code or clock() < self._used_at + unused_s / 10:
            return []
        before = self._used_at
        await self._views.use_generation(self._name, generation)
        self._used_at = clock()
        if before and self._used_at > before + unused_s / 2:
            return []  # we could not say so for that long: others perhaps could not either
        dropped = await self._views.drop_unused(self._name, code=self._code, idle_s=unused_s)
        await forget_dropped(self._views, self._name, dropped)
        return dropped


def _numbers(generations: Sequence[Generation]) -> list[int]:
    return [g.number for g in generations]
