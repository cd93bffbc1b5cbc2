"""What the view stores with SQL have in common: generations, segments and claims.

Each engine has a module ``generations`` and a module ``segments`` with functions of the same names
that take a connection; here they are run in a transaction of their own.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headwater.views.api import Generation, Segment
from headwater.views.catalog import Catalog, Changes, active_of
from headwater.views.model import ReadModel

Work = Callable[[Any], Any]
"""What is done on a connection; of an engine whose driver waits, a coroutine."""


class SqlViewStore:
    """The half of a `ViewStore` that has no documents.

    Attributes:
        generations_sql: the engine's module ``generations``.
        segments_sql: the engine's module ``segments``.
    """

    generations_sql: Any
    segments_sql: Any

    def _read(self, work: Work) -> Awaitable[Any]:
        """Run work that reads some rows."""
        raise NotImplementedError

    def _read_whole(self, work: Work) -> Awaitable[Any]:
        """Run work that reads, all of it the same committed state."""
        raise NotImplementedError

    def _write(self, work: Work) -> Awaitable[Any]:
        """Run work in a transaction of its own, after the one that is open now."""
        raise NotImplementedError

    def _now(self) -> float | None:
        """Return the time; None: the database knows it."""
        raise NotImplementedError

    async def ensure(
        self,
        views: Sequence[ReadModel],
        *,
        generation: int | None = None,
        processor: str = "",
    ) -> None:
        """See `ViewStore.ensure`."""

        def wanted(catalog: Catalog, _: float) -> tuple[Changes, None]:
            return catalog.ensure(views, generation, processor), None

        known = await self._read_whole(self.generations_sql.catalog_of)
        if wanted(known, 0.0)[0]:
            await self._decide(processor, wanted)

    async def generation(self, processor: str, *, code: str = "") -> int:
        """See `ViewStore.generation`."""
        found = await self.generations(processor)
        return active_of([g for g in found if code and g.code == code] or found)

    async def generations(self, processor: str = "") -> list[Generation]:
        """See `ViewStore.generations`."""
        found: list[Generation] = await self._read(
            lambda c: self.generations_sql.generations(c, processor)
        )
        return found

    async def settle_generation(self, processor: str, code: str, views: Sequence[ReadModel]) -> int:
        """See `ViewStore.settle_generation`."""
        found: int = await self._decide(
            processor, lambda known, now: known.settle(processor, code, views, now=now)
        )
        return found

    async def next_generation(
        self, processor: str, code: str, views: Sequence[ReadModel], *, after: int
    ) -> int:
        """See `ViewStore.next_generation`."""
        found: int = await self._decide(
            processor, lambda known, now: known.next(processor, code, views, after=after, now=now)
        )
        return found

    async def use_generation(self, processor: str, generation: int) -> None:
        """See `ViewStore.use_generation`."""
        await self._write(
            lambda c: self.generations_sql.use(c, processor, generation, now=self._now())
        )

    async def drop_unused(self, processor: str, *, code: str, idle_s: float) -> list[int]:
        """See `ViewStore.drop_unused`."""
        gone: list[int] = await self._change(
            lambda c: self.generations_sql.drop_unused(
                c, processor, code=code, idle_s=idle_s, now=self._now()
            )
        )
        return gone

    async def activate(
        self, processor: str, generation: int, views: Sequence[ReadModel], *, code: str = ""
    ) -> None:
        """See `ViewStore.activate`."""

        def wanted(known: Catalog, now: float) -> tuple[Changes, None]:
            return known.activate(processor, generation, views, code=code, now=now), None

        await self._decide(processor, wanted)

    async def drop_generation(
        self, processor: str, generation: int, views: Sequence[ReadModel]
    ) -> bool:
        """See `ViewStore.drop_generation`."""
        gone: bool = await self._change(
            lambda c: self.generations_sql.drop(c, processor, generation, views, now=self._now())
        )
        return gone

    async def open_segments(
        self, processor: str, *, count: int, token: str, generation: int
    ) -> list[Segment]:
        """See `ViewStore.open_segments`."""
        found: list[Segment] = await self._write(
            lambda c: self.generations_sql.open_segments(
                c, processor, count=count, token=token, generation=generation
            )
        )
        return found

    async def segments(self, processor: str = "") -> list[Segment]:
        """See `ViewStore.segments`."""
        found: list[Segment] = await self._read(
            lambda c: self.segments_sql.list_segments(c, processor)
        )
        return found

    async def claim(
        self, segment: Segment, *, owner: str, lease_s: float, restarted: bool = False
    ) -> Segment | None:
        """See `ViewStore.claim`."""
        claimed: Segment | None = await self._write(
            lambda c: self.segments_sql.claim(
                c, segment, owner=owner, lease_s=lease_s, now=self._now(), restarted=restarted
            )
        )
        return claimed

    async def renew(self, segments: Sequence[Segment], *, lease_s: float) -> list[Segment]:
        """See `ViewStore.renew`."""
        renewed: list[Segment] = await self._write(
            lambda c: self.segments_sql.renew(c, segments, lease_s=lease_s, now=self._now())
        )
        return renewed

    async def release(self, segments: Sequence[Segment]) -> None:
        """See `ViewStore.release`."""
        await self._write(lambda c: self.segments_sql.release(c, segments))

    async def reset(self, processor: str, *, token: str, generation: int) -> None:
        """See `ViewStore.reset`."""
        await self._write(
            lambda c: self.segments_sql.reset(c, processor, token=token, generation=generation)
        )

    def _change(self, work: Work) -> Awaitable[Any]:
        """Do something that may drop tables; on what is decided anew each time it is tried."""
        return self._write(work)

    def _decide(
        self, processor: str, decide: Callable[[Catalog, float], tuple[Changes, Any]]
    ) -> Awaitable[Any]:
        """Decide about generations, and carry that out, in one transaction."""
        return self._change(
            lambda c: self.generations_sql.decide(c, processor, decide, now=self._now())
        )
