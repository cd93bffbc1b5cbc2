"""An event bus in a SQLite file that the processes of one machine share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from headwater._sql.resources import script
from headwater._sql.sqlite import clock as sqlite_clock
from headwater._sql.sqlite.database import Database
from headwater._sql.sqlite.wake import Pace
from headwater.errors import StoreUnavailable
from headwater.eventbus import cloudevents
from headwater.eventbus.api import BusEvent, Delivery, partition_of
from headwater.eventbus.checks import check_count, check_subscription
from headwater.eventbus.retention import Retention
from headwater.eventbus.sqlite import log
from headwater.eventbus.sqlite.log import Entry
from headwater.eventbus.types import EventType

_MIGRATIONS = ("schema_1.sql", "types_2.sql", "forget_3.sql")
_COMMIT_EVENTS_MAX = 10_000
_LIVE_MAX = 64


class SQLiteEventBus:
    """An `EventBus` in one file; use `open`. Publishing what is stored already stores nothing."""

    def __init__(self, database: Database, partitions: int, clock: Callable[[], float]) -> None:
        """Take over an open database; use `open`."""
        self._database = database
        self._partitions = partitions
        self._clock = clock
        self._waiting: list[tuple[list[Entry], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, path: str | Path, *, partitions: int = 4, busy_timeout_s: float = 10.0
    ) -> Self:
        """Open the bus in a file, which is made if missing.

        Args:
            path: the file.
            partitions: how many; stored when the file is made.
            busy_timeout_s: how long to wait while another process writes.

        Raises:
            ConfigurationError: the file has another number of partitions.
            SchemaTooNew, StoreUnavailable, StoreCorrupt, DiskFull: nothing was changed.
        """
        check_count(partitions, bus=str(path))
        database = await Database.open(
            path,
            room="eventbus",
            migrations=[script("headwater.eventbus.sqlite", name) for name in _MIGRATIONS],
            busy_timeout_s=busy_timeout_s,
        )
        try:
            await database.write(lambda w: log.settle_partitions(w, partitions))
            clock = await database.write(sqlite_clock.settled)
        except BaseException:
            await database.close()
            raise
        return cls(database, partitions, clock)

    @property
    def partitions(self) -> int:
        """See `EventBus.partitions`."""
        return self._partitions

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """See `EventBus.publish`. All events of a call are stored in one transaction.

        While one transaction is being committed the next calls queue up, and go into the next
        one together.
        """
        self._check_open()
        entries = [self._entry(event) for event in events]
        if not entries:
            return
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, stored))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting())
        await stored

    async def subscribe(
        self, *, after: Mapping[int, int], page_size: int = 1000
    ) -> AsyncIterator[Sequence[Delivery]]:
        """See `EventBus.subscribe`.

        Raises:
            MalformedMessage: another program has stored something that is not a CloudEvents
                document; it says where.
        """
        check_subscription(after, page_size, partitions=self._partitions)
        offsets = dict(after)
        wake, pace = self._database.wake, Pace()
        live = False
        while True:
            self._check_open()
            ticket = wake.ticket()  # before looking, so that nothing is missed
            size = min(page_size, _LIVE_MAX) if live else page_size
            read = partial(log.read, offsets=dict(offsets), page_size=size)
            if live:  # there will be some events only
                page = await self._database.read_here(read)
            else:
                page = await self._database.read_transaction(read)
            # The first partitions of this page are the last of the next: none starves.
            for partition, offset in {d.partition: d.offset for d in page}.items():
                del offsets[partition]
                offsets[partition] = offset
            if page:
                yield page
            live = len(page) < size
            if live:
                await wake.wait(ticket)
                await pace.keep()

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """See `EventBus.announce`."""
        self._check_open()
        return await self._database.write(lambda w: log.announce(w, source, types))

    async def end(self) -> dict[int, int]:
        """See `EventBus.end`."""
        return await self._database.read_transaction(
            lambda reader: {p: log.end(reader, p) for p in range(self._partitions)}
        )

    async def note_reader(self, reader: str, offsets: Mapping[int, int]) -> None:
        """See `EventBus.note_reader`."""
        self._check_open()
        now = self._clock()
        await self._database.write(lambda w: log.note_reader(w, reader, offsets, now))

    async def forget(self, retention: Retention) -> int:
        """See `EventBus.forget`."""
        self._check_open()
        found = await self._database.write(
            lambda w: log.forgettable(
                w, range(self._partitions), now=self._clock(), retention=retention
            )
        )
        forgotten = 0
        for partition, until in found.items():
            work = partial(log.forget, partition=partition, until=until)
            while count := await self._database.write(work):
                forgotten += count
        return forgotten

    async def close(self) -> None:
        """See `EventBus.close`. What was being published is finished first."""
        self._closed = True
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await self._database.close()

    def _entry(self, event: BusEvent) -> Entry:
        return Entry(
            source=event.source,
            epoch=event.epoch,
            position=event.position,
            partition=partition_of(event.stream, self._partitions),
            document=cloudevents.encode(event).decode(),
        )

    async def _commit_waiting(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._take())
        finally:
            self._committing = None

    def _take(self) -> list[tuple[list[Entry], asyncio.Future[None]]]:
        """Take what goes into one transaction: bounded, but at least one call."""
        size, taken = 0, 0
        for entries, _ in self._waiting:
            size += len(entries)
            if taken and size > _COMMIT_EVENTS_MAX:
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    async def _commit(self, batch: list[tuple[list[Entry], asyncio.Future[None]]]) -> None:
        entries = [entry for group, _ in batch for entry in group]
        failure: Exception | None = None
        try:
            await self._database.write(lambda writer: log.append(writer, entries))
        except asyncio.CancelledError:
            for _, stored in batch:
                stored.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # it belongs to those who wait
            failure = error
        for _, stored in batch:
            if not stored.done():
                if failure is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(failure)

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open it again"
            store = str(self._database.path)
            raise StoreUnavailable(store=store, reason=reason, outcome="not stored")
