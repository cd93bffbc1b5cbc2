"""An event bus in a SQLite file that the processes of one machine share."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import headwater.eventbus.sqlite.log as log  # noqa: PLR0402  # the package imports this file
from headwater._sql.resources import script
from headwater._sql.sqlite import clock as sqlite_clock
from headwater._sql.sqlite.database import Database
from headwater._sql.sqlite.wake import Pace
from headwater.eventbus.api import Delivery
from headwater.eventbus.base import CommittingBus, Entry
from headwater.eventbus.checks import check_count
from headwater.eventbus.retention import Retention
from headwater.eventbus.types import EventType

_LIVE_MAX = 64


class SQLiteEventBus(CommittingBus):
    """An `EventBus` in one file; use `open`. Publishing what is stored already stores nothing."""

    live_max = _LIVE_MAX

    def __init__(self, database: Database, partitions: int, clock: Callable[[], float]) -> None:
        """Take over an open database; use `open`."""
        super().__init__(str(database.path), partitions, database.wake)
        self._database = database
        self._clock = clock

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
            migrations=[script("headwater.eventbus.sqlite", "schema_1.sql")],
            busy_timeout_s=busy_timeout_s,
        )
        try:
            await database.write(lambda w: log.fix_partitions(w, partitions))
            clock = await database.write(sqlite_clock.settled)
        except BaseException:
            await database.close()
            raise
        return cls(database, partitions, clock)

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """See `EventBus.announce`."""
        self._check_open()
        return await self._database.write(lambda w: log.announce(w, source, types))

    async def begin(self) -> dict[int, int]:
        """See `EventBus.begin`."""
        return await self._database.read_transaction(
            lambda reader: {p: log.begin(reader, p) for p in range(self._partitions)}
        )

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

    async def _page(
        self, offsets: Mapping[int, int], size: int, *, live: bool
    ) -> Sequence[Delivery]:
        read = partial(log.read, offsets=dict(offsets), page_size=size)
        if live:  # there will be some events only
            return await self._database.read_here(read)
        return await self._database.read_transaction(read)

    def _waiter(self) -> Callable[[int, int], Awaitable[None]]:
        pace = Pace()

        async def wait(ticket: int, found: int) -> None:
            await self._wake.wait(ticket)
            await pace.keep(found)

        return wait

    async def _append(self, entries: Sequence[Entry]) -> None:
        await self._database.write(lambda writer: log.append(writer, entries))

    async def _close(self) -> None:
        await self._database.close()
