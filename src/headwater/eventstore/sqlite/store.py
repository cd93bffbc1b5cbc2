"""The event store in one SQLite file, shared by the processes of a machine."""

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import apsw
import msgspec

from headwater._sql.sqlite.connection import patience
from headwater._sql.sqlite.database import Database, script, transact
from headwater._sql.sqlite.owner import owner, settle_owner
from headwater._sql.sqlite.wake import Pace
from headwater.errors import HeadwaterError, Overloaded, StoreUnavailable
from headwater.eventstore.api import (
    EVERYTHING,
    WHOLE,
    AppendCondition,
    Appended,
    EventFilter,
    EventStore,
    Idempotency,
    Page,
    Pipeline,
    Shard,
    Snapshot,
    StoredEvent,
    StoredKey,
    StreamWrite,
)
from headwater.eventstore.checks import check_range, check_writes
from headwater.eventstore.sqlite.append import Appender
from headwater.eventstore.sqlite.batch import (
    Append,
    Refusal,
    Request,
    Save,
    Verdict,
    stored_outcomes,
)
from headwater.eventstore.sqlite.importing import keys_page
from headwater.eventstore.sqlite.known import SQL
from headwater.eventstore.sqlite.read import Found, PageQuery
from headwater.eventstore.sqlite.upkeep import (
    drop_snapshot,
    drop_snapshots,
    forget_keys,
    probe,
    read_snapshots,
)
from headwater.eventstore.times import machine_us
from headwater.messages import new_id

_BATCH_MAX = 1024
_HALVED_MIN = 64
_END = 2**63 - 1
_LIVE_MAX = 64
_MIGRATIONS = ("schema_1.sql",)
_ROOM = "eventstore"
_encode_shard = msgspec.json.Encoder().encode
_decode_shard = msgspec.json.Decoder(Shard).decode


