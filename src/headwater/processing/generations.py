"""Which generation of a processor's views belongs to this program, and reading it.

Each program has the views that its own code has filled; those of other versions are beside them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from headwater.errors import ConfigurationError, StoreUnavailable
from headwater.messages import Textual
from headwater.processing.applier import Applier
from headwater.processing.dead_letters import forget_dropped
from headwater.processing.settings import DEFAULTS, ProcessorSettings
from headwater.views import Generation, View, ViewPage, ViewStore, view_type
from headwater.views.catalog import active_of

V = TypeVar("V", bound=View)
T = TypeVar("T")


class State(NamedTuple):
    """What a program's code has: its active generation (0: none), and the newest one."""

    active: int
    complete: bool
    newest: int


class Line:
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

    async def settle(self) -> State:
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


class OwnViews:
    """Reads each view in the generation that the code of this program has filled.

    Of views that are not known here, and as long as there is no generation of this code, it is the
    active one of all.
    """

    def __init__(self, views: ViewStore) -> None:
        """Know nothing yet."""
        self._views = views
        self._lines: dict[str, Line] = {}  # by view
        self._known: dict[str, int] = {}

    def add(self, applier: Applier) -> None:
        """Read the views of a processor as its code has them."""
        if applier.code:
            line = Line(applier, self._views)
            self._lines.update((view_type(view).name, line) for view in applier.views)

    def use(self, applier: Applier, generation: int) -> None:
        """Say in which generation the views of a processor are."""
        if applier.code:
            self._known.update((view_type(view).name, generation) for view in applier.views)

    async def get(self, view: type[V], key: Textual) -> V | None:
        """See `ViewStore.get`."""
        return await self._read(view, lambda g: self._views.get(view, key, generation=g))

    async def get_many(self, view: type[V], keys: Sequence[Textual]) -> dict[str, V]:
        """See `ViewStore.get_many`."""
        return await self._read(view, lambda g: self._views.get_many(view, keys, generation=g))

    async def find(
        self,
        view: type[V],
        *,
        where: Mapping[str, Any] | None = None,
        order_by: str = "",
        descending: bool = False,
        limit: int = 100,
        cursor: str = "",
    ) -> ViewPage:
        """See `ViewStore.find`."""
        return await self._read(
            view,
            lambda generation: self._views.find(
                view,
                where=where,
                order_by=order_by,
                descending=descending,
                limit=limit,
                cursor=cursor,
                generation=generation,
            ),
        )

    async def count(self, view: type[View], *, where: Mapping[str, Any] | None = None) -> int:
        """See `ViewStore.count`."""
        return await self._read(view, lambda g: self._views.count(view, where=where, generation=g))

    async def _read(self, view: type[View], work: Callable[[int], Awaitable[T]]) -> T:
        """Read; a generation that was replaced since it was looked for is gone as a whole."""
        name = view_type(view).name
        known = self._known.get(name) or await self._look(name)
        try:
            return await work(known)
        except ConfigurationError:
            fresh = await self._look(name)
            if fresh == known:
                raise
        return await work(fresh)

    async def _look(self, name: str) -> int:
        line = self._lines.get(name)
        if line is None:
            return 0
        found = (await line.find()).active
        if found:
            self._known[name] = found
        elif name in self._known:
            reason = f"the generation of {name} that this program uses was dropped: retry soon"
            raise StoreUnavailable(store="views", reason=reason, outcome="not stored")
        return found


def _numbers(generations: Sequence[Generation]) -> list[int]:
    return [g.number for g in generations]
