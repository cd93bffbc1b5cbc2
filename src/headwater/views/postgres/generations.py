"""Generations in PostgreSQL: which are active, which tables there are, finding the right one."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import msgspec

from headwater._sql.resources import statements
from headwater.views.api import Generation
from headwater.views.catalog import Catalog, Changes, Shape
from headwater.views.checks import missing
from headwater.views.model import View, view_type
from headwater.views.postgres.segments import drop_segments
from headwater.views.postgres.tables import Table, table, table_name

T = TypeVar("T")

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
        known = None if anew else self._nobodys.get(name)
        return table(view, generation or known or await self._look(connection, name))

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


async def lock(connection: Any) -> None:
    """Keep others from changing shapes, generations and sets of segments until the commit."""
    await connection.execute(_SQL["lock"])


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
    for shape in sorted(changes.drop, key=lambda shape: (shape.name, shape.generation)):
        name = table_name(shape.name, shape.generation)
        await connection.execute(f"DROP TABLE IF EXISTS {name}")
        await connection.execute(_SQL["drop_shape"], shape.name.casefold(), shape.generation)
    for view, shape in changes.create:
        for statement in table(view, shape.generation).create:
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


async def use(connection: Any, processor: str, generation: int, *, now: float | None) -> None:
    """Note that a generation is used."""
    await connection.execute(_SQL["use"], processor, generation, now)
