"""The event store in a PostgreSQL schema, shared by any number of processes and machines."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import msgspec

from headwater._sql.postgres.database import CLOSED, Database, script
from headwater._sql.postgres.owner import owner, settle_owner
from headwater.errors import HeadwaterError, InvalidInput, Overloaded, StoreUnavailable
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
from headwater.eventstore.postgres.append import Writer, stored_outcomes
from headwater.eventstore.postgres.batch import Append, Refusal, Request, Verdict
from headwater.eventstore.postgres.importing import import_events, keys_page, storable
from headwater.eventstore.postgres.names import from_text, to_text
from headwater.eventstore.postgres.read import SQL, PageQuery
from headwater.eventstore.postgres.upkeep import (
    drop_snapshot,
    drop_snapshots,
    forget_keys,
    read_snapshots,
    retag,
)
from headwater.messages import new_id

_BATCH_MAX = 1024
_EVENTS_MAX = 4096
_BYTES_MAX = 8 << 20
_APPEND_BYTES_MAX = 512 << 20  # the server takes no message of 1 GiB
_CONDITIONS_MAX = 256  # each is compared with the events of all before it
_END = 2**63 - 1
_VERSION_1 = ("schema_1.sql", "resolve_1.sql", "matching_1.sql", "append_1.sql")
_ROOM = "eventstore"
_encode_shard = msgspec.json.Encoder().encode
_decode_shard = msgspec.json.Decoder(Shard).decode
# Events are looked up one by one, not by going through a table to join it.
_SETTINGS = {"enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}


class PostgresEventStore:
    """An `EventStore` in a schema. Several processes may open the same schema at once."""

    def __init__(
        self,
        database: Database,
        epoch: str,
        *,
        pending_max: int,
        clock: Callable[[], int] | None,
        resolve_timeout_s: float,
    ) -> None:
        """Use `open`."""
        self._database = database
        self._epoch = epoch
        self._pending_max = pending_max
        self._pending: deque[Request] = deque()
        self._accepted = 0
        self._closed = False
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None
        self._writer = Writer(database, clock, resolve_timeout_s=resolve_timeout_s)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        schema: str = "headwater",
        readers: int = 4,
        pending_max: int = 10_000,
        connect_timeout_s: float = 5.0,
        command_timeout_s: float = 30.0,
        lock_timeout_s: float = 5.0,
        resolve_timeout_s: float = 4.0,
        clock: Callable[[], int] | None = None,
    ) -> Self:
        """Open or make the store in a schema.

        Args:
            url: ``postgresql://user:password@host:port/database?schema=accounts``.
            schema: used when the URL names none.
            readers: how many pages may be fetched at the same time.
            pending_max: how many appends may wait for their place in a transaction; more are
                refused with `Overloaded`.
            connect_timeout_s: how long to wait for a connection.
            command_timeout_s: how long to wait for an answer.
            lock_timeout_s: how long to wait while another transaction holds the log locked.
            resolve_timeout_s: how long to find out what became of a commit whose connection broke;
                less than a request may take, so that its caller hears 503 and not a time-out.
            clock: gives microseconds UTC, in the place of the server's clock.

        Raises:
            ConfigurationError: the URL is wrong.
            SchemaTooNew: a newer version of Headwater has used the schema.
            StoreUnavailable: the server cannot be reached or refuses the user.
        """
        database = await Database.open(
            url,
            room=_ROOM,
            migrations=["\n".join(script("headwater.eventstore.postgres", f) for f in _VERSION_1)],
            schema=schema,
            connections=readers,
            connect_timeout_s=connect_timeout_s,
            command_timeout_s=command_timeout_s,
            lock_timeout_s=lock_timeout_s,
            settings=_SETTINGS,
        )
        try:
            epoch = await _prepare(database)
        except BaseException:
            await database.close()
            raise
        return cls(
            database,
            epoch,
            pending_max=pending_max,
            clock=clock,
            resolve_timeout_s=resolve_timeout_s,
        )

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
            events, size = _extent_of(writes)
            if self._accepted >= self._pending_max:
                raise Overloaded(limit=self._pending_max)
        except HeadwaterError as error:
            if pipeline is not None:
                self._enqueue(Refusal(error, pipeline))
            raise
        future: asyncio.Future[Appended] = self._loop.create_future()
        self._enqueue(
            Append(writes, condition, idempotency, pipeline, future, events=events, size=size)
        )
        return await future

    async def outcome(self, key: str) -> tuple[Appended, str] | None:
        """See `EventStore.outcome`."""
        self._check_open()
        return (await self._database.read(lambda c: stored_outcomes(c, [key]))).get(key)

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
        return self._follow(PageQuery.of_log(filter), after, page_size)

    async def head(self) -> int:
        """See `EventStore.head`."""
        return await self._number(SQL["head"])

    async def version(self, stream: str) -> int:
        """See `EventStore.version`."""
        return await self._number(SQL["version"], to_text(stream))

    async def position_at(self, time: int) -> int:
        """See `EventStore.position_at`."""
        return await self._number(SQL["position_at"], time)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """See `EventStore.save_snapshot`."""
        stream, fingerprint = to_text(snapshot.stream), to_text(snapshot.fingerprint)
        values = (stream, snapshot.version, fingerprint, snapshot.data)
        await self._database.repeat(lambda c: c.execute(SQL["save_snapshot"], *values))

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """See `EventStore.load_snapshot`."""
        sql, name = SQL["load_snapshot"], to_text(stream)
        row = await self._database.read(lambda connection: connection.fetchrow(sql, name))
        return Snapshot(stream, row[0], from_text(row[1]), row[2]) if row else None

    def read_snapshots(
        self, prefix: str = "", *, page_size: int = 100
    ) -> AsyncIterator[tuple[Snapshot, ...]]:
        """See `StreamStore.read_snapshots`."""
        check_range(after=0, until=None, limit=None, page_size=page_size)
        return read_snapshots(self._database, prefix, page_size)

    async def drop_snapshot(self, stream: str) -> bool:
        """See `StreamStore.drop_snapshot`."""
        async with self._database.transaction() as connection:
            return await drop_snapshot(connection, stream)

    async def drop_snapshots(self, prefix: str = "") -> int:
        """See `StreamStore.drop_snapshots`."""
        async with self._database.transaction() as connection:
            return await drop_snapshots(connection, prefix)

    async def forget_keys(self, age_s: float) -> int:
        """See `StreamStore.forget_keys`."""
        now = await self._database.now() * 1_000_000 if self._clock is None else self._clock()
        until = await self.position_at(int(now - age_s * 1_000_000))
        return await forget_keys(self._database, until)

    async def retag(self, tags: Mapping[int, Sequence[str]]) -> int:
        """See `EventStore.retag`."""
        async with self._database.transaction() as connection:
            with storable("given as a tag"):
                return await retag(connection, tags)

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
        await import_events(self._database, events, keys, epoch)
        self._epoch = epoch
        self._database.notify()

    async def probe(self) -> None:
        """See `EventStore.probe`."""
        self._check_open()
        async with self._database.transaction() as connection:
            await connection.execute(SQL["probe"])

    async def shard(self) -> Shard | None:
        """See `EventStore.shard`."""
        self._check_open()
        return await self._database.read(_shard)

    async def settle_shard(self, shard: Shard) -> Shard | None:
        """See `EventStore.settle_shard`."""
        self._check_open()
        text = to_text(_encode_shard(shard).decode())
        async with self._database.transaction() as connection:
            await connection.execute(SQL["lock"])
            await connection.execute(SQL["settle_shard"], text, shard == WHOLE)
            return await _shard(connection)

    async def owner(self) -> str:
        """See `EventStore.owner`."""
        self._check_open()
        return await self._database.read(lambda connection: owner(connection, _ROOM))

    async def settle_owner(self, service: str) -> str:
        """See `EventStore.settle_owner`."""
        self._check_open()
        schema = self._database.place.schema
        async with self._database.transaction() as connection:
            return await settle_owner(connection, _ROOM, schema, service)

    async def close(self) -> None:
        """See `EventStore.close`."""
        self._closed = True
        if self._draining is not None:
            await asyncio.shield(self._draining)
        await self._writer.close()
        await self._database.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(store=self._database.name, reason=CLOSED, outcome="not stored")

    def _enqueue(self, request: Request) -> None:
        self._accepted += 1
        self._pending.append(request)
        if self._draining is None:
            self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        """Carry out what is waiting, in batches: while one is on its way, the next gathers."""
        try:
            while self._pending:
                batch = _next_batch(self._pending)
                self._settle(batch, await self._writer.carry_out(batch))
        finally:
            self._draining = None

    def _settle(self, batch: Sequence[Request], verdicts: Sequence[Verdict]) -> None:
        self._accepted -= len(batch)
        for request, verdict in zip(batch, verdicts, strict=True):
            if isinstance(request, Refusal):
                continue
            future = request.future
            if future.done():
                continue
            if isinstance(verdict, HeadwaterError):
                future.set_exception(verdict)
            else:
                future.set_result(verdict)
        self._database.notify()

    async def _number(self, sql: str, *values: Any) -> int:
        number: int = await self._database.read(lambda c: c.fetchval(sql, *values))
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
        low, high = after, _END if until is None else until
        fetch = query.fetch_with_head
        while True:
            wanted = min(page_size, left)
            found = await self._database.read(partial(fetch, low=low, high=high, limit=wanted))
            if fetch == query.fetch_with_head:  # what comes later is not part of this reading
                high = max(low, min(high, found.head or 0))
                fetch = query.fetch
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
        begin: str | None = ""
        while begin is not None:
            work = partial(keys_page, begin=begin, since=since, limit=page_size)
            found, begin = await self._database.read(work)
            for start in range(0, len(found), page_size):
                yield tuple(found[start : start + page_size])

    async def _follow(self, query: PageQuery, after: int, page_size: int) -> AsyncIterator[Page]:
        wake = self._database.wake
        while True:
            ticket = wake.ticket()
            found = await self._database.read(
                partial(query.fetch_with_head, low=after, high=_END, limit=page_size)
            )
            through = query.number(found.events[-1]) if found.full else found.head or 0
            if through > after:
                after = through
                yield Page(found.events, after)
            if not found.full:
                await wake.wait(ticket)


def _next_batch(pending: deque[Request]) -> list[Request]:
    """Take what fits into a transaction, at least one."""
    batch: list[Request] = []
    events = size = conditions = 0
    while (
        pending
        and len(batch) < _BATCH_MAX
        and events < _EVENTS_MAX
        and size < _BYTES_MAX
        and conditions < _CONDITIONS_MAX
    ):
        request = pending.popleft()
        batch.append(request)
        if isinstance(request, Append):
            events += request.events
            size += request.size
            conditions += request.condition is not None
    return batch


def _extent_of(writes: Sequence[StreamWrite]) -> tuple[int, int]:
    """Return how many events there are in some writes, and their bytes.

    Raises:
        InvalidInput: they are not what they should be, or more than can be sent in one step.
    """
    try:
        sizes = [len(e.data) + len(e.metadata) for write in writes for e in write.events]
        count = sum([len(write.events) for write in writes])
    except (TypeError, AttributeError) as error:
        reason = f"what was to be appended cannot be stored: {error}"
        raise InvalidInput(reason=reason) from error
    if (size := sum(sizes)) > _APPEND_BYTES_MAX:
        reason = f"an append has {size} bytes, at most {_APPEND_BYTES_MAX} can be sent: split it"
        raise InvalidInput(reason=reason)
    return count, size


async def _prepare(database: Database) -> str:
    """Return the epoch of the store in the schema, which gets one when it has none."""

    async def work(connection: Any) -> str:
        await connection.execute(SQL["forget_writers"])
        epoch = await connection.fetchval(SQL["epoch"])
        if epoch is None:
            await connection.execute(SQL["set_epoch"], new_id())
            epoch = await connection.fetchval(SQL["epoch"])
        return str(epoch)

    return await database.repeat(work)


async def _shard(connection: Any) -> Shard | None:
    text = await connection.fetchval(SQL["shard"])
    return None if text is None else _decode_shard(from_text(text))