class SQLiteEventStore:
    """An `EventStore` in a SQLite file. Several processes may open the same file at once."""

    def __init__(
        self,
        database: Database,
        epoch: str,
        *,
        busy_timeout_s: float,
        pending_max: int,
        clock: Callable[[], int],
    ) -> None:
        """Use `open`."""
        self._database = database
        self._epoch = epoch
        self._pending_max = pending_max
        self._pending: deque[Request] = deque()
        self._accepted = 0
        self._draining = False
        self._done: list[tuple[Sequence[Request], Sequence[Verdict]]] = []
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._appender = Appender(database.path, clock)
        self._patience = patience(busy_timeout_s)

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        readers: int = 2,
        busy_timeout_s: float = 5.0,
        pending_max: int = 10_000,
        clock: Callable[[], int] = machine_us,
    ) -> Self:
        """Open or make the store in a file.

        Args:
            path: the file; its directories are made if missing.
            readers: how many pages may be fetched at the same time.
            busy_timeout_s: how long to wait while another process holds the file locked.
            pending_max: how many appends may wait for their place in a transaction; more are
                refused with `Overloaded`.
            clock: gives microseconds UTC.

        Raises:
            SchemaTooNew: a newer version of Headwater wrote the file.
            StoreCorrupt: the file is not a database, or damaged.
            StoreUnavailable: the file cannot be opened, or stays locked.
            DiskFull: there is no room for it.
        """
        database = await Database.open(
            path,
            room=_ROOM,
            migrations=[script("headwater.eventstore.sqlite", file) for file in _MIGRATIONS],
            readers=readers,
            busy_timeout_s=busy_timeout_s,
        )
        try:
            epoch = await database.run(_epoch)
            store = cls(
                database,
                epoch,
                busy_timeout_s=busy_timeout_s,
                pending_max=pending_max,
                clock=clock,
            )
            await database.run(lambda writer: writer.set_busy_handler(store._wait))
        except BaseException:
            await database.close()
            raise
        return store

    @property
    def epoch(self) -> str:
        """See `EventStore.epoch`."""
        return self._epoch

    @property
    def shards(self) -> Sequence[EventStore]:
        """See `StreamStore.shards`."""
        return (self,)

    def shard_of(self, stream: str) -> int:  # noqa: ARG002  # all of them
        """See `StreamStore.shard_of`."""
        return 0

    async def append(
        self,
        writes: Sequence[StreamWrite],
        *,
        condition: AppendCondition | None = None,
        idempotency: Idempotency | None = None,
        pipeline: Pipeline | None = None,
    ) -> Appended:
        """See `EventStore.append`.

        Raises:
            Overloaded: too many appends are waiting; nothing was stored.
        """
        self._check_open()
        try:
            check_writes(writes, idempotency)
            self._check_room()
        except HeadwaterError as error:
            if pipeline is not None:
                self._enqueue(Refusal(error, pipeline))
            raise
        future: asyncio.Future[Appended] = self._loop.create_future()
        self._enqueue(Append(writes, condition, idempotency, pipeline, future))
        return await future

    async def outcome(self, key: str) -> tuple[Appended, str] | None:
        """See `EventStore.outcome`."""
        return await self._database.read(lambda reader: stored_outcomes(reader, [key]).get(key))

    def read(
        self,
        *,
        filter: EventFilter = EVERYTHING,
        after: int = 0,
        until: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        page_size: int = 1000,
    ) -> AsyncIterator[Page]:
        """See `EventStore.read`."""
        check_range(after=after, until=until, limit=limit, page_size=page_size)
        query = PageQuery.of_log(filter, backwards=backwards)
        return self._pages(
            query,
            after=after,
            until=until,
            backwards=backwards,
            limit=limit,
            page_size=page_size,
        )

    def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        until: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        page_size: int = 1000,
    ) -> AsyncIterator[Page]:
        """See `EventStore.read_stream`."""
        check_range(after=after, until=until, limit=limit, page_size=page_size)
        query = PageQuery.of_stream(stream, backwards=backwards)
        return self._pages(
            query,
            after=after,
            until=until,
            backwards=backwards,
            limit=limit,
            page_size=page_size,
        )

    def follow(
        self, *, filter: EventFilter = EVERYTHING, after: int = 0, page_size: int = 1000
    ) -> AsyncIterator[Page]:
        """See `EventStore.follow`."""
        check_range(after=after, until=None, limit=None, page_size=page_size)
        return self._follow(filter, after, page_size)

    async def head(self) -> int:
        """See `EventStore.head`."""
        return await self._number(SQL["head"])

    async def version(self, stream: str) -> int:
        """See `EventStore.version`."""
        return await self._number(SQL["version"], (stream,))

    async def position_at(self, time: int) -> int:
        """See `EventStore.position_at`."""
        return await self._number(SQL["position_at"], {"time": time})

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """See `EventStore.save_snapshot`; it joins the next group commit."""
        self._check_open()
        self._check_room()
        future: asyncio.Future[None] = self._loop.create_future()
        self._enqueue(Save(snapshot, future))
        await future

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """See `EventStore.load_snapshot`."""
        row = await self._database.read(
            lambda reader: reader.execute(SQL["load_snapshot"], (stream,)).fetchone()
        )
        return Snapshot(*row) if row else None

    def read_snapshots(
        self, prefix: str = "", *, page_size: int = 100
    ) -> AsyncIterator[tuple[Snapshot, ...]]:
        """See `StreamStore.read_snapshots`."""
        check_range(after=0, until=None, limit=None, page_size=page_size)
        return read_snapshots(self._database, prefix, page_size)

    async def drop_snapshot(self, stream: str) -> bool:
        """See `StreamStore.drop_snapshot`."""
        self._check_open()
        return await self._database.write(lambda writer: drop_snapshot(writer, stream))

    async def drop_snapshots(self, prefix: str = "") -> int:
        """See `StreamStore.drop_snapshots`."""
        self._check_open()
        return await self._database.write(lambda writer: drop_snapshots(writer, prefix))

    async def forget_keys(self, age_s: float) -> int:
        """See `StreamStore.forget_keys`."""
        self._check_open()
        until = await self.position_at(self._clock() - int(age_s * 1_000_000))
        return await forget_keys(self._database, until)

    async def retag(self, tags: Mapping[int, Sequence[str]]) -> int:
        """See `EventStore.retag`."""
        self._check_open()
        return await self._database.submit(lambda writer: self._appender.retag(writer, tags))

    def read_keys(
        self, *, since: int = 0, page_size: int = 1000
    ) -> AsyncIterator[tuple[StoredKey, ...]]:
        """See `EventStore.read_keys`."""
        check_range(after=since, until=None, limit=None, page_size=page_size)
        return self._keys(since, page_size)

    async def import_events(
        self, events: Sequence[StoredEvent], *, epoch: str, keys: Sequence[StoredKey] = ()
    ) -> None:
        """See `EventStore.import_events`."""
        self._check_open()

        def job(writer: apsw.Connection) -> None:
            self._appender.bring_in(writer, events, keys, epoch)
            self._epoch = epoch
            self._database.notify()

        await self._database.submit(job)

    async def probe(self) -> None:
        """See `EventStore.probe`."""
        self._check_open()
        await self._database.submit(probe)

    async def shard(self) -> Shard | None:
        """See `EventStore.shard`."""
        return await self._database.read(_shard)

    async def settle_shard(self, shard: Shard) -> Shard | None:
        """See `EventStore.settle_shard`."""
        self._check_open()
        values = {"shard": _encode_shard(shard).decode(), "whole": shard == WHOLE}

        def work(writer: apsw.Connection) -> Shard | None:
            writer.execute(SQL["settle_shard"], values).fetchall()
            return _shard(writer)

        return await self._database.write(work)

    async def owner(self) -> str:
        """See `EventStore.owner`."""
        return await self._database.read(lambda reader: owner(reader, _ROOM))

    async def settle_owner(self, service: str) -> str:
        """See `EventStore.settle_owner`."""
        self._check_open()
        return await self._database.write(lambda writer: settle_owner(writer, _ROOM, service))

    async def close(self) -> None:
        """See `EventStore.close`."""
        if not self._closed:
            self._closed = True
            await asyncio.shield(self._database.submit(self._drain))
        await self._database.close()

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open it again"
            store = str(self._database.path)
            raise StoreUnavailable(store=store, reason=reason, outcome="not stored")

    def _check_room(self) -> None:
        if self._accepted >= self._pending_max:
            raise Overloaded(limit=self._pending_max)

    def _enqueue(self, request: Request) -> None:
        self._accepted += 1
        self._pending.append(request)
        if not self._draining:
            self._draining = True
            self._database.post(self._drain)

    def _drain(self, connection: apsw.Connection) -> None:
        """Carry out what is waiting, in batches; on the writing thread.

        A batch is settled while the next is on its way to the disk, not before: the two threads
        have one interpreter lock, and writing to the disk is what needs none. For that there must
        be two batches. So what has gathered while nothing was being written is divided.
        """
        pending = self._pending
        while True:
            waiting = len(pending)
            size = waiting // 2 if waiting >= _HALVED_MIN and not self._done else waiting
            batch = [pending.popleft() for _ in range(min(size, _BATCH_MAX))]
            if not batch and self._done:
                self._tell()
                continue
            if not batch:
                self._draining = False
                if not pending:  # else somebody came in before the line above
                    return
                continue
            verdicts = self._appender.carry_out(connection, batch, before_commit=self._tell)
            self._done.append((batch, verdicts))
            self._database.wake.notify_others()

    def _wait(self, attempts: int) -> bool:
        """Wait for another process that writes; what is done need not wait for it."""
        self._tell()
        return self._patience(attempts)

    def _tell(self) -> None:
        """Let the loop settle what is done; on the writing thread."""
        done, self._done = self._done, []
        for batch, verdicts in done:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._settle, batch, verdicts)

    def _settle(self, batch: Sequence[Request], verdicts: Sequence[Verdict]) -> None:
        self._accepted -= len(batch)
        for request, verdict in zip(batch, verdicts, strict=True):
            if isinstance(request, Refusal):
                continue
            future: asyncio.Future[Any] = request.future
            if future.done():
                continue
            if isinstance(verdict, HeadwaterError):
                future.set_exception(verdict)
            else:
                future.set_result(verdict)
        self._database.wake.fire()

    async def _number(self, sql: str, values: Any = ()) -> int:
        number: int = await self._database.read(lambda reader: reader.execute(sql, values).get)
        return number

    async def _pages(
        self,
        query: PageQuery,
        *,
        after: int,
        until: int | None,
        backwards: bool,
        limit: int | None,
        page_size: int,
    ) -> AsyncIterator[Page]:
        left = sys.maxsize if limit is None else limit
        low, high, end = after, _END if until is None else until, None
        while True:
            wanted = min(page_size, left)
            found = await self._fetch(query, low, high, wanted)
            if end is None:  # what comes later is not part of this reading
                end = high = max(low, min(high, found.head))
            left -= len(found.events)
            if found.events and found.full:
                last = query.number(found.events[-1])
                low, high = (low, last - 1) if backwards else (last, high)
            elif wanted:
                low, high = (low, low) if backwards else (high, high)
            yield Page(found.events, high if backwards else low)
            if not left or low >= high:
                return

    async def _keys(self, since: int, page_size: int) -> AsyncIterator[tuple[StoredKey, ...]]:
        begin = ""
        while True:
            page = await self._database.read(
                partial(keys_page, begin=begin, since=since, limit=page_size)
            )
            if page:
                yield page
            if len(page) < page_size:
                return
            begin = page[-1].key + "\0"

    async def _follow(self, filter: EventFilter, after: int, page_size: int) -> AsyncIterator[Page]:
        wake, pace = self._database.wake, Pace()
        query, every = PageQuery.of_log(filter), PageQuery.of_log(EVERYTHING)
        few = min(page_size, _LIVE_MAX)
        live = False
        while True:
            ticket = wake.ticket()
            if live:  # there will be some events only; no index is faster than reading them all
                found = await self._database.read_here(
                    partial(every.fetch, low=after, high=_END, limit=few)
                )
            else:
                found = await self._fetch(query, after, _END, page_size)
            through = query.number(found.events[-1]) if found.full else found.head
            if through > after:
                after = through
                yield Page(_selected(found.events, filter) if live else found.events, after)
            live = not found.full
            if live:
                await wake.wait(ticket)
                await pace.keep()

    async def _fetch(self, query: PageQuery, low: int, high: int, limit: int) -> Found:
        return await self._database.read(lambda reader: query.fetch(reader, low, high, limit))


def _selected(events: tuple[StoredEvent, ...], filter: EventFilter) -> tuple[StoredEvent, ...]:
    if not filter.items:
        return events
    return tuple(event for event in events if filter.matches(event.type, event.tags))


def _epoch(connection: apsw.Connection) -> str:
    """Return the epoch of the store in the file, which gets one when it has none."""
    if connection.execute(SQL["epoch"]).get is None:
        values = (new_id(),)
        transact(connection, lambda inside: inside.execute(SQL["set_epoch"], values).fetchall())
    return str(connection.execute(SQL["epoch"]).get)


def _shard(connection: apsw.Connection) -> Shard | None:
    text = connection.execute(SQL["shard"]).get
    return None if text is None else _decode_shard(text)
