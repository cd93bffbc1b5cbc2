"""The event store in a PostgreSQL schema, shared by any number of processes and machines."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self

import msgspec

from headwater._sql.postgres.database import Database
from headwater._sql.postgres.owner import settle_owner
from headwater.errors import InvalidInput
from headwater.eventstore.api import (
    WHOLE,
    Appended,
    Shard,
    Snapshot,
    StoredEvent,
    StoredKey,
    StreamWrite,
)
from headwater.eventstore.checks import check_range
from headwater.eventstore.group_commit import Append, GroupCommit, Request
from headwater.eventstore.postgres.append import Writer, stored_outcomes
from headwater.eventstore.postgres.importing import import_events, storable
from headwater.eventstore.postgres.log import MIGRATIONS, ROOM, SETTINGS, PostgresLog, shard_of
from headwater.eventstore.postgres.names import from_text, to_text
from headwater.eventstore.postgres.read import SQL
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
_encode_shard = msgspec.json.Encoder().encode


class PostgresEventStore(GroupCommit, PostgresLog):
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
        GroupCommit.__init__(self, pending_max=pending_max)
        PostgresLog.__init__(self, database, epoch)
        self._clock = clock
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
            room=ROOM,
            migrations=MIGRATIONS,
            schema=schema,
            connections=readers,
            connect_timeout_s=connect_timeout_s,
            command_timeout_s=command_timeout_s,
            lock_timeout_s=lock_timeout_s,
            settings=SETTINGS,
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

    async def outcome(self, key: str) -> tuple[Appended, str] | None:
        """See `EventStore.outcome`."""
        self._check_open()
        return (await self._database.read(lambda c: stored_outcomes(c, [key]))).get(key)

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
                changed = await retag(connection, tags)
        self._recent.forget()
        return changed

    async def import_events(
        self, events: Sequence[StoredEvent], *, epoch: str, keys: Sequence[StoredKey] = ()
    ) -> None:
        """See `EventStore.import_events`."""
        self._check_open()
        await import_events(self._database, events, keys, epoch)
        self._epoch = epoch
        self._recent.forget()
        self._database.notify()

    async def probe(self) -> None:
        """See `EventStore.probe`."""
        self._check_open()
        async with self._database.transaction() as connection:
            await connection.execute(SQL["probe"])

    async def settle_shard(self, shard: Shard) -> Shard | None:
        """See `EventStore.settle_shard`."""
        self._check_open()
        text = to_text(_encode_shard(shard).decode())
        async with self._database.transaction() as connection:
            await connection.execute(SQL["lock"])
            await connection.execute(SQL["settle_shard"], text, shard == WHOLE)
            return await shard_of(connection)

    async def settle_owner(self, service: str) -> str:
        """See `EventStore.settle_owner`."""
        self._check_open()
        schema = self._database.place.schema
        async with self._database.transaction() as connection:
            return await settle_owner(connection, ROOM, schema, service)

    async def close(self) -> None:
        """See `EventStore.close`."""
        self._closed = True
        if self._draining is not None:
            await asyncio.shield(self._draining)
        await self._writer.close()
        await self._database.close()

    def _own(self, after: int, limit: int) -> tuple[StoredEvent, ...]:
        return self._recent.after(after, limit)

    def _name(self) -> str:
        return self._database.name

    def _wake(self) -> None:
        self._database.notify()

    def _begin(self) -> None:
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

    def _extent_of(self, writes: Sequence[StreamWrite]) -> tuple[int, int]:
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
            reason = (
                f"an append has {size} bytes, at most {_APPEND_BYTES_MAX} can be sent: split it"
            )
            raise InvalidInput(reason=reason)
        return count, size


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
