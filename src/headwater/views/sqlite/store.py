"""Views in a SQLite file that the processes of one machine share.

Reads go to connections of their own and see what is committed; all writes go through one
connection, one transaction at a time. Between processes SQLite's write lock does the same.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import apsw

from headwater._sql.resources import script
from headwater._sql.sqlite import clock as sqlite_clock
from headwater._sql.sqlite.database import Database
from headwater._sql.sqlite.owner import owner, settle_owner
from headwater._sql.sqlite.wake import Pace
from headwater.errors import StoreUnavailable
from headwater.messages import Textual
from headwater.views.api import Generation, Segment, ViewPage
from headwater.views.catalog import Catalog, Changes, active_of
from headwater.views.doubts import Doubts
from headwater.views.exclusive import Exclusive
from headwater.views.model import View, key_text, key_texts
from headwater.views.selection import select
from headwater.views.sqlite import generations as generations_sql
from headwater.views.sqlite import segments as segments_sql
from headwater.views.sqlite.generations import Generations
from headwater.views.sqlite.tables import Table
from headwater.views.sqlite.transaction import SQLiteViewTransaction
from headwater.views.sqlite.writer import Writer

V = TypeVar("V", bound=View)
T = TypeVar("T")

_ROOM = "views"
_MIGRATIONS = ("schema_1.sql",)
_DIRECT_KEYS_MAX = 20


class SQLiteViewStore:
    """A `ViewStore` in one file; use `open`."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        clock: Callable[[], float],
    ) -> None:
        """Take over an open database; use `open`."""
        self._database = database
        self._writer = writer
        self._clock = clock
        self._known = Generations()
        self._writing = Exclusive(str(database.path))
        self._doubts = Doubts()
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        clock: Callable[[], float] | None = None,
        busy_timeout_s: float = 10.0,
    ) -> Self:
        """Open the store in a file, which is made if missing.

        Args:
            path: the file.
            clock: tells when leases end, seconds since 1970 UTC; the same for all who share it.
                None: that of the file, see `headwater._sql.sqlite.clock`.
            busy_timeout_s: how long to wait while another process writes.

        Raises:
            SchemaTooNew, StoreUnavailable, StoreCorrupt, DiskFull: nothing was changed.
        """
        database = await Database.open(
            path,
            room=_ROOM,
            migrations=[script("headwater.views.sqlite", name) for name in _MIGRATIONS],
            busy_timeout_s=busy_timeout_s,
        )
        try:
            ticks = clock if clock is not None else await database.write(sqlite_clock.settled)
            writer = await Writer.open(database, busy_timeout_s=busy_timeout_s)
        except BaseException:
            await database.close()
            raise
        return cls(database, writer, ticks)

    async def ensure(
        self,
        views: Sequence[type[View]],
        *,
        generation: int | None = None,
        processor: str = "",
    ) -> None:
        """See `ViewStore.ensure`."""

        def wanted(catalog: Catalog) -> tuple[Changes, None]:
            return catalog.ensure(views, generation, processor), None

        known = await self._database.read_transaction(generations_sql.catalog_of)
        if wanted(known)[0]:
            await self._change(processor, wanted)

    async def get(self, view: type[V], key: Textual, *, generation: int = 0) -> V | None:
        """See `ViewStore.get`."""
        text = key_text(key)

        def point(connection: apsw.Connection, table: Table) -> Any:
            document = connection.execute(table.get, (text,)).get
            return None if document is None else table.kind.decode(document)

        found: V | None = await self._database.read_here(
            lambda c: self._known.with_table(
                c, view, lambda table: point(c, table), generation=generation
            )
        )
        return found

    async def get_many(
        self, view: type[V], keys: Sequence[Textual], *, generation: int = 0
    ) -> dict[str, V]:
        """See `ViewStore.get_many`."""
        texts = key_texts(keys)

        def work(connection: apsw.Connection) -> dict[str, V]:
            return self._known.with_table(
                connection,
                view,
                lambda table: table.load_many(connection, texts),
                generation=generation,
            )

        if len(keys) <= _DIRECT_KEYS_MAX:
            return await self._database.read_here(work)
        return await self._database.read(work)

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
        return await self._database.read_transaction(
            lambda reader: self._known.with_table(
                reader,
                view,
                lambda table: table.find(reader, selection),
                generation=generation,
            )
        )

    async def count(
        self, view: type[View], *, where: Mapping[str, Any] | None = None, generation: int = 0
    ) -> int:
        """See `ViewStore.count`."""
        selection = select(view, where=where)
        return await self._database.read(
            lambda reader: self._known.with_table(
                reader,
                view,
                lambda table: table.count(reader, selection),
                generation=generation,
            )
        )

    @contextlib.asynccontextmanager
    async def transaction(
        self, *, generations: Mapping[str, int] | None = None, synced: bool = False
    ) -> AsyncIterator[SQLiteViewTransaction]:
        """See `ViewStore.transaction`."""
        async with self._writing:
            work = SQLiteViewTransaction(
                self._writer,
                self._known,
                generations or {},
                doubts=self._doubts,
                store=str(self._database.path),
                synced=synced,
            )
            try:
                yield work
                await work.commit()
            except BaseException:
                with contextlib.suppress(StoreUnavailable):  # closed: nothing to roll back
                    await work.roll_back()
                raise

    async def generation(self, processor: str, *, code: str = "") -> int:
        """See `ViewStore.generation`."""
        found = await self.generations(processor)
        return active_of([g for g in found if code and g.code == code] or found)

    async def generations(self, processor: str = "") -> list[Generation]:
        """See `ViewStore.generations`."""
        return await self._database.read_here(lambda c: generations_sql.generations(c, processor))

    async def settle_generation(
        self, processor: str, code: str, views: Sequence[type[View]]
    ) -> int:
        """See `ViewStore.settle_generation`."""
        return await self._change(
            processor, lambda known: known.settle(processor, code, views, now=self._clock())
        )

    async def next_generation(
        self, processor: str, code: str, views: Sequence[type[View]], *, after: int
    ) -> int:
        """See `ViewStore.next_generation`."""
        return await self._change(
            processor,
            lambda known: known.next(processor, code, views, after=after, now=self._clock()),
        )

    async def use_generation(self, processor: str, generation: int) -> None:
        """See `ViewStore.use_generation`."""
        await self._write(
            lambda w: generations_sql.use(w, processor, generation, now=self._clock())
        )

    async def drop_unused(self, processor: str, *, code: str, idle_s: float) -> list[int]:
        """See `ViewStore.drop_unused`."""

        def work(writer: apsw.Connection) -> list[int]:
            now, catalog = self._clock(), generations_sql.catalog_of(writer)
            idle = catalog.unused(processor, code, before=now - idle_s)
            gone = [n for n in idle if not segments_sql.is_held(writer, processor, n, now=now)]
            for number in gone:
                changes = catalog.drop_for_good(processor, number)
                generations_sql.change(writer, processor, changes)
            return gone

        return await self._write(work)

    async def activate(
        self, processor: str, generation: int, views: Sequence[type[View]], *, code: str = ""
    ) -> None:
        """See `ViewStore.activate`."""
        await self._change(
            processor,
            lambda known: (
                known.activate(processor, generation, views, code=code, now=self._clock()),
                None,
            ),
        )

    async def drop_generation(
        self, processor: str, generation: int, views: Sequence[type[View]]
    ) -> bool:
        """See `ViewStore.drop_generation`."""

        def work(writer: apsw.Connection) -> bool:
            changes = generations_sql.catalog_of(writer).drop(processor, generation, views)
            now = self._clock()
            gone = not segments_sql.is_held(writer, processor, generation, now=now)
            if gone:
                generations_sql.change(writer, processor, changes)
            return gone

        return await self._write(work)

    async def open_segments(
        self, processor: str, *, count: int, token: str, generation: int
    ) -> list[Segment]:
        """See `ViewStore.open_segments`."""

        def work(writer: apsw.Connection) -> list[Segment]:
            found = segments_sql.of_generation(writer, processor, generation)
            if found or generations_sql.catalog_of(writer).is_dropped(processor, generation):
                return found
            return segments_sql.make(
                writer, processor, count=count, token=token, generation=generation
            )

        return await self._write(work)

    async def segments(self, processor: str = "") -> list[Segment]:
        """See `ViewStore.segments`."""
        return await self._database.read_here(lambda c: segments_sql.list_segments(c, processor))

    async def now(self) -> float:
        """See `ViewStore.now`."""
        return self._clock()

    async def claim(
        self, segment: Segment, *, owner: str, lease_s: float, restarted: bool = False
    ) -> Segment | None:
        """See `ViewStore.claim`."""
        return await self._write(
            lambda w: segments_sql.claim(
                w, segment, owner=owner, lease_s=lease_s, now=self._clock(), restarted=restarted
            )
        )

    async def renew(self, segments: Sequence[Segment], *, lease_s: float) -> list[Segment]:
        """See `ViewStore.renew`."""
        return await self._write(
            lambda w: segments_sql.renew(w, segments, lease_s=lease_s, now=self._clock())
        )

    async def release(self, segments: Sequence[Segment]) -> None:
        """See `ViewStore.release`."""
        await self._write(lambda w: segments_sql.release(w, segments))

    async def reset(self, processor: str, *, token: str, generation: int) -> None:
        """See `ViewStore.reset`."""
        await self._write(
            lambda w: segments_sql.reset(w, processor, token=token, generation=generation)
        )

    async def changes(self) -> AsyncIterator[None]:
        """See `ViewStore.changes`."""
        wake = self._database.wake
        pace = Pace()
        while not self._closed:
            ticket = wake.ticket()  # before the caller looks, so that nothing is missed
            yield
            await wake.wait(ticket)
            await pace.keep()

    async def owner(self) -> str:
        """See `ViewStore.owner`."""
        return await self._database.read(lambda reader: owner(reader, _ROOM))

    async def settle_owner(self, service: str) -> str:
        """See `ViewStore.settle_owner`."""
        return await self._write(lambda writer: settle_owner(writer, _ROOM, service))

    async def close(self) -> None:
        """See `ViewStore.close`."""
        self._closed = True
        await self._database.close()
        await self._writer.close()

    async def _change(self, processor: str, decide: Callable[[Catalog], tuple[Changes, T]]) -> T:
        """Decide about generations, and carry that out, in one transaction."""

        def work(writer: apsw.Connection) -> T:
            changes, result = decide(generations_sql.catalog_of(writer))
            generations_sql.change(writer, processor, changes)
            return result

        return await self._write(work)

    async def _write(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run work in a transaction of its own, after the one that is open now."""
        async with self._writing:
            return await self._writer.transact(work)
