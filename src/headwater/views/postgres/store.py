"""Views in a PostgreSQL schema that the processes of any number of machines share.

Transactions of one store take turns; those of several processes run at the same time and wait for
each other only where they touch the same segments or documents.
"""

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

from headwater._sql.postgres.commits import finished, roll_back
from headwater._sql.postgres.database import Database
from headwater._sql.postgres.errors import translated
from headwater._sql.postgres.owner import owner, settle_owner
from headwater._sql.resources import script
from headwater.errors import StoreUnavailable
from headwater.messages import Textual
from headwater.views.api import Generation, Segment, ViewPage
from headwater.views.catalog import Catalog, Changes, active_of
from headwater.views.doubts import Claim, Doubts
from headwater.views.exclusive import Exclusive
from headwater.views.model import View, key_text, key_texts
from headwater.views.postgres import generations as generations_sql
from headwater.views.postgres import segments as segments_sql
from headwater.views.postgres.generations import Generations
from headwater.views.postgres.points import Points
from headwater.views.postgres.tables import Table, escape_all
from headwater.views.postgres.transaction import PostgresViewTransaction
from headwater.views.selection import select

V = TypeVar("V", bound=View)
T = TypeVar("T")

_ROOM = "views"
_MIGRATIONS = ("schema_1.sql",)
_STEPS_MAX = 4096


