"""The event store in one SQLite file, shared by the processes of a machine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import apsw
import msgspec

from headwater._sql.sqlite.connection import patience
from headwater._sql.sqlite.database import Database, transact
from headwater._sql.sqlite.owner import settle_owner
from headwater.eventstore.api import WHOLE, Appended, Shard, Snapshot, StoredEvent, StoredKey
from headwater.eventstore.checks import check_range
from headwater.eventstore.group_commit import GroupCommit, Request, Save, Verdict
from headwater.eventstore.sqlite.append import Appender
from headwater.eventstore.sqlite.batch import stored_outcomes
from headwater.eventstore.sqlite.known import SQL
from headwater.eventstore.sqlite.log import MIGRATIONS, ROOM, SQLiteLog, shard_of
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
_encode_shard = msgspec.json.Encoder().encode


class SQLiteEventStore(GroupCommit, SQLiteLog):
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
        GroupCommit.__init__(self, pending_max=pending_max)
        SQLiteLog.__init__(self, database, epoch)
        self._database = database
        self._draining = False
        self._done: list[tuple[Sequence[Request], Sequence[Verdict]]] = []
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
            room=ROOM,
            migrations=MIGRATIONS,
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

    async def outcome(self, key: str) -> tuple[Appended, str] | None:
        """See `EventStore.outcome`."""
        return await self._database.read(lambda reader: stored_outcomes(reader, [key]).get(key))

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
        changed = await self._database.submit(lambda writer: self._appender.retag(writer, tags))
        self._recent.forget()
        return changed

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
        self._recent.forget()

    async def probe(self) -> None:
        """See `EventStore.probe`."""
        self._check_open()
        await self._database.submit(probe)

    async def settle_shard(self, shard: Shard) -> Shard | None:
        """See `EventStore.settle_shard`."""
        self._check_open()
        values = {"shard": _encode_shard(shard).decode(), "whole": shard == WHOLE}

        def work(writer: apsw.Connection) -> Shard | None:
            writer.execute(SQL["settle_shard"], values).fetchall()
            return shard_of(writer)

        return await self._database.write(work)

    async def settle_owner(self, service: str) -> str:
        """See `EventStore.settle_owner`."""
        self._check_open()
        return await self._database.write(lambda writer: settle_owner(writer, ROOM, service))

    async def close(self) -> None:
        """See `EventStore.close`."""
        if not self._closed:
            self._closed = True
            await asyncio.shield(self._database.submit(self._drain))
        await self._database.close()

    def _own(self, after: int, limit: int) -> tuple[StoredEvent, ...]:
        return self._recent.after(after, limit)

    def _name(self) -> str:
        return str(self._database.path)

    def _wake(self) -> None:
        self._database.wake.fire()

    def _begin(self) -> None:
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


def _epoch(connection: apsw.Connection) -> str:
    """Return the epoch of the store in the file, which gets one when it has none."""
    if connection.execute(SQL["epoch"]).get is None:
        values = (new_id(),)
        transact(connection, lambda inside: inside.execute(SQL["set_epoch"], values).fetchall())
    return str(connection.execute(SQL["epoch"]).get)
