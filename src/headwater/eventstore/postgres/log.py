"""The log in a PostgreSQL schema, to be read: all that needs no right to write."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec

from headwater._sql.postgres.database import Database
from headwater._sql.postgres.owner import owner
from headwater._sql.resources import script
from headwater.eventstore.api import EventFilter, Page, Shard, StoredKey
from headwater.eventstore.log_base import END, Found, LogBase, selected, through
from headwater.eventstore.postgres.importing import keys_page
from headwater.eventstore.postgres.names import from_text, to_text
from headwater.eventstore.postgres.read import SQL, PageQuery

ROOM = "eventstore"
_VERSION_1 = (
    "schema_1.sql",
    "resolve_1.sql",
    "matching_1.sql",
    "append_1.sql",
    "append_single_1.sql",
)
MIGRATIONS = ["\n".join(script("headwater.eventstore.postgres", file) for file in _VERSION_1)]
# Events are looked up one by one, not by going through a table to join it.
SETTINGS = {"enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
_decode_shard = msgspec.json.Decoder(Shard).decode


class PostgresLog(LogBase[PageQuery]):
    """A `ReadableLog` in a schema."""

    def __init__(self, database: Database, epoch: str) -> None:
        """Use `open_log`."""
        self._database = database
        self._epoch = epoch

    async def head(self) -> int:
        """See `ReadableLog.head`."""
        return await self._number(SQL["head"])

    async def version(self, stream: str) -> int:
        """See `ReadableStreams.version`."""
        return await self._number(SQL["version"], to_text(stream))

    async def position_at(self, time: int) -> int:
        """See `ReadableLog.position_at`."""
        return await self._number(SQL["position_at"], time)

    async def shard(self) -> Shard | None:
        """See `ReadableLog.shard`."""
        return await self._database.read(shard_of)

    async def owner(self) -> str:
        """See `ReadableLog.owner`."""
        return await self._database.read(lambda connection: owner(connection, ROOM))

    async def close(self) -> None:
        """See `ReadableStreams.close`."""
        await self._database.close()

    async def _number(self, sql: str, *values: Any) -> int:
        number: int = await self._database.read(lambda c: c.fetchval(sql, *values))
        return number

    def _of_log(self, filter: EventFilter, *, backwards: bool) -> PageQuery:
        return PageQuery.of_log(filter, backwards=backwards)

    def _of_stream(self, stream: str, *, backwards: bool) -> PageQuery:
        return PageQuery.of_stream(stream, backwards=backwards)

    async def _fetch(
        self, query: PageQuery, low: int, high: int, limit: int, *, head: bool = True
    ) -> Found:
        fetch = query.fetch_with_head if head else query.fetch
        return await self._database.read(partial(fetch, low=low, high=high, limit=limit))

    async def _keys(self, since: int, page_size: int) -> AsyncIterator[tuple[StoredKey, ...]]:
        begin: str | None = ""
        while begin is not None:
            work = partial(keys_page, begin=begin, since=since, limit=page_size)
            found, begin = await self._database.read(work)
            for start in range(0, len(found), page_size):
                yield tuple(found[start : start + page_size])

    async def _follow(self, filter: EventFilter, after: int, page_size: int) -> AsyncIterator[Page]:
        query, wake, looked = PageQuery.of_log(filter), self._database.wake, -1
        while True:
            ticket, heard = wake.ticket(), wake.heard
            if heard == looked and (own := self._own(after, page_size)):
                after = own[-1].position
                yield Page(selected(own, filter), after)
                if len(own) < page_size:
                    await wake.wait(ticket)
                continue
            looked = heard
            found = await self._fetch(query, after, END, page_size)
            reached = through(query, found)
            if reached > after:
                after = reached
                yield Page(found.events, after)
            if not found.full:
                await wake.wait(ticket)


async def open_log(url: str) -> PostgresLog:
    """Open the log in a schema for reading, as a role that may only read, or on a standby.

    Nothing is written. A standby shows what has reached it: everything up to its head.

    Raises:
        ConfigurationError: the URL is wrong.
        SchemaTooNew: a newer version of Headwater has used the schema.
        StoreUnavailable: the server cannot be reached, refuses the user, or the schema holds no
            event store.
    """
    database = await Database.open(
        url, room=ROOM, migrations=MIGRATIONS, settings=SETTINGS, reading=True
    )
    try:
        epoch = await database.read(lambda connection: connection.fetchval(SQL["epoch"]))
    except BaseException:
        await database.close()
        raise
    return PostgresLog(database, str(epoch))


async def shard_of(connection: Any) -> Shard | None:
    """Return which shard the log in a schema is."""
    text = await connection.fetchval(SQL["shard"])
    return None if text is None else _decode_shard(from_text(text))
