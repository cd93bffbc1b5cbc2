"""Generations in PostgreSQL: which are active, which tables there are, finding the right one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg
import msgspec

from headwater._sql.postgres.errors import is_lost
from headwater._sql.resources import statements
from headwater.views.api import Generation, Segment
from headwater.views.catalog import Catalog, Changes, Shape
from headwater.views.checks import missing, not_made
from headwater.views.model import ReadModel, View, view_type
from headwater.views.postgres.segments import drop_segments, is_held, lock, make, of_generation
from headwater.views.postgres.tables import Table, table, table_name
from headwater.views.sql_tables import SqlTable, name_in, statements_of

T = TypeVar("T")

_BUSY_MS = 100  # much less than the server's deadlock_timeout, which is a second
_SQL = statements("headwater.views.postgres", "generations.sql")
_columns = msgspec.json.Decoder(tuple[str, ...]).decode


class Generations:
    """Finds the table that a reader sees who does not say which generation.

    Of views that are no processor's it is remembered. Else it is looked for each time, as programs
    of other versions make other generations active, whose tables are there side by side.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._nobodys: dict[str, int] = {}

    async def find(
        self, connection: Any, view: type[View], generation: int = 0, *, anew: bool = False
    ) -> Table:
        """Return the table of a generation; 0: of the active one, if wanted looked for ``anew``."""
        name = view_type(view).name
        return table(view, generation or await self.active(connection, name, anew=anew))

    async def active(self, connection: Any, name: str, *, anew: bool = False) -> int:
        """Return the generation that a reader sees of what has this name."""
        known = None if anew else self._nobodys.get(name)
        return known or await self._look(connection, name)

    async def with_table(
        self,
        connection: Any,
        view: type[View],
        work: Callable[[Table], Awaitable[T]],
        *,
        generation: int = 0,
    ) -> T:
        """Run work on the table of a generation (0: the active one), outside a transaction.

        Raises:
            ConfigurationError: there is no such table.
        """
        target = await self.find(connection, view, generation)
        try:
            return await work(target)
        except asyncpg.UndefinedTableError:
            again = await self.find(connection, view, generation, anew=True)
        try:
            return await work(again)
        except asyncpg.UndefinedTableError as error:
            raise missing(view_type(view).name, again.generation) from error

    async def _look(self, connection: Any, name: str) -> int:
        found: int | None = await connection.fetchval(_SQL["active_view"], name.casefold())
        if found:
            self._nobodys.pop(name, None)
            return found
        catalog = await catalog_of(connection)
        active = catalog.active_view(name)
        self._nobodys.pop(name, None)
        if not catalog.is_owned(name):
            self._nobodys[name] = active
        return active


async def catalog_of(connection: Any) -> Catalog:
    """Return what the store knows; for changes under the lock."""
    return Catalog(
        [Generation(*row) for row in await connection.fetch(_SQL["codes"])],
        [
            Shape(name, generation, _columns(columns), processor)
            for name, generation, columns, processor in await connection.fetch(_SQL["shapes"])
        ],
        last=dict(await connection.fetch(_SQL["dropped"])),
        segments=[tuple(row) for row in await connection.fetch(_SQL["segments"])],
    )


async def generations(connection: Any, processor: str) -> list[Generation]:
    """Return what is known of generations, of a processor or of all."""
    if processor:
        rows = await connection.fetch(_SQL["codes_of"], processor)
    else:
        rows = await connection.fetch(_SQL["codes"])
    return [Generation(*row) for row in rows]


async def time_of(connection: Any, now: float | None) -> float:
    """Return the time: by the database's clock, unless another one counts."""
    return float(await connection.fetchval(_SQL["clock"])) if now is None else now


