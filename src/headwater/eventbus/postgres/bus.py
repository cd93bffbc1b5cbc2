"""An event bus in a PostgreSQL schema that the processes of any number of machines share."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

import msgspec

from headwater._sql.postgres.database import Database
from headwater._sql.resources import script, statements
from headwater.errors import ConfigurationError, MalformedMessage, StoreUnavailable
from headwater.eventbus import cloudevents
from headwater.eventbus.api import BusEvent, Delivery, partition_of
from headwater.eventbus.checks import check_count, check_subscription
from headwater.eventbus.retention import AT_ONCE, Mark, Retention, check_kept, forgettable
from headwater.eventbus.types import EventType, clashes

_MIGRATIONS = (
    "schema_1.sql",
    "append_2.sql",
    "types_3.sql",
    "forget_4.sql",
)
_SQL = statements("headwater.eventbus.postgres", "log.sql")
_COMMIT_EVENTS_MAX = 10_000
_encode = msgspec.json.Encoder().encode
_decode_type = msgspec.json.Decoder(EventType).decode


class _Entry(msgspec.Struct, frozen=True):
    """An event on its way into the log."""

    source: str
    epoch: str
    position: int
    partition: int
    document: str


_Waiting = tuple[list[_Entry], asyncio.Future[None]]


class PostgresEventBus:
    """An `EventBus` in one schema; use `open`. Publishing what is stored already stores nothing."""

    def __init__(self, database: Database, partitions: int) -> None:
        """Take over an open database; use `open`."""
        self._database = database
        self._partitions = partitions
        self._origins: dict[tuple[str, str], int] = {}
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        partitions: int = 4,
        schema: str = "headwater_bus",
        connections: int = 4,
        lock_timeout_s: float = 5.0,
    ) -> Self:
        """Open the bus in a schema, which is made if missing.

        Args:
            url: ``postgresql://user:password@host:port/database?schema=bus``.
            partitions: how many; stored when the bus is made.
            schema: used when the URL names none; all services of a system share it.
            connections: how many at most, besides the one for wake-ups.
            lock_timeout_s: how long to wait while others append to the same partition.

        Raises:
            ConfigurationError: the URL is wrong, or the bus has another number of partitions.
            SchemaTooNew, StoreUnavailable, DiskFull: nothing was changed.
        """
        check_count(partitions, bus="in PostgreSQL")
        database = await Database.open(
            url,
            room="eventbus",
            migrations=[script("headwater.eventbus.postgres", name) for name in _MIGRATIONS],
            schema=schema,
            connections=connections,
            lock_timeout_s=lock_timeout_s,
        )
        try:
            await _settle_partitions(database, partitions)
        except BaseException:
            await database.close()
            raise
        return cls(database, partitions)

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
        wake = self._database.wake
        while True:
            self._check_open()
            ticket = wake.ticket()  # before looking, so that nothing is missed
            page = await self._page(offsets, page_size)
            if not page:
                await wake.wait(ticket)
                continue
            # The first partitions of this page are the last of the next: none starves.
            for partition, offset in {d.partition: d.offset for d in page}.items():
                del offsets[partition]
                offsets[partition] = offset
            yield page

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """See `EventBus.announce`."""
        self._check_open()
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["lock_types"])
            known = [_decode_type(row[0]) for row in await connection.fetch(_SQL["types"])]
            found = clashes(types, known)
            if not found:
                await connection.execute(_SQL["forget_types"], source)
                documents = [_encode(one).decode() for one in types]
                names = [one.name for one in types]
                await connection.execute(_SQL["add_types"], source, names, documents)
        return found

    async def end(self) -> dict[int, int]:
        """See `EventBus.end`."""
        rows = await self._database.read(lambda c: c.fetch(_SQL["ends"], self._partitions))
        return dict(map(tuple, rows))

    async def note_reader(self, reader: str, offsets: Mapping[int, int]) -> None:
        """See `EventBus.note_reader`."""
        self._check_open()
        values = (reader, list(offsets), list(offsets.values()), await self._database.now())
        await self._database.repeat(lambda c: c.execute(_SQL["note_reader"], *values))

    async def forget(self, retention: Retention) -> int:
        """See `EventBus.forget`."""
        self._check_open()
        now, ends = await self._database.now(), await self.end()
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["lock_marks"])
            for partition, until in ends.items():
                if until >= 0:
                    await connection.execute(_SQL["mark"], partition, until, now)
            marks = [Mark(*row) for row in await connection.fetch(_SQL["marks"])]
            rows = await connection.fetch(_SQL["readers"], now - retention.silent_s)
        readers = dict(map(tuple, rows))
        found = forgettable(marks, readers, ends, now=now, retention=retention)
        return sum([await self._forget(partition, until) for partition, until in found.items()])

    async def _forget(self, partition: int, until: int) -> int:
        forgotten, count = 0, AT_ONCE
        while count == AT_ONCE:
            status = await self._database.repeat(
                lambda c: c.execute(_SQL["forget"], partition, until, AT_ONCE)
            )
            count = int(status.rpartition(" ")[2])
            forgotten += count
        await self._database.repeat(lambda c: c.execute(_SQL["forget_marks"], partition, until))
        return forgotten

    async def close(self) -> None:
        """See `EventBus.close`. What was being published is finished first."""
        self._closed = True
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await self._database.close()

    async def _page(self, offsets: Mapping[int, int], page_size: int) -> list[Delivery]:
        wanted = (list(offsets), list(offsets.values()))
        rows = await self._database.read(lambda c: c.fetch(_SQL["page"], *wanted, page_size))
        seen: set[int] = set()
        for partition, offset, _ in rows:
            if partition not in seen:
                check_kept(partition, offsets[partition], offset)
                seen.add(partition)
        return [Delivery(p, offset, _event(p, offset, document)) for p, offset, document in rows]

    def _entry(self, event: BusEvent) -> _Entry:
        return _Entry(
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

    def _take(self) -> list[_Waiting]:
        """Take what goes into one transaction: bounded, but at least one call."""
        size, taken = 0, 0
        for entries, _ in self._waiting:
            size += len(entries)
            if taken and size > _COMMIT_EVENTS_MAX:
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        entries: dict[tuple[str, str, int], _Entry] = {}
        for group, _ in batch:
            for entry in group:
                entries.setdefault((entry.source, entry.epoch, entry.position), entry)
        failure: Exception | None = None
        try:
            await self._append(list(entries.values()))
        except asyncio.CancelledError:
            for _, stored in batch:
                stored.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # it belongs to those who wait
            self._origins.clear()  # the schema may be another one by now
            failure = error
        for _, stored in batch:
            if not stored.done():
                if failure is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(failure)

    async def _append(self, entries: Sequence[_Entry]) -> None:
        """Append those entries that are not in the log yet; one round trip, one transaction.

        If its answer is lost it is done again: what was stored then is in the log.
        """

        async def work(connection: Any) -> None:
            origins = [await self._origin(connection, e.source, e.epoch) for e in entries]
            await connection.fetchval(
                _SQL["append"],
                [entry.partition for entry in entries],
                [entry.document for entry in entries],
                origins,
                [entry.position for entry in entries],
            )

        await self._database.repeat(work)
        self._database.notify()

    async def _origin(self, connection: Any, source: str, epoch: str) -> int:
        found = self._origins.get((source, epoch))
        if found is None:
            await connection.execute(_SQL["add_origin"], source, epoch)
            found = int(await connection.fetchval(_SQL["origin"], source, epoch))
            self._origins[source, epoch] = found
        return found

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open it again"
            raise StoreUnavailable(store=self._database.name, reason=reason, outcome="not stored")


async def _settle_partitions(database: Database, partitions: int) -> None:
    async def work(connection: Any) -> Any:
        await connection.execute(_SQL["settle_partitions"], partitions)
        return await connection.fetchval(_SQL["partitions"])

    stored = await database.repeat(work)
    if stored != partitions:
        raise ConfigurationError(
            subject=f"event bus {database.name}",
            reason=f"it was made with {stored} partitions, {partitions} were asked for: "
            f"set {stored}, or use another schema",
        )


def _event(partition: int, offset: int, document: str) -> BusEvent:
    try:
        return cloudevents.decode(document, place=offset + 1)
    except MalformedMessage as error:
        name = f"event at offset {offset} of partition {partition}"
        raise MalformedMessage(name=name, reason=error.reason) from error
