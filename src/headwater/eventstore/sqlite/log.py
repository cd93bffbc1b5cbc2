"""The log in a SQLite file, to be read: all that needs no right to write."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import apsw
import msgspec

from headwater._sql.resources import script
from headwater._sql.sqlite.database import Work
from headwater._sql.sqlite.owner import owner
from headwater._sql.sqlite.reading import ReadOnlyDatabase
from headwater._sql.sqlite.wake import Pace, Wake
from headwater.eventstore.api import EVERYTHING, EventFilter, Page, Shard, StoredKey
from headwater.eventstore.log_base import END, Found, LogBase, T, selected, through
from headwater.eventstore.sqlite.importing import keys_page
from headwater.eventstore.sqlite.known import SQL
from headwater.eventstore.sqlite.read import PageQuery

ROOM = "eventstore"
MIGRATIONS = [script("headwater.eventstore.sqlite", "schema_1.sql")]
_LIVE_MAX = 64
_decode_shard = msgspec.json.Decoder(Shard).decode


class Readable(Protocol):
    """A database as far as it is read."""

    @property
    def wake(self) -> Wake:
        """Tells when something was committed."""

    async def read(self, work: Work[T]) -> T:
        """Run work on a reading connection."""

    async def read_here(self, work: Work[T]) -> T:
        """Run a small read on the thread of the event loop."""

    async def close(self) -> None:
        """Release everything."""


class SQLiteLog(LogBase[PageQuery]):
    """A `ReadableLog` in a SQLite file."""

    def __init__(self, database: Readable, epoch: str) -> None:
        """Use `open_log`."""
        self._readable = database
        self._epoch = epoch

    async def head(self) -> int:
        """See `ReadableLog.head`."""
        return await self._number(SQL["head"])

    async def version(self, stream: str) -> int:
        """See `ReadableStreams.version`."""
        return await self._number(SQL["version"], (stream,))

    async def position_at(self, time: int) -> int:
        """See `ReadableLog.position_at`."""
        return await self._number(SQL["position_at"], {"time": time})

    async def shard(self) -> Shard | None:
        """See `ReadableLog.shard`."""
        return await self._readable.read(shard_of)

    async def owner(self) -> str:
        """See `ReadableLog.owner`."""
        return await self._readable.read(lambda reader: owner(reader, ROOM))

    async def close(self) -> None:
        """See `ReadableStreams.close`."""
        await self._readable.close()

    async def _number(self, sql: str, values: Any = ()) -> int:
        number: int = await self._readable.read(lambda reader: reader.execute(sql, values).get)
        return number

    def _of_log(self, filter: EventFilter, *, backwards: bool) -> PageQuery:
        return PageQuery.of_log(filter, backwards=backwards)

    def _of_stream(self, stream: str, *, backwards: bool) -> PageQuery:
        return PageQuery.of_stream(stream, backwards=backwards)

    async def _fetch(
        self, query: PageQuery, low: int, high: int, limit: int, *, head: bool = True
    ) -> Found:
        del head  # it comes with each page
        return await self._readable.read(lambda reader: query.fetch(reader, low, high, limit))

    async def _keys(self, since: int, page_size: int) -> AsyncIterator[tuple[StoredKey, ...]]:
        begin = ""
        while True:
            page = await self._readable.read(
                partial(keys_page, begin=begin, since=since, limit=page_size)
            )
            if page:
                yield page
            if len(page) < page_size:
                return
            begin = page[-1].key + "\0"

    async def _follow(self, filter: EventFilter, after: int, page_size: int) -> AsyncIterator[Page]:
        wake, pace = self._readable.wake, Pace()
        query, every = PageQuery.of_log(filter), PageQuery.of_log(EVERYTHING)
        few = min(page_size, _LIVE_MAX)
        live, looked = False, -1
        while True:
            ticket, heard = wake.ticket(), wake.heard
            if heard == looked and (own := self._own(after, page_size)):
                after = own[-1].position
                yield Page(selected(own, filter), after)
                if len(own) < page_size:
                    await wake.wait(ticket)
                    await pace.keep(len(own))
                continue
            looked = heard
            if live:  # there will be some events only; no index is faster than reading them all
                found = await self._readable.read_here(
                    partial(every.fetch, low=after, high=END, limit=few)
                )
            else:
                found = await self._fetch(query, after, END, page_size)
            reached = through(query, found)
            if reached > after:
                after = reached
                yield Page(selected(found.events, filter) if live else found.events, after)
            live = not found.full
            if live:
                await wake.wait(ticket)
                await pace.keep(len(found.events))


async def open_log(path: str | Path) -> SQLiteLog:
    """Open the log in a file for reading; nothing is written, neither there nor beside it.

    Raises:
        SchemaTooNew: a newer version of Headwater wrote the file.
        StoreCorrupt: the file is not a database, or damaged.
        StoreUnavailable: the file cannot be opened, or holds no event store.
    """
    database = await ReadOnlyDatabase.open(path, room=ROOM, version=len(MIGRATIONS))
    try:
        epoch = await database.read(lambda reader: str(reader.execute(SQL["epoch"]).get))
    except BaseException:
        await database.close()
        raise
    return SQLiteLog(database, epoch)


def shard_of(connection: apsw.Connection) -> Shard | None:
    """Return which shard the log in a file is."""
    text = connection.execute(SQL["shard"]).get
    return None if text is None else _decode_shard(text)