async def change(connection: Any, processor: str, changes: Changes) -> None:
    """Carry out changes; under the lock, in the transaction in which they were decided.

    First the segments, then the tables, in which order processors lock them, too: whoever works
    on a generation that ends finishes its transaction, and fails in the next.
    """
    for number in changes.ended:
        await drop_segments(connection, processor, number)
        await connection.execute(_SQL["forget"], processor, number)
    going = {_table_of(s): s for s in sorted(changes.drop, key=lambda s: (s.name, s.generation))}
    if going:
        await _lock_out(connection, list(going))
    for name, shape in going.items():
        # Of an author's own tables some refer to others, and views of SQL may, too.
        await connection.execute(f"DROP TABLE IF EXISTS {name} CASCADE")
        await connection.execute(_SQL["drop_shape"], shape.name.casefold(), shape.generation)
    for model, shape in changes.create:
        if issubclass(model, SqlTable):
            await _make_own(connection, model, shape)
        else:
            for statement in table(model, shape.generation).create:
                await connection.execute(statement)
        columns = msgspec.json.encode(shape.columns).decode()
        made = (shape.name.casefold(), shape.generation, shape.name, columns, shape.processor)
        await connection.execute(_SQL["add_shape"], *made)
    for shape in changes.own:
        owned = (shape.name.casefold(), shape.generation, shape.processor)
        await connection.execute(_SQL["own_shape"], *owned)
    for known in changes.put:
        row = (known.processor, known.number, known.code, known.complete, known.used)
        await connection.execute(_SQL["put"], *row)
    if changes.last:
        await connection.execute(_SQL["keep_last"], processor, changes.last)


def _table_of(shape: Shape) -> str:
    name, generation = shape.name, shape.generation
    return name_in(name, generation) if shape.is_sql else table_name(name, generation)


async def _lock_out(connection: Any, tables: Sequence[str]) -> None:
    """Lock tables that go, or fail before the server takes the waiting for a deadlock.

    Who reads several of them in one transaction would wait for us, and we for them; then the
    server ends one of the two, be it the reader.

    Raises:
        asyncpg.LockNotAvailableError: somebody works with one of them.
    """
    there = await connection.fetch(_SQL["existing"], tables)
    if there:
        patience = await connection.fetchval("SELECT current_setting('lock_timeout')")
        listed = ", ".join(row[0] for row in there)
        await connection.execute(
            f"SET LOCAL lock_timeout = {_BUSY_MS}; LOCK TABLE {listed} IN ACCESS EXCLUSIVE MODE; "
            f"SET LOCAL lock_timeout = '{patience}'"
        )


async def _make_own(connection: Any, model: type[SqlTable], shape: Shape) -> None:
    statements = statements_of(model, shape.generation, engine="postgres")
    try:
        await connection.execute(statements)
    except asyncpg.PostgresError as error:
        if is_lost(error) or isinstance(error, asyncpg.OperatorInterventionError):
            raise
        raise not_made(model, error) from error


async def decide(
    connection: Any,
    processor: str,
    decision: Callable[[Catalog, float], tuple[Changes, T]],
    *,
    now: float | None,
) -> T:
    """Decide about generations, and carry that out."""
    await lock(connection)
    time = await time_of(connection, now)
    changes, result = decision(await catalog_of(connection), time)
    await change(connection, processor, changes)
    return result


async def drop_unused(
    connection: Any, processor: str, *, code: str, idle_s: float, now: float | None
) -> list[int]:
    """See `ViewStore.drop_unused`."""
    await lock(connection)
    catalog = await catalog_of(connection)
    time = await time_of(connection, now)
    gone = []
    for number in catalog.unused(processor, code, before=time - idle_s):
        if not await is_held(connection, processor, number, now=time):
            await change(connection, processor, catalog.drop_for_good(processor, number))
            gone.append(number)
    return gone


async def drop(
    connection: Any,
    processor: str,
    generation: int,
    views: Sequence[ReadModel],
    *,
    now: float | None,
) -> bool:
    """See `ViewStore.drop_generation`."""
    await lock(connection)
    changes = (await catalog_of(connection)).drop(processor, generation, views)
    gone = not await is_held(connection, processor, generation, now=now)
    if gone:
        await change(connection, processor, changes)
    return gone


async def open_segments(
    connection: Any, processor: str, *, count: int, token: str, generation: int
) -> list[Segment]:
    """See `ViewStore.open_segments`."""
    await lock(connection)
    found = await of_generation(connection, processor, generation)
    if found or (await catalog_of(connection)).is_dropped(processor, generation):
        return found
    return await make(connection, processor, count=count, token=token, generation=generation)


async def use(connection: Any, processor: str, generation: int, *, now: float | None) -> None:
    """Note that a generation is used."""
    await connection.execute(_SQL["use"], processor, generation, now)
