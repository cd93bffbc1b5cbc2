"""Views in memory: for tests, and for caches that each process keeps for itself.

Documents are stored encoded, so that nobody can change them from outside a transaction. A find
looks at every document; use it for some thousands.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, Unpack

import msgspec

from headwater.errors import ClaimLost, StoreUnavailable
from headwater.messages import Textual
from headwater.views.api import Generation, Segment, Sql, ViewPage
from headwater.views.catalog import Catalog, Changes
from headwater.views.checks import check_whole, missing, no_sql
from headwater.views.conditions import Where
from headwater.views.exclusive import Exclusive
from headwater.views.memory.find import Row, Table, matching_rows, page_of
from headwater.views.model import ReadModel, View, ViewType, key_text, key_texts, view_type
from headwater.views.selection import Asked, select
from headwater.views.sql_tables import SqlTable

V = TypeVar("V", bound=View)
TableId = tuple[str, int]
SegmentId = tuple[str, int, int, int]

_NAME = "memory"


class MemoryViewStore:
    """A `ViewStore` of one process that is gone with it."""

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        """Start empty; leases end by this clock (seconds since 1970 UTC), or one never set."""
        began = time.time() - time.monotonic()  # noqa: TID251  # the clock of the store
        self._clock = clock or (lambda: began + time.monotonic())
        self._tables: dict[TableId, Table] = {}
        self._catalog = Catalog(last={})
        self._segments: dict[SegmentId, Segment] = {}
        self._fences: dict[str, int] = {}  # of processors: the highest one of dropped segments
        self._writing = Exclusive(_NAME)
        self._waiting: set[asyncio.Event] = set()
        self._owner = ""
        self._closed = False

    async def ensure(
        self,
        views: Sequence[ReadModel],
        *,
        generation: int | None = None,
        processor: str = "",
    ) -> None:
        """See `ViewStore.ensure`."""
        if any(issubclass(view, SqlTable) for view in views):
            raise no_sql()
        async with self._write():
            self._change(processor, self._known().ensure(views, generation, processor))

    async def get(self, view: type[V], key: Textual, *, generation: int = 0) -> V | None:
        """See `ViewStore.get`."""
        kind, table = self._reading(view, generation)
        text = key_text(key)
        found = None if text is None else table.get(text)
        return None if found is None else kind.decode(found[1])

    async def get_many(
        self, view: type[V], keys: Sequence[Textual], *, generation: int = 0
    ) -> dict[str, V]:
        """See `ViewStore.get_many`."""
        kind, table = self._reading(view, generation)
        return {key: kind.decode(table[key][1]) for key in key_texts(keys) if key in table}

    async def find(self, view: type[V], *, generation: int = 0, **query: Unpack[Asked]) -> ViewPage:
        """See `ViewStore.find`."""
        return page_of(select(view, **query), self._reading(view, generation)[1])

    def sql(
        self,
        *tables: type[SqlTable],  # noqa: ARG002  # there are none
        generations: Mapping[str, int] | None = None,  # noqa: ARG002  # nor these
    ) -> AbstractAsyncContextManager[Sql]:
        """See `ViewStore.sql`."""
        raise no_sql()

    async def count(
        self,
        view: type[View],
        *,
        where: Where | None = None,
        matching: str = "",
        generation: int = 0,
    ) -> int:
        """See `ViewStore.count`."""
        selection = select(view, where=where, matching=matching)
        return len(matching_rows(selection, self._reading(view, generation)[1]))

    @asynccontextmanager
    async def transaction(
        self,
        *,
        generations: Mapping[str, int] | None = None,
        synced: bool = False,  # noqa: ARG002  # nothing outlives the process
    ) -> AsyncIterator["MemoryViewTransaction"]:
        """See `ViewStore.transaction`."""
        async with self._write():
            work = MemoryViewTransaction(self, generations or {})
            yield work
            work.commit()

    async def generation(self, processor: str, *, code: str = "") -> int:
        """See `ViewStore.generation`."""
        self._check_open()
        return self._catalog.active(processor, code)

    async def generations(self, processor: str = "") -> list[Generation]:
        """See `ViewStore.generations`."""
        self._check_open()
        every = sorted(self._catalog.generations.items())
        return [g for (name, _), g in every if processor in {"", name}]

    async def settle_generation(self, processor: str, code: str, views: Sequence[ReadModel]) -> int:
        """See `ViewStore.settle_generation`."""
        async with self._write():
            found = self._known().settle(processor, code, views, now=self._clock())
            return self._change(processor, *found)

    async def next_generation(
        self, processor: str, code: str, views: Sequence[ReadModel], *, after: int
    ) -> int:
        """See `ViewStore.next_generation`."""
        async with self._write():
            known, now = self._known(), self._clock()
            changes, number = known.next(processor, code, views, after=after, now=now)
            return self._change(processor, changes, number)

    async def use_generation(self, processor: str, generation: int) -> None:
        """See `ViewStore.use_generation`."""
        async with self._write():
            known = self._catalog.generations.get((processor, generation))
            if known is not None:
                used = msgspec.structs.replace(known, used=self._clock())
                self._catalog.generations[processor, generation] = used

    async def drop_unused(self, processor: str, *, code: str, idle_s: float) -> list[int]:
        """See `ViewStore.drop_unused`."""
        async with self._write():
            before = self._clock() - idle_s
            idle = self._catalog.unused(processor, code, before=before)
            gone = [number for number in idle if not self._is_held(processor, number)]
            for number in gone:
                self._change(processor, self._known().drop_for_good(processor, number))
            return gone

    async def activate(
        self, processor: str, generation: int, views: Sequence[ReadModel], *, code: str = ""
    ) -> None:
        """See `ViewStore.activate`."""
        async with self._write():
            now = self._clock()
            changes = self._known().activate(processor, generation, views, code=code, now=now)
            self._change(processor, changes)

    async def drop_generation(
        self, processor: str, generation: int, views: Sequence[ReadModel]
    ) -> bool:
        """See `ViewStore.drop_generation`."""
        async with self._write():
            changes = self._known().drop(processor, generation, views)
            gone = not self._is_held(processor, generation)
            if gone:
                self._change(processor, changes)
            return gone

    async def open_segments(
        self, processor: str, *, count: int, token: str, generation: int
    ) -> list[Segment]:
        """See `ViewStore.open_segments`."""
        async with self._write():
            found = self.segments_of(processor, generation)
            if not found and not self._catalog.is_dropped(processor, generation):
                fence = self._fences.get(processor, 0)
                found = [
                    Segment(processor, generation, i, count, token, fence=fence)
                    for i in range(count)
                ]
                self._segments.update({_id(segment): segment for segment in found})
            return found

    async def segments(self, processor: str = "") -> list[Segment]:
        """See `ViewStore.segments`."""
        self._check_open()
        return sorted(
            (s for s in self._segments.values() if processor in {"", s.processor}), key=_id
        )

    async def now(self) -> float:
        """See `ViewStore.now`."""
        self._check_open()
        return self._clock()

    async def claim(
        self, segment: Segment, *, owner: str, lease_s: float, restarted: bool = False
    ) -> Segment | None:
        """See `ViewStore.claim`."""
        async with self._write():
            now = self._clock()
            found = self._segments.get(_id(segment))
            if found is None:
                return None
            mine = restarted and found.owner == owner
            if found.is_held(now) and not mine:
                return None
            return self._put(found, owner=owner, lease_until=now + lease_s, fence=found.fence + 1)

    async def renew(self, segments: Sequence[Segment], *, lease_s: float) -> list[Segment]:
        """See `ViewStore.renew`."""
        async with self._write():
            until = self._clock() + lease_s
            return [self._put(found, lease_until=until) for found in self.held(segments)]

    async def release(self, segments: Sequence[Segment]) -> None:
        """See `ViewStore.release`."""
        async with self._write():
            for found in self.held(segments):
                self._put(found, owner="", lease_until=0.0)

    async def reset(self, processor: str, *, token: str, generation: int) -> None:
        """See `ViewStore.reset`."""
        async with self._write():
            for key, found in list(self._segments.items()):
                if key[:2] == (processor, generation):
                    self._put(found, token=token, owner="", lease_until=0.0, fence=found.fence + 1)

    async def changes(self) -> AsyncIterator[None]:
        """See `ViewStore.changes`."""
        woken = asyncio.Event()
        woken.set()
        self._waiting.add(woken)
        try:
            while not self._closed:
                await woken.wait()
                woken.clear()
                if not self._closed:
                    yield
        finally:
            self._waiting.discard(woken)

    async def owner(self) -> str:
        """See `ViewStore.owner`."""
        self._check_open()
        return self._owner

    async def settle_owner(self, service: str) -> str:
        """See `ViewStore.settle_owner`."""
        async with self._write():
            self._owner = self._owner or service
            return self._owner

    async def close(self) -> None:
        """See `ViewStore.close`."""
        self._closed = True
        self._notify()

    def table(self, name: str, generation: int = 0) -> Table:
        """Return the documents of a view type in a generation (0: the active one)."""
        generation = generation or self.active(name)
        found = self._tables.get((name, generation))
        if found is None:
            raise missing(name, generation)
        return found

    def held(self, segments: Iterable[Segment]) -> list[Segment]:
        """Return as they are now those segments whose claim is still the given one."""
        now = ((s, self._segments.get(_id(s))) for s in segments)
        return [
            found
            for claim, found in now
            if found is not None
            and found.owner
            and (found.fence, found.owner) == (claim.fence, claim.owner)
        ]

    def _known(self) -> Catalog:
        self._catalog.segments = {key[:2] for key in self._segments}
        return self._catalog

    def _is_held(self, processor: str, generation: int) -> bool:
        now = self._clock()
        of = self.segments_of(processor, generation)
        return any(segment.is_held(now) for segment in of)

    def _change(self, processor: str, changes: Changes, result: int = 0) -> int:
        known = self._catalog
        for shape in changes.drop:
            self._tables.pop((shape.name, shape.generation), None)
            known.shapes.pop((shape.name.casefold(), shape.generation), None)
        made = [shape for _, shape in changes.create]
        for shape in (*made, *changes.own):
            known.shapes[shape.name.casefold(), shape.generation] = shape
            self._tables.setdefault((shape.name, shape.generation), {})
        for number in changes.ended:
            for segment in self.segments_of(processor, number):
                del self._segments[_id(segment)]
                self._fences[processor] = max(self._fences.get(processor, 0), segment.fence)
            known.generations.pop((processor, number), None)
        known.generations.update({(processor, g.number): g for g in changes.put})
        if changes.last:
            known.last = {**known.last, processor: changes.last}
        return result

    def _put(self, segment: Segment, **changes: Any) -> Segment:
        changed = msgspec.structs.replace(segment, **changes)
        self._segments[_id(segment)] = changed
        return changed

    def active(self, name: str) -> int:
        """Return the active generation of a view type."""
        return self._catalog.active_view(name)

    def segments_of(self, processor: str, generation: int) -> list[Segment]:
        """Return the segments of a generation, by index."""
        found = [s for key, s in self._segments.items() if key[:2] == (processor, generation)]
        return sorted(found, key=_id)

    def replace(self, segments: Sequence[Segment]) -> None:
        """Put these in the place of all segments of their generation."""
        former = self.segments_of(segments[0].processor, segments[0].generation)
        for segment in former:
            del self._segments[_id(segment)]
        self._segments.update({_id(segment): segment for segment in segments})

    def apply(
        self, changes: Mapping[TableId, Mapping[str, Row | None]], tokens: Mapping[SegmentId, str]
    ) -> None:
        """Make the work of a transaction visible, in one step."""
        for table_id, rows in changes.items():
            table = self._tables[table_id]
            for key, row in rows.items():
                if row is None:
                    table.pop(key, None)
                else:
                    table[key] = row
        for segment_id, token in tokens.items():
            self._put(self._segments[segment_id], token=token)

    def _reading(self, view: type[View], generation: int) -> tuple[ViewType, Table]:
        self._check_open()
        kind = view_type(view)
        return kind, self.table(kind.name, generation)

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[None]:
        self._check_open()
        async with self._writing:
            self._check_open()
            yield
            self._notify()

    def _notify(self) -> None:
        for event in self._waiting:
            event.set()

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open a new one"
            raise StoreUnavailable(store=_NAME, reason=reason, outcome="not stored")


class MemoryViewTransaction:
    """A `ViewTransaction`: changes are kept aside until the commit."""

    def __init__(self, store: MemoryViewStore, generations: Mapping[str, int]) -> None:
        """Begin."""
        self._store = store
        self._generations = generations
        self._changes: dict[TableId, dict[str, Row | None]] = {}
        self._tokens: dict[SegmentId, str] = {}
        self._replaced: dict[tuple[str, int], list[Segment]] = {}
        self._lost: ClaimLost | None = None

    async def load(self, view: type[V], keys: Sequence[Textual]) -> dict[str, V]:
        """See `ViewTransaction.load`."""
        kind = view_type(view)
        table, changes = self._table(kind)
        wanted = key_texts(keys)
        found = ((key, changes[key] if key in changes else table.get(key)) for key in wanted)
        return {key: kind.decode(row[1]) for key, row in found if row is not None}

    async def save(self, views: Sequence[View]) -> None:
        """See `ViewTransaction.save`."""
        kinds = [view_type(type(view)) for view in views]
        stored = [kind.stored(view) for kind, view in zip(kinds, views, strict=True)]
        for kind, (row, document) in zip(kinds, stored, strict=True):
            self._table(kind)[1][row[0]] = (row, document)

    async def delete(self, view: type[View], keys: Sequence[Textual]) -> None:
        """See `ViewTransaction.delete`."""
        self._table(view_type(view))[1].update(dict.fromkeys(key_texts(keys)))

    async def sql(self, *tables: type[SqlTable]) -> Sql:  # noqa: ARG002  # there are none
        """See `ViewTransaction.sql`."""
        raise no_sql()

    async def find(self, view: type[V], **query: Unpack[Asked]) -> ViewPage:
        """See `ViewTransaction.find`."""
        selection = select(view, **query)
        table, changes = self._table(selection.kind)
        merged = {**table, **changes}
        return page_of(selection, {key: row for key, row in merged.items() if row is not None})

    async def check(self) -> None:
        """See `ViewTransaction.check`."""
        if self._lost is not None:
            raise self._lost

    async def advance(self, segments: Sequence[Segment], token: str) -> None:
        """See `ViewTransaction.advance`."""
        held = {_id(segment) for segment in self._store.held(segments)}
        for segment in segments:
            replaced = (segment.processor, segment.generation) in self._replaced
            if replaced or _id(segment) not in held:
                self._lost = ClaimLost(processor=segment.processor, segment=segment.index)
                raise self._lost
        self._tokens.update(dict.fromkeys(held, token))

    async def segments(self, processor: str, *, generation: int) -> list[Segment]:
        """See `ViewTransaction.segments`."""
        replaced = self._replaced.get((processor, generation))
        if replaced is not None:
            return list(replaced)
        return [
            msgspec.structs.replace(s, token=self._tokens.get(_id(s), s.token))
            for s in self._store.segments_of(processor, generation)
        ]

    async def replace_segments(self, segments: Sequence[Segment]) -> None:
        """See `ViewTransaction.replace_segments`."""
        check_whole(segments)
        first = segments[0]
        former = await self.segments(first.processor, generation=first.generation)
        if not former:
            self._lost = ClaimLost(processor=first.processor, segment=first.index)
            raise self._lost
        fence = 1 + max(s.fence for s in former)
        self._tokens = {
            key: token
            for key, token in self._tokens.items()
            if key[:2] != (first.processor, first.generation)
        }
        self._replaced[first.processor, first.generation] = [
            msgspec.structs.replace(s, fence=fence) for s in sorted(segments, key=_id)
        ]

    def commit(self) -> None:
        """Make everything visible.

        Raises:
            ClaimLost: `advance` failed, even if the caller went on.
        """
        if self._lost is not None:
            raise self._lost
        for segments in self._replaced.values():
            self._store.replace(segments)
        self._store.apply(self._changes, self._tokens)

    def _table(self, kind: ViewType) -> tuple[Table, dict[str, Row | None]]:
        generation = self._generations.get(kind.name) or self._store.active(kind.name)
        table = self._store.table(kind.name, generation)
        return table, self._changes.setdefault((kind.name, generation), {})


def _id(segment: Segment) -> SegmentId:
    return (segment.processor, segment.generation, segment.index, segment.count)
