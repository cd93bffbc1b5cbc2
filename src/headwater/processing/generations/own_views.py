"""Reading views in the generation that the code of this program has filled."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar, Unpack

from headwater.errors import ConfigurationError, StoreUnavailable
from headwater.messages import Textual
from headwater.processing.generations.lineage import Lineage
from headwater.processing.handling.applier import Applier
from headwater.views import Sql, SqlTable, View, ViewPage, ViewStore, Where, view_type
from headwater.views.model import model_name
from headwater.views.selection import Asked

V = TypeVar("V", bound=View)
T = TypeVar("T")


class OwnViews:
    """Reads each view in the generation that the code of this program has filled.

    Of views that are not known here, and as long as there is no generation of this code, it is the
    active one of all.
    """

    def __init__(self, views: ViewStore) -> None:
        """Know nothing yet."""
        self._views = views
        self._lineages: dict[str, Lineage] = {}  # by view
        self._known: dict[str, int] = {}

    def add(self, applier: Applier) -> None:
        """Read the views of a processor as its code has them."""
        if applier.code:
            lineage = Lineage(applier, self._views)
            self._lineages.update((model_name(view), lineage) for view in applier.views)

    def use(self, applier: Applier, generation: int) -> None:
        """Say in which generation the views of a processor are."""
        if applier.code:
            self._known.update((model_name(view), generation) for view in applier.views)

    async def get(self, view: type[V], key: Textual) -> V | None:
        """See `ViewStore.get`."""
        return await self._read(view, lambda g: self._views.get(view, key, generation=g))

    async def get_many(self, view: type[V], keys: Sequence[Textual]) -> dict[str, V]:
        """See `ViewStore.get_many`."""
        return await self._read(view, lambda g: self._views.get_many(view, keys, generation=g))

    async def find(self, view: type[V], **query: Unpack[Asked]) -> ViewPage:
        """See `ViewStore.find`."""
        return await self._read(view, lambda g: self._views.find(view, generation=g, **query))

    async def count(
        self, view: type[View], *, where: Where | None = None, matching: str = ""
    ) -> int:
        """See `ViewStore.count`."""
        return await self._read(
            view, lambda g: self._views.count(view, where=where, matching=matching, generation=g)
        )

    @contextlib.asynccontextmanager
    async def sql(self, *tables: type[SqlTable]) -> AsyncIterator[Sql]:
        """See `ViewStore.sql`."""
        names = [table.table_name for table in tables]
        known = {name: self._known.get(name) or await self._look(name) for name in names}
        async with contextlib.AsyncExitStack() as stack:
            try:
                begun = self._views.sql(*tables, generations=known)
                sql = await stack.enter_async_context(begun)
            except ConfigurationError:  # as in `_read`
                fresh = {name: await self._look(name) for name in names}
                if fresh == known:
                    raise
                begun = self._views.sql(*tables, generations=fresh)
                sql = await stack.enter_async_context(begun)
            yield sql

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
        lineage = self._lineages.get(name)
        if lineage is None:
            return 0
        found = (await lineage.find()).active
        if found:
            self._known[name] = found
        elif name in self._known:
            reason = f"the generation of {name} that this program uses was dropped: retry soon"
            raise StoreUnavailable(store="views", reason=reason, outcome="not stored")
        return found
