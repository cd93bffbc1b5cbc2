"""What registries share, in a PostgreSQL schema."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self

import asyncpg
import msgspec

from headwater._sql.postgres.database import CLOSED, LOST, Database
from headwater._sql.postgres.url import Place
from headwater._sql.resources import script, statements
from headwater.discovery.api import Entry, Instance, Mark, Record, Records
from headwater.errors import StoreCorrupt, StoreUnavailable

SCHEMA = "headwater_discovery"

_MIGRATIONS = ("postgres_1.sql",)
_SQL = statements("headwater.discovery", "postgres.sql")
_AWAY = (*LOST, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)
_WAIT_S = 2.0  # for a connection, an answer or a lock: what is late is done again
_LOOK_S = 1.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Instance).decode


class PostgresRegistryStore:
    """Implements `RegistryStore` in one schema; use `open`."""

    def __init__(self, url: str, schema: str) -> None:
        """Describe it; use `open`."""
        self._url = url
        self._schema = schema
        self._place = Place.parse(url, schema=schema)
        self._database: Database | None = None
        self._opening = asyncio.Lock()
        self._ticket = -1
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, schema: str = SCHEMA) -> Self:
        """Open the store in a schema, which is made if missing.

        A server that is away is no reason to fail, since a registry works without: the store is
        opened as soon as it is back.

        Args:
            url: ``postgresql://user:password@host:port/database?schema=registry``.
            schema: used when the URL names none; all registries of a system share it.

        Raises:
            ConfigurationError: the URL is wrong.
            SchemaTooNew, DiskFull: nothing was changed.
            StoreUnavailable: the server refuses the user, the password or the database, or the user
                lacks a right.
        """
        store = cls(url, schema)
        try:
            await store._ready()
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, _AWAY):
                raise
        return store

    @property
    def name(self) -> str:
        """See `RegistryStore.name`."""
        return self._place.name

    async def read(self, after: Mark | None) -> Records:
        """See `RegistryStore.read`. One statement."""
        database = await self._ready()
        mark = after or Mark("", 0)
        rows = await database.read(lambda connection: connection.fetch(_SQL["read"], *mark))
        if not rows:
            reason = "registry_state is empty: restore it from a backup, or use another schema"
            raise StoreCorrupt(store=self.name, reason=reason, outcome="not stored")
        first = rows[0]
        records = [self._record(row) for row in rows if row["id"] is not None]
        return Records(Mark(first["store"], first["latest"]), records, first["complete"])

    async def write(self, entries: Sequence[Entry]) -> Mapping[str, int]:
        """See `RegistryStore.write`. One function call in one transaction."""
        if not entries:
            return {}
        database = await self._ready()
        columns = [list(column) for column in zip(*map(_row, entries), strict=True)]
        async with database.transaction() as connection:
            rows = await connection.fetch(_SQL["write"], *columns)
        if rows:
            database.wake.notify_others()
        return dict(map(tuple, rows))

    async def beat(self, server: str) -> Mapping[str, int]:
        """See `RegistryStore.beat`. One statement; if its answer is lost, one sign more."""
        database = await self._ready()
        rows = await database.repeat(lambda connection: connection.fetch(_SQL["beat"], server))
        return dict(map(tuple, rows))

    async def leave(self, server: str) -> None:
        """See `RegistryStore.leave`."""
        database = await self._ready()
        await database.repeat(lambda connection: connection.execute(_SQL["leave"], server))

    async def changed(self) -> None:
        """See `RegistryStore.changed`."""
        if self._database is None:
            await asyncio.sleep(_LOOK_S)
            return
        wake = self._database.wake
        await wake.wait(self._ticket)
        self._ticket = wake.ticket()  # what comes from now on ends the next call at once

    async def close(self) -> None:
        """See `RegistryStore.close`."""
        self._closed = True
        if self._database is not None:
            await self._database.close()

    async def _ready(self) -> Database:
        if self._closed:
            raise StoreUnavailable(store=self.name, reason=CLOSED, outcome="not stored")
        if self._database is None:
            async with self._opening:
                if self._database is None:
                    self._database = await Database.open(
                        self._url,
                        room="discovery",
                        migrations=[script("headwater.discovery", name) for name in _MIGRATIONS],
                        schema=self._schema,
                        connections=2,
                        connect_timeout_s=_WAIT_S,
                        command_timeout_s=_WAIT_S,
                        lock_timeout_s=_WAIT_S,
                        settle_timeout_s=_WAIT_S,
                    )
        return self._database

    def _record(self, row: Mapping[str, Any]) -> Record:
        values = dict(zip(row.keys(), row.values(), strict=True))
        content = values.pop("content")
        try:
            instance = None if content is None else _decode(content)
            return msgspec.convert({**values, "instance": instance}, Record)
        except msgspec.MsgspecError as error:
            reason = f"instance {row['id']!r} cannot be read ({error}): delete its row"
            raise StoreCorrupt(store=self.name, reason=reason, outcome="not stored") from error


def _row(entry: Entry) -> tuple[Any, ...]:
    record = entry.record
    content = None if record.instance is None else _encode(record.instance).decode()
    return (
        record.id,
        entry.expected,
        record.holder,
        content,
        record.override,
        record.expired,
        record.doubted,
        entry.registers,
        entry.overrides,
    )


__all__ = ["SCHEMA", "PostgresRegistryStore"]
