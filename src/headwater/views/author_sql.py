"""What the SQL of authors has in common in all stores."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from headwater.errors import ConfigurationError, StoreError, Unavailable
from headwater.views.sql_tables import SqlTable

C = TypeVar("C")

_ENDS = re.compile(r"\s*(begin|start|commit|end|abort|rollback(?!\s+to\b))\b", re.IGNORECASE)


class AuthorSql:
    """The half of a `Sql` that is the same everywhere; the other one is `_fetch`."""

    engine: ClassVar[str]

    def __init__(
        self,
        names: Mapping[type[SqlTable], str],
        connection: Any,
        lend: Callable[[], None],
        run: Callable[[Any], Awaitable[Any]],
    ) -> None:
        """Work on a connection.

        Args:
            names: what the tables are called.
            connection: the driver's.
            lend: called when an author gets the connection; raises outside of the block.
            run: runs work on the connection, a function of what the engine needs for that;
                raises outside of the block.
        """
        self._names = names
        self._connection = connection
        self._lend = lend
        self._run = run

    def table(self, table: type[SqlTable]) -> str:
        """See `Sql.table`."""
        found = self._names.get(table)
        if found is None:
            asked = [one.__name__ for one in self._names]
            reason = f"is none of the tables that were asked for, {asked}: name it in sql(...)"
            raise ConfigurationError(subject=table.__name__, reason=reason)
        return found

    def connection(self, driver: type[C]) -> C:
        """See `Sql.connection`."""
        self._lend()
        found = self._connection
        if not isinstance(found, driver):
            raise ConfigurationError(
                subject=f"views in {self.engine}",
                reason=f"have a connection of {type(found).__module__}, and {driver.__module__}."
                f"{driver.__name__} was expected: look at Sql.engine, or keep them elsewhere",
            )
        return found

    async def execute(self, statement: str, *values: Any) -> None:
        """See `Sql.execute`."""
        await self.fetch(statement, *values)

    async def fetch(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """See `Sql.fetch`."""
        if _ENDS.match(statement):
            reason = f"{statement[:80]!r} is the store's to say: end the block instead"
            raise StoreError(store=self.engine, reason=reason, outcome="not stored")
        return await self._fetch(statement, values)

    async def _fetch(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        raise NotImplementedError


def torn(store: str) -> StoreError:
    """Return the error for a transaction that somebody else has ended."""
    reason = (
        "its transaction was ended by a handler (ROLLBACK) or by a statement that failed: "
        "a handler must leave the end of its transaction to the store"
    )
    return StoreError(store=store, reason=reason, outcome="not stored")


def outage(
    error: BaseException,
    kinds: tuple[type[Exception], ...],
    explain: Callable[[Exception], Exception],
) -> Unavailable | None:
    """Return what an error that an author's SQL has ended with says of the database, if anything.

    That is, it is an error of the driver, or comes of one, and the database is merely away.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kinds):
            explained = explain(seen)
            return explained if isinstance(explained, Unavailable) else None
        seen = seen.__cause__
    return None
