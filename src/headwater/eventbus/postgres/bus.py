"""An event bus in a PostgreSQL schema that the processes of any number of machines share."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from headwater._sql.postgres.database import Database
from headwater._sql.resources import script, statements
from headwater.errors import ConfigurationError
from headwater.eventbus.api import Delivery
from headwater.eventbus.base import CommittingBus, Entry, delivery
from headwater.eventbus.checks import check_count, check_kept
from headwater.eventbus.retention import AT_ONCE, Growth, Retention, forgettable
from headwater.eventbus.types import EventType, clashes

_MIGRATIONS = ("schema_1.sql", "append_1.sql")
_SQL = statements("headwater.eventbus.postgres", "log.sql")
_encode = msgspec.json.Encoder().encode
_decode_type = msgspec.json.Decoder(EventType).decode


class PostgresEventBus(CommittingBus):
    """An `EventBus` in one schema; use `open`. Publishing what is stored already stores nothing."""

    def __init__(self, database: Database, partitions: int) -> None:
        """Take over an open database; use `open`."""
        super().__init__(database.name, partitions, database.wake)
        self._database = database
        self._origins: dict[tuple[str, str], int] = {}

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
            await _fix_partitions(database, partitions)
        except BaseException:
            await database.close()
            raise
        return cls(database, partitions)

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

    async def begin(self) -> dict[int, int]:
        """See `EventBus.begin`."""
        rows = await self._database.read(lambda c: c.fetch(_SQL["begins"], self._partitions))
        return dict(map(tuple, rows))

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
            await connection.execute(_SQL["lock_growth"])
            for partition, until in ends.items():
                if until >= 0:
                    await connection.execute(_SQL["grow"], partition, until, now)
            growth = [Growth(*row) for row in await connection.fetch(_SQL["growth"])]
            rows = await connection.fetch(_SQL["readers"], now - retention.silent_s)
        readers = dict(map(tuple, rows))
        found = forgettable(growth, readers, ends, now=now, retention=retention)
        return sum([await self._forget(partition, until) for partition, until in found.items()])

    async def _forget(self, partition: int, until: int) -> int:
        forgotten, count = 0, AT_ONCE
        while count == AT_ONCE:
            status = await self._database.repeat(
                lambda c: c.execute(_SQL["forget"], partition, until, AT_ONCE)
            )
            count = int(status.rpartition(" ")[2])
            forgotten += count
        await self._database.repeat(lambda c: c.execute(_SQL["forget_growth"], partition, until))
        return forgotten

    async def _page(
        self,
        offsets: Mapping[int, int],
        size: int,
        *,
        live: bool,  # noqa: ARG002  # all the same
    ) -> Sequence[Delivery]:
        wanted = (list(offsets), list(offsets.values()))
        rows = await self._database.read(lambda c: c.fetch(_SQL["page"], *wanted, size))
        firsts = {p: offset for p, offset, _ in reversed(rows)}
        for partition, first in firsts.items():  # offsets are dense: a gap is what was forgotten
            check_kept(partition, offsets[partition], first, bus=self._name)
        return [delivery(p, offset, document) for p, offset, document in rows]

    async def _append(self, entries: Sequence[Entry]) -> None:
        """Append those entries that are not in the log yet; one round trip, one transaction.

        If its answer is lost it is done again: what was stored then is in the log.
        """
        given: dict[tuple[str, str, int], Entry] = {}  # each once, where it came first
        for entry in entries:
            given.setdefault((entry.source, entry.epoch, entry.position), entry)
        entries = list(given.values())

        async def work(connection: Any) -> None:
            origins = [await self._origin(connection, e.source, e.epoch) for e in entries]
            await connection.fetchval(
                _SQL["append"],
                [entry.partition for entry in entries],
                [entry.document for entry in entries],
                origins,
                [entry.position for entry in entries],
            )

        try:
            await self._database.repeat(work)
        except BaseException:
            self._origins.clear()  # the schema may be another one by now
            raise
        self._database.notify()

    async def _close(self) -> None:
        await self._database.close()

    async def _origin(self, connection: Any, source: str, epoch: str) -> int:
        found = self._origins.get((source, epoch))
        if found is None:
            await connection.execute(_SQL["add_origin"], source, epoch)
            found = int(await connection.fetchval(_SQL["origin"], source, epoch))
            self._origins[source, epoch] = found
        return found


async def _fix_partitions(database: Database, partitions: int) -> None:
    async def work(connection: Any) -> Any:
        await connection.execute(_SQL["fix_partitions"], partitions)
        return await connection.fetchval(_SQL["partitions"])

    stored = await database.repeat(work)
    if stored != partitions:
        raise ConfigurationError(
            subject=f"event bus {database.name}",
            reason=f"it was made with {stored} partitions, {partitions} were asked for: "
            f"set {stored}, or use another schema",
        )
