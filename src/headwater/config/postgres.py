"""Settings files in a PostgreSQL schema, with their history, for any number of processes."""

import asyncio
import datetime as dt
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

import msgspec

from headwater._sql.postgres.database import CLOSED, Database
from headwater._sql.resources import script, statements
from headwater.config.api import SettingsChange, SettingsFile, SettingsState
from headwater.config.changes import difference, touched
from headwater.config.checks import check_files
from headwater.errors import (
    ChangeNotFound,
    SettingsConflict,
    StoreError,
    StoreUnavailable,
    Unavailable,
)

SCHEMA = "headwater_config"

_MIGRATIONS = ("postgres_1.sql",)
_SQL = statements("headwater.config", "postgres.sql")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

_Mark = tuple[int, dt.datetime]  # the latest change that a reader has seen


class PostgresSettingsStore:
    """Implements `SettingsStore` in one schema; use `open`."""

    def __init__(self, database: Database, id: str) -> None:
        """Take over an open database; use `open`."""
        self._database = database
        self._id = id
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, schema: str = SCHEMA) -> Self:
        """Open the settings in a schema, which is made if missing. Every wait is bounded.

        Args:
            url: ``postgresql://user:password@host:port/database?schema=settings``.
            schema: used when the URL names none.

        Raises:
            ConfigurationError: the URL is wrong.
            SchemaTooNew, StoreUnavailable, DiskFull: nothing was changed.
        """
        database = await Database.open(
            url,
            room="config",
            migrations=[script("headwater.config", name) for name in _MIGRATIONS],
            schema=schema,
            connections=2,
            command_timeout_s=5.0,
        )
        try:
            id = await database.read(lambda connection: connection.fetchval(_SQL["id"]))
        except BaseException:
            await database.close()
            raise
        return cls(database, str(id))

    @property
    def name(self) -> str:
        """See `SettingsSource.name`."""
        return self._database.name

    @property
    def id(self) -> str:
        """See `SettingsStore.id`."""
        return self._id

    async def read(self) -> SettingsState:
        """See `SettingsSource.read`."""
        state, _ = await self._database.read_transaction(_now)
        return state

    async def follow(self, state: SettingsState) -> AsyncIterator[SettingsState]:
        """See `SettingsSource.follow`. The database is asked when it wakes us, or each second."""
        mark: _Mark | None = None  # what we were given has none: look at everything once
        wake = self._database.wake
        while True:
            if self._closed:
                raise StoreUnavailable(store=self.name, reason=CLOSED, outcome="not stored")
            ticket = wake.ticket()  # before looking, so that nothing is missed
            try:
                if mark is None or await self._database.read(_mark) != mark:
                    found, mark = await self._database.read_transaction(_now)
                else:
                    found = msgspec.structs.replace(state, error="")
            except (Unavailable, StoreError) as error:
                found, mark = msgspec.structs.replace(state, error=str(error)), None
            if found != state:
                state = found
                yield state
            await wake.wait(ticket)

    async def push(
        self, files: Mapping[str, bytes], *, expected: int, author: str = "", comment: str = ""
    ) -> SettingsChange | None:
        """See `SettingsStore.push`. One transaction."""
        await asyncio.to_thread(check_files, files)
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["lock"])
            latest = await connection.fetchrow(_SQL["latest"])
            actual = latest["change"] if latest else 0
            before = await _files(connection, actual)
            change = difference(
                {name: file.content for name, file in before.items()},
                files,
                number=actual + 1,
                author=author,
                comment=comment,
            )
            if not touched(change):
                return None
            if expected != actual:
                by = latest["author"] if latest else "nobody"
                raise SettingsConflict(expected=expected, actual=actual, author=by)
            recorded = await _store(connection, change, files)
        self._database.notify()
        return msgspec.structs.replace(change, time=_microseconds(recorded))

    async def history(self, *, file: str = "", limit: int = 100) -> Sequence[SettingsChange]:
        """See `SettingsStore.history`."""

        async def work(connection: Any) -> list[SettingsChange]:
            rows = await connection.fetch(_SQL["history"], file, limit)
            kinds: dict[tuple[int, str], list[str]] = defaultdict(list)
            numbers = [row["change"] for row in rows]
            for change, kind, name in await connection.fetch(_SQL["touched"], numbers):
                kinds[change, kind].append(name)
            return [
                SettingsChange(
                    number,
                    _microseconds(recorded),
                    author,
                    comment,
                    *(tuple(kinds[number, k]) for k in ("added", "changed", "removed")),
                )
                for number, recorded, author, comment in rows
            ]

        return await self._database.read_transaction(work)

    async def at(self, number: int) -> SettingsState:
        """See `SettingsStore.at`."""

        async def work(connection: Any) -> SettingsState:
            latest, _ = await _mark(connection)
            if not 0 <= number <= latest:
                raise ChangeNotFound(number=number, latest=latest)
            return SettingsState(await _files(connection, number), number)

        return await self._database.read_transaction(work)

    async def close(self) -> None:
        """See `SettingsSource.close`."""
        self._closed = True
        await self._database.close()


async def _mark(connection: Any) -> _Mark:
    row = await connection.fetchrow(_SQL["latest"])
    return (row["change"], row["recorded"]) if row else (0, _EPOCH)


async def _now(connection: Any) -> tuple[SettingsState, _Mark]:
    mark = await _mark(connection)
    return SettingsState(await _files(connection, mark[0]), mark[0]), mark


async def _files(connection: Any, change: int) -> dict[str, SettingsFile]:
    rows = await connection.fetch(_SQL["files"], change)
    return {name: SettingsFile(name, content.encode(), since) for name, since, content in rows}


async def _store(
    connection: Any, change: SettingsChange, files: Mapping[str, bytes]
) -> dt.datetime:
    recorded: dt.datetime = await connection.fetchval(
        _SQL["add_change"], change.number, change.author, change.comment
    )
    kinds = {"added": change.added, "changed": change.changed, "removed": change.removed}
    rows = [(name, kind) for kind, names in kinds.items() for name in names]
    contents = [files[name].decode() if name in files else None for name, _ in rows]
    await connection.execute(
        _SQL["add_files"],
        change.number,
        [name for name, _ in rows],
        [kind for _, kind in rows],
        contents,
    )
    return recorded


def _microseconds(time: dt.datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


__all__ = ["SCHEMA", "PostgresSettingsStore"]
