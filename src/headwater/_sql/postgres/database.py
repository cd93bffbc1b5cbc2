"""A PostgreSQL schema with a bounded pool of connections, migrations and wake-ups."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import asyncpg
import structlog

from headwater._sql import clock_watch
from headwater._sql.postgres.commits import Commits, abandon, finished, roll_back
from headwater._sql.postgres.errors import (
    CLOSED,
    LOST,
    is_lost,
    reason_of,
    translate,
    translated,
)
from headwater._sql.postgres.migrations import check_version, migrate
from headwater._sql.postgres.session import check_session
from headwater._sql.postgres.url import Place, schema_for
from headwater._sql.postgres.wake import Wake
from headwater._sql.resources import script, statements
from headwater.errors import StoreUnavailable
from headwater.messages import now_us

T = TypeVar("T")
Work = Callable[[Any], Awaitable[T]]

_CLOSE_S_MAX = 5.0
_NOW = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_COMMITS = ("commits_1.sql",)

_log = structlog.get_logger("headwater.sql")


class Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver's class has no types
    """A connection that is not cleaned by a round trip each time it goes back to the pool.

    Who borrows it leaves it as it was: no session settings, no open cursors, no session locks.
    """

    __slots__ = ()

    def get_reset_query(self) -> str:
        """Return nothing to be done."""
        return ""


class Database:
    """One schema of a PostgreSQL database, for the tasks of one event loop.

    Every wait is bounded: for a connection, for an answer, for a lock. When the server went away
    and came back, the next call connects anew. Errors of the driver arrive as errors of ours.
    """

    def __init__(
        self,
        place: Place,
        *,
        connections: int,
        connect_timeout_s: float,
        command_timeout_s: float,
        lock_timeout_s: float,
        settle_timeout_s: float,
        channel: str,
        settings: Mapping[str, str],
        reading: bool,
    ) -> None:
        """Prepare; use `open`."""
        self.place = place
        self._reading = reading
        self._connect_timeout_s = connect_timeout_s
        # All that the server, the database or the user may have been given otherwise, and that
        # would change what our statements do.
        self._session = {
            "search_path": f'"{place.schema}"',  # quoted: it may be a word of SQL
            "application_name": f"headwater {place.schema}",
            "lock_timeout": f"{int(lock_timeout_s * 1000)}",
            "idle_in_transaction_session_timeout": f"{int(command_timeout_s * 2000)}",
            "default_transaction_isolation": "read committed",
            "default_transaction_deferrable": "off",
            "synchronous_commit": "on",
            "TimeZone": "UTC",
            "jit": "off",
            "enable_seqscan": "off",  # plans made while tables are empty must not read them
            **settings,
            **({"default_transaction_read_only": "on"} if reading else {}),
        }
        self._settings: dict[str, Any] = {
            "timeout": connect_timeout_s,
            "command_timeout": command_timeout_s,
            "connection_class": Connection,
            "server_settings": self._session,
        }
        self._connections = connections
        self._pool: Any = None
        self._closed = False
        self.commits = Commits(place.name, self.connection, settle_timeout_s=settle_timeout_s)
        self.wake = Wake(channel, self.connect)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        room: str,
        migrations: Sequence[str],
        schema: str = "headwater",
        connections: int = 4,
        connect_timeout_s: float = 5.0,
        command_timeout_s: float = 30.0,
        lock_timeout_s: float = 5.0,
        settle_timeout_s: float = 10.0,
        settings: Mapping[str, str] | None = None,
        reading: bool = False,
    ) -> Self:
        """Connect, and bring the tables of a room to the present version.

        Args:
            url: ``postgresql://user:password@host:port/database?schema=accounts``.
            room: whose tables; rooms that share a schema have separate versions and wake-ups.
            migrations: scripts, each leading to the next version.
            schema: used when the URL names none.
            connections: how many at most, besides the one for wake-ups; callers beyond wait.
            connect_timeout_s: how long to wait for a connection.
            command_timeout_s: how long to wait for an answer.
            lock_timeout_s: how long to wait for a lock that another transaction holds.
            settle_timeout_s: how long to find out what became of a commit whose answer was lost.
            settings: more of the server's settings for all connections.
            reading: write nothing; the tables must be there in the present version. The user needs
                no right to write, and the server may be a standby.

        Raises:
            ConfigurationError: the URL is wrong.
            SchemaTooNew, StoreUnavailable, DiskFull: nothing was changed.
        """
        place = Place.parse(url, schema=schema)
        database = cls(
            place,
            connections=connections,
            connect_timeout_s=connect_timeout_s,
            command_timeout_s=command_timeout_s,
            lock_timeout_s=lock_timeout_s,
            settle_timeout_s=settle_timeout_s,
            channel=f"hw_{room}_{place.schema}",
            settings=settings or {},
            reading=reading,
        )
        try:
            with translated(place.name, outcome="not stored"):
                connection = await database.connect()
            try:
                with translated(place.name):
                    if reading:
                        expected = len(migrations)
                        await check_version(connection, place=place, room=room, expected=expected)
                        return database
                    commits = [script("headwater._sql.postgres", name) for name in _COMMITS]
                    await migrate(connection, place=place, room="commits", scripts=commits)
                    await migrate(connection, place=place, room=room, scripts=migrations)
            finally:
                await _leave(connection)
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def name(self) -> str:
        """What it is called in messages; without user and password."""
        return self.place.name

    async def connect(self) -> Any:
        """Return a new connection that is not of the pool; the caller closes it.

        Raises:
            StoreUnavailable: it is not a session as we need it; see `check_session`.
            asyncpg.PostgresError, OSError: as the driver says it.
        """
        return await self._connect(self.place.dsn, **self._settings)

    async def _connect(self, dsn: str, **options: Any) -> Any:
        connection = await asyncpg.connect(dsn, **options)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await check_session(
                    connection,
                    self.place,
                    self._session,
                    lambda: asyncpg.connect(self.place.dsn, **self._settings),
                    reading=self._reading,
                )
        except BaseException:
            connection.terminate()
            raise
        return connection

    @contextlib.asynccontextmanager
    async def borrowed(self) -> AsyncIterator[Any]:
        """Borrow a connection; what is raised within the block is passed on as it is.

        To give it back never fails: what was answered before counts, whatever became of the
        connection since.

        Raises:
            StoreUnavailable: there is none to be had, so nothing was sent.
        """
        with translated(self.name, outcome="not stored"):
            pool = await self._ready()
            connection = await pool.acquire(timeout=self._connect_timeout_s)
        try:
            yield connection
        except (TimeoutError, asyncpg.ReadOnlySQLTransactionError):
            # It may still wait for the answer, or the server is no primary any more: do not lend
            # it again.
            abandon(connection)
            raise
        finally:
            await asyncio.shield(self._give_back(pool, connection))

    async def _give_back(self, pool: Any, connection: Any) -> None:
        try:
            await pool.release(connection, timeout=self._connect_timeout_s)
        except Exception as error:  # noqa: BLE001  # the driver has many words for a broken one
            _log.debug("a connection was dropped", store=self.name, reason=str(error))
            abandon(connection)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Borrow a connection; each statement is a transaction of its own.

        Raises:
            StoreUnavailable: within the block, too, as everything the driver raises there.
        """
        with translated(self.name):
            async with self.borrowed() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Borrow a connection with a READ COMMITTED transaction: committed at the end of the block.

        Rolled back when the block raises. Durable after the block; call ``wake.notify()`` then.
        When the answer to the commit is lost it is found out what became of it.
        Cancellation: wholly stored or not at all.

        Raises:
            StoreUnavailable, StoreError, DiskFull: nothing was stored, unless the outcome is
                unknown, because the server could not be asked in the time allowed.
        """
        with translated(self.name, outcome="not stored"):
            async with self.borrowed() as connection:
                # Not the driver's transactions: one whose BEGIN is cancelled cannot be rolled back.
                try:
                    await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                    yield connection
                    await finished(self.commits.commit(connection))
                except BaseException:
                    await roll_back(connection)
                    raise

    async def read(self, work: Work[T]) -> T:
        """Run work that only reads, as `repeat` does; so nothing of it is stored when it fails."""
        with translated(self.name, outcome="not stored"):
            return await self._repeated(work)

    async def repeat(self, work: Work[T]) -> T:
        """Run work that can be done twice on a borrowed connection; once more when that was broken.

        Raises:
            StoreUnavailable: the server is away.
        """
        with translated(self.name):
            return await self._repeated(work)

    async def _repeated(self, work: Work[T]) -> T:
        lost: Exception | None = None
        while True:
            try:
                async with self.borrowed() as connection:
                    return await work(connection)
            except StoreUnavailable as error:  # there is no connection to do it again on
                if lost is None:
                    raise
                raise lost from error
            except TimeoutError:
                raise
            except (asyncpg.PostgresError, *LOST) as error:
                if lost is not None or not is_lost(error):
                    raise
                lost = error

    async def read_transaction(self, work: Work[T]) -> T:
        """As `read`; all statements of the work see the same committed state."""

        async def inside(connection: Any) -> T:
            try:
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                return await work(connection)
            finally:  # what was read is read, whatever becomes of the connection now
                await roll_back(connection)

        return await self.read(inside)

    async def now(self) -> float:
        """Return the server's time, seconds since 1970 UTC."""
        began_us = now_us()
        store_us: int = await self.read(lambda c: c.fetchval(_NOW))
        clock_watch.compare(self.name, store_us, began_us=began_us)
        return store_us / 1_000_000

    def notify(self) -> None:
        """Wake everybody on this room and schema after a commit: this process and others."""
        self.wake.notify()

    async def close(self) -> None:
        """Wait (bounded) for what is in progress, then release everything. Twice is fine."""
        self._closed = self.commits.closed = True
        await self.wake.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), _CLOSE_S_MAX)
            except (TimeoutError, asyncpg.PostgresError, *LOST):
                pool.terminate()

    async def _ready(self) -> Any:
        if self._closed:
            raise StoreUnavailable(store=self.name, reason=CLOSED, outcome="not stored")
        if self._pool is None:
            # Without a first connection nothing is waited for: two tasks cannot come in between.
            self._pool = asyncpg.create_pool(
                self.place.dsn,
                min_size=0,
                max_size=self._connections,
                connect=self._connect,
                **self._settings,
            )
            self._opening = asyncio.ensure_future(_opened(self._pool))
        return await asyncio.shield(self._opening)


async def _opened(pool: Any) -> Any:
    return await pool


async def _leave(connection: Any) -> None:
    with contextlib.suppress(asyncpg.PostgresError, *LOST):
        await connection.close(timeout=_CLOSE_S_MAX)


__all__ = [
    "CLOSED",
    "LOST",
    "Database",
    "Place",
    "Wake",
    "is_lost",
    "reason_of",
    "schema_for",
    "script",
    "statements",
    "translate",
    "translated",
]
