"""SQL of authors in PostgreSQL: in a transaction that writes, or in one that only reads."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import asyncpg

from headwater._sql.postgres.commits import roll_back
from headwater._sql.postgres.database import Database
from headwater._sql.postgres.errors import LOST, translate
from headwater.errors import ConfigurationError, HeadwaterError, StoreError
from headwater.views.author_sql import AuthorSql, outage
from headwater.views.checks import missing
from headwater.views.postgres.generations import Generations
from headwater.views.sql_tables import SqlTable, name_in

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    *LOST,
)
_OF_THE_STATEMENT = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
)


class PostgresSql(AuthorSql):
    """A `Sql`."""

    engine = "postgres"

    async def _fetch(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        rows = await self._run(lambda: self._connection.fetch(statement, *values))
        return [tuple(row) for row in rows]


def explain(error: Exception, store: str) -> HeadwaterError:
    """Return an error of an author's statement as one of ours."""
    if isinstance(error, _OF_THE_STATEMENT):
        reason = f"{type(error).__name__}: {error}"
        return StoreError(store=store, reason=reason, outcome="not stored")
    return translate(error, store, outcome="not stored")


async def names_of(
    connection: Any,
    known: Generations,
    tables: Sequence[type[SqlTable]],
    generations: Mapping[str, int],
    *,
    anew: bool = False,
) -> dict[type[SqlTable], str]:
    """Return what tables are called in their generations; they are not dropped before the end.

    Raises:
        ConfigurationError: one is not there.
    """
    found = {}
    for table in tables:
        name = table.table_name
        chosen = generations.get(name) or await known.active(connection, name, anew=anew)
        found[table] = name_in(name, chosen)
        try:
            await connection.execute(f"LOCK TABLE {found[table]} IN ACCESS SHARE MODE")
        except asyncpg.UndefinedTableError as error:
            raise missing(name, chosen) from error
    return found


@contextlib.asynccontextmanager
async def reading(
    database: Database,
    known: Generations,
    tables: Sequence[type[SqlTable]],
    generations: Mapping[str, int],
) -> AsyncIterator[PostgresSql]:
    """Begin to read; see `ViewStore.sql`."""
    ended = False
    name = database.name

    def check() -> None:
        if ended:
            reason = "the reading has ended: use it only inside its block"
            raise StoreError(store=name, reason=reason, outcome="not stored")

    async def run(work: Callable[[], Awaitable[Any]]) -> Any:
        check()
        try:
            return await work()
        except DRIVER_ERRORS as error:
            raise explain(error, name) from error

    async with database.borrowed() as connection:

        async def begin(*, anew: bool) -> dict[type[SqlTable], str]:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            names = await names_of(connection, known, tables, generations, anew=anew)
            await connection.execute("SELECT")  # from now on it sees one state
            return names

        try:
            try:
                names = await run(lambda: begin(anew=False))
            except ConfigurationError:  # another generation has become active meanwhile
                await roll_back(connection)
                names = await run(lambda: begin(anew=True))
            yield PostgresSql(names, connection, check, run)
        except Exception as error:
            away = outage(error, DRIVER_ERRORS, lambda seen: explain(seen, name))
            if away is not None:
                raise away from error
            raise
        finally:
            ended = True
            await roll_back(connection)