class PostgresViewStore:
    """A `ViewStore` in one schema; use `open`."""

    def __init__(self, database: Database, clock: Callable[[], float] | None) -> None:
        """Take over an open database; use `open`."""
        self._database = database
        self._clock = clock
        self._known = Generations()
        self._points: dict[tuple[type[View], int], Points] = {}
        self._writing = Exclusive(database.name)
        self._doubts = Doubts()
        self._steps: dict[Claim, int] = {}
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Callable[[], float] | None = None,
        schema: str = "headwater",
        connections: int = 4,
        lock_timeout_s: float = 5.0,
    ) -> Self:
        """Open the store in a schema, which is made if missing.

        Args:
            url: ``postgresql://user:password@host:port/database?schema=accounts``.
            clock: tells when leases end, seconds since 1970 UTC; all who share the store must
                agree on it. None: the database's clock, so that machines need not agree.
            schema: used when the URL names none. Who shares a schema shares the work.
            connections: how many at most, besides the one for wake-ups.
            lock_timeout_s: how long to wait for segments and documents that others work on.

        Raises:
            ConfigurationError: the URL is wrong.
            SchemaTooNew, StoreUnavailable, DiskFull: nothing was changed.
        """
        database = await Database.open(
            url,
            room=_ROOM,
            migrations=[script("headwater.views.postgres", name) for name in _MIGRATIONS],
            schema=schema,
            connections=connections,
            lock_timeout_s=lock_timeout_s,
        )
        return cls(database, clock)

    async def ensure(
        self,
        views: Sequence[type[View]],
        *,
        generation: int | None = None,
        processor: str = "",
    ) -> None:
        """See `ViewStore.ensure`."""

        def wanted(catalog: Catalog, _: float) -> tuple[Changes, None]:
            return catalog.ensure(views, generation, processor), None

        known = await self._database.read_transaction(generations_sql.catalog_of)
        if wanted(known, 0.0)[0]:
            await self._change(processor, wanted)

    async def get(self, view: type[V], key: Textual, *, generation: int = 0) -> V | None:
        """See `ViewStore.get`."""
        text = key_text(key)
        if text is None:
            return None
        points = self._points.get((view, generation))
        if points is None:
            fetch = functools.partial(self._on_table, view, generation)
            points = self._points[view, generation] = Points(fetch)
        found: V | None = await points.get(text)
        return found

    async def get_many(
        self, view: type[V], keys: Sequence[Textual], *, generation: int = 0
    ) -> dict[str, V]:
        """See `ViewStore.get_many`."""
        stored = escape_all(key_texts(keys))

        async def points(connection: Any, target: Table) -> dict[str, V]:
            return target.documents(await connection.fetch(target.load, stored))

        return await self._on_table(view, generation, points)

    async def find(
        self,
        view: type[V],
        *,
        where: Mapping[str, Any] | None = None,
        order_by: str = "",
        descending: bool = False,
        limit: int = 100,
        cursor: str = "",
        generation: int = 0,
    ) -> ViewPage:
        """See `ViewStore.find`."""
        selection = select(
            view,
            where=where,
            order_by=order_by,
            descending=descending,
            limit=limit,
            cursor=cursor,
        )

        async def page(connection: Any, target: Table) -> ViewPage:
            sql, values = target.find(selection)
            return target.page(selection, await connection.fetch(sql, *values))

        return await self._on_table(view, generation, page)

    async def count(
        self, view: type[View], *, where: Mapping[str, Any] | None = None, generation: int = 0
    ) -> int:
        """See `ViewStore.count`."""
        selection = select(view, where=where)

        async def number(connection: Any, target: Table) -> int:
            sql, values = target.count(selection)
            return int(await connection.fetchval(sql, *values))

        return await self._on_table(view, generation, number)

    @contextlib.asynccontextmanager
    async def transaction(
        self,
        *,
        generations: Mapping[str, int] | None = None,
        synced: bool = False,  # noqa: ARG002  # the server syncs every commit
    ) -> AsyncIterator[PostgresViewTransaction]:
        """See `ViewStore.transaction`, and `PostgresViewTransaction` about several processes."""
        async with self._writing, self._database.borrowed() as connection:
            work = PostgresViewTransaction(
                self._database.name,
                connection,
                self._known,
                generations or {},
                doubts=self._doubts,
                steps=self._steps,
            )
            try:
                with translated(self._database.name, outcome="not stored"):
                    await finished(connection.execute("BEGIN"))
                yield work
                work.end()
                await finished(self._commit(connection, work))
            except BaseException:
                await roll_back(connection)
                raise

    async def generation(self, processor: str, *, code: str = "") -> int:
        """See `ViewStore.generation`."""
        found = await self.generations(processor)
        return active_of([g for g in found if code and g.code == code] or found)

    async def generations(self, processor: str = "") -> list[Generation]:
        """See `ViewStore.generations`."""
        return await self._database.read(lambda c: generations_sql.generations(c, processor))

    async def settle_generation(
        self, processor: str, code: str, views: Sequence[type[View]]
    ) -> int:
        """See `ViewStore.settle_generation`."""
        return await self._change(
            processor, lambda known, now: known.settle(processor, code, views, now=now)
        )

    async def next_generation(
        self, processor: str, code: str, views: Sequence[type[View]], *, after: int
    ) -> int:
        """See `ViewStore.next_generation`."""
        return await self._change(
            processor, lambda known, now: known.next(processor, code, views, after=after, now=now)
        )

    async def use_generation(self, processor: str, generation: int) -> None:
        """See `ViewStore.use_generation`."""
        await self._write(lambda c: generations_sql.use(c, processor, generation, now=self._now()))

    async def drop_unused(self, processor: str, *, code: str, idle_s: float) -> list[int]:
        """See `ViewStore.drop_unused`."""

        async def work(connection: Any) -> list[int]:
            await generations_sql.lock(connection)
            catalog = await generations_sql.catalog_of(connection)
            now = await generations_sql.time_of(connection, self._now())
            gone = []
            for number in catalog.unused(processor, code, before=now - idle_s):
                if not await segments_sql.is_held(connection, processor, number, now=now):
                    changes = catalog.drop_for_good(processor, number)
                    await generations_sql.change(connection, processor, changes)
                    gone.append(number)
            return gone

        return await self._write(work)

    async def activate(
        self, processor: str, generation: int, views: Sequence[type[View]], *, code: str = ""
    ) -> None:
        """See `ViewStore.activate`."""
        await self._change(
            processor,
            lambda known, now: (
                known.activate(processor, generation, views, code=code, now=now),
                None,
            ),
        )

    async def drop_generation(
        self, processor: str, generation: int, views: Sequence[type[View]]
    ) -> bool:
        """See `ViewStore.drop_generation`."""

        async def work(connection: Any) -> bool:
            await generations_sql.lock(connection)
            catalog = await generations_sql.catalog_of(connection)
            changes = catalog.drop(processor, generation, views)
            held = await segments_sql.is_held(connection, processor, generation, now=self._now())
            if not held:
                await generations_sql.change(connection, processor, changes)
            return not held

        return await self._write(work)

    async def open_segments(
        self, processor: str, *, count: int, token: str, generation: int
    ) -> list[Segment]:
        """See `ViewStore.open_segments`."""

        async def work(connection: Any) -> list[Segment]:
            await generations_sql.lock(connection)
            found = await segments_sql.of_generation(connection, processor, generation)
            catalog = await generations_sql.catalog_of(connection)
            if found or catalog.is_dropped(processor, generation):
                return found
            return await segments_sql.make(
                connection, processor, count=count, token=token, generation=generation
            )

        return await self._write(work)

    async def segments(self, processor: str = "") -> list[Segment]:
        """See `ViewStore.segments`."""
        return await self._database.read(lambda c: segments_sql.list_segments(c, processor))

    async def now(self) -> float:
        """See `ViewStore.now`."""
        return await self._database.now() if self._clock is None else self._clock()

    async def claim(
        self, segment: Segment, *, owner: str, lease_s: float, restarted: bool = False
    ) -> Segment | None:
        """See `ViewStore.claim`."""
        return await self._write(
            lambda c: segments_sql.claim(
                c, segment, owner=owner, lease_s=lease_s, now=self._now(), restarted=restarted
            )
        )

    async def renew(self, segments: Sequence[Segment], *, lease_s: float) -> list[Segment]:
        """See `ViewStore.renew`."""
        return await self._write(
            lambda c: segments_sql.renew(c, segments, lease_s=lease_s, now=self._now())
        )

    async def release(self, segments: Sequence[Segment]) -> None:
        """See `ViewStore.release`."""
        await self._write(lambda c: segments_sql.release(c, segments))

    async def reset(self, processor: str, *, token: str, generation: int) -> None:
        """See `ViewStore.reset`."""

        async def work(connection: Any) -> None:
            await generations_sql.lock(connection)
            await segments_sql.reset(connection, processor, token=token, generation=generation)

        await self._write(work)

    async def changes(self) -> AsyncIterator[None]:
        """See `ViewStore.changes`."""
        wake = self._database.wake
        while not self._closed:
            ticket = wake.ticket()  # before the caller looks, so that nothing is missed
            yield
            await wake.wait(ticket)

    async def owner(self) -> str:
        """See `ViewStore.owner`."""
        return await self._database.read(lambda connection: owner(connection, _ROOM))

    async def settle_owner(self, service: str) -> str:
        """See `ViewStore.settle_owner`."""
        schema = self._database.place.schema
        return await self._write(lambda c: settle_owner(c, _ROOM, schema, service))

    async def close(self) -> None:
        """See `ViewStore.close`."""
        self._closed = True
        await self._database.close()

    def _now(self) -> float | None:
        return None if self._clock is None else self._clock()

    async def _on_table(
        self, view: type[View], generation: int, work: Callable[[Any, Table], Awaitable[T]]
    ) -> T:
        """Read from the table of a generation."""
        return await self._database.read(
            lambda connection: self._known.with_table(
                connection,
                view,
                lambda target: work(connection, target),
                generation=generation,
            )
        )

    async def _change(
        self, processor: str, decide: Callable[[Catalog, float], tuple[Changes, T]]
    ) -> T:
        """Decide about generations, and carry that out, in one transaction."""

        async def work(connection: Any) -> T:
            await generations_sql.lock(connection)
            now = await generations_sql.time_of(connection, self._now())
            changes, result = decide(await generations_sql.catalog_of(connection), now)
            await generations_sql.change(connection, processor, changes)
            return result

        return await self._write(work)

    async def _write(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run work in a transaction of its own, after the one that is open now."""

        async def transact() -> T:
            async with self._database.transaction() as connection:
                result = await work(connection)
            self._database.notify()
            return result

        async with self._writing:
            return await finished(transact())

    async def _commit(self, connection: Any, work: PostgresViewTransaction) -> None:
        """Commit; when nobody can say what became of it, the claims that it moves on are lost.

        Whoever claims them anew reads their tokens anew.
        """
        proof = work.proof
        look = None if proof is None else functools.partial(segments_sql.outcome, proof=proof)
        try:
            with translated(self._database.name, outcome="not stored"):
                await self._database.commits.commit(connection, look)
        except StoreUnavailable as error:
            if error.outcome == "unknown":
                self._doubts.add(work.steps)
            raise
        if len(self._steps) > _STEPS_MAX:  # of former claims; without a count nothing is compared
            self._steps.clear()
        self._steps |= work.steps
        self._database.notify()
