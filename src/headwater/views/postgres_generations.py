"""Generations in PostgreSQL: which are active, which tables there are, finding the right one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import asyncpg
import msgspec

from headwater._sql.resources import statements
from headwater.views.checks import check_active, check_droppable, check_shape, missing
from headwater.views.model import View, ViewType, view_type
from headwater.views.postgres_segments import drop_idle, drop_older
from headwater.views.postgres_tables import Table, table, table_name

T = TypeVar("T")

_SQL = statements("headwater.views", "postgres_generations.sql")
_columns = msgspec.json.Decoder(tuple[str, ...]).decode


class Generations:
    """Knows the active generations, without asking the database for every read.

    That is safe because active generations only rise, and whoever raises one drops the older
    tables in the same transaction: a generation that we know is the active one, or its table is
    gone. So a missing table means: look again.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._active: dict[str, int] = {}

    def known(self, view: type[View]) -> Table:
        """Return the table of the generation that is active as far as we know."""
        return table(view, self._active.get(view_type(view).name, 1))

    async def with_table(
        self, connection: Any, view: type[View], work: Callable[[Table], Awaitable[T]]
    ) -> T:
        """Run work on the table of the active generation, outside a transaction.

        Raises:
            ConfigurationError: there is no such table.
        """
        try:
            return await work(self.known(view))
        except asyncpg.UndefinedTableError:
            await self.refresh(connection)
        try:
            return await work(self.known(view))
        except asyncpg.UndefinedTableError as error:
            name = view_type(view).name
            raise missing(name, self._active.get(name, 1)) from error

    async def refresh(self, connection: Any) -> None:
        """Read the active generations; who read before another never sets them back."""
        rows = await connection.fetch(_SQL["active_views"])
        known = self._active
        known.update({name: g for name, g in rows if g > known.get(name, 0)})


async def lock(connection: Any) -> None:
    """Keep others from changing shapes, generations and sets of segments until the commit."""
    await connection.execute(_SQL["lock"])


async def active(connection: Any, kind: str, name: str) -> int:
    """Return the active generation of a ``view`` or ``processor``."""
    return int(await connection.fetchval(_SQL["active"], kind, name) or 1)


async def is_ensured(
    connection: Any, views: Sequence[type[View]], generation: int | None, processor: str
) -> bool:
    """Whether there is nothing to `ensure`.

    Raises:
        ConfigurationError: one is there in another form.
    """
    looks = [await _look(connection, view_type(view), generation, processor) for view in views]
    return not any(look.create or look.activate for look in looks)


async def ensure(
    connection: Any, views: Sequence[type[View]], generation: int | None, processor: str
) -> None:
    """Make the tables and indexes that are missing.

    Raises:
        ConfigurationError: one is there in another form.
    """
    await lock(connection)
    for view in views:
        kind = view_type(view)
        look = await _look(connection, kind, generation, processor)
        if look.create:
            for statement in table(view, look.generation).create:
                await connection.execute(statement)
            columns = msgspec.json.encode((kind.key, *kind.indexes)).decode()
            shape = (kind.name.casefold(), look.generation, kind.name, columns)
            await connection.execute(_SQL["add_shape"], *shape)
        if look.activate:
            await _activate(connection, kind.name, look.generation)


async def activate(
    connection: Any, processor: str, generation: int, views: Sequence[type[View]]
) -> None:
    """Make a generation active and drop the older ones.

    First the segments, then the tables, in which order processors lock them, too: whoever works
    on the older generation finishes its transaction, and fails in the next.

    Raises:
        ConfigurationError: a table of the generation is missing.
        InvalidInput: a later one is active.
    """
    await lock(connection)
    names = sorted(view_type(view).name for view in views)
    check_active(processor, generation, await _present(connection, processor, names))
    for name in names:
        if await connection.fetchrow(_SQL["shape"], name.casefold(), generation) is None:
            raise missing(name, generation)
    await drop_older(connection, processor, generation)
    for name in names:
        await _activate(connection, name, generation)
    await connection.execute(_SQL["set_active"], "processor", processor, generation)


async def drop_generation(
    connection: Any,
    processor: str,
    generation: int,
    views: Sequence[type[View]],
    *,
    now: float | None,
) -> bool:
    """Remove a generation that is not active and that nobody works on; return whether it is gone.

    Raises:
        InvalidInput: it is active.
    """
    await lock(connection)
    names = sorted(view_type(view).name for view in views)
    check_droppable(processor, generation, await _present(connection, processor, names))
    gone = await drop_idle(connection, processor, generation, now=now)
    for name in names if gone else ():
        await _drop(connection, name, generation)
    return gone


async def _present(connection: Any, processor: str, names: Sequence[str]) -> list[int]:
    found = [await active(connection, "processor", processor)]
    return found + [await active(connection, "view", name) for name in names]


class _Look(NamedTuple):
    """What is to be done for a view type."""

    generation: int
    create: bool
    activate: bool


async def _look(connection: Any, kind: ViewType, generation: int | None, processor: str) -> _Look:
    now: int = await connection.fetchval(_SQL["active"], "view", kind.name) or 0
    chosen = generation or now or await active(connection, "processor", processor)
    if chosen < now:  # dropped; made again, it would pass for the active one
        return _Look(chosen, create=False, activate=False)
    row = await connection.fetchrow(_SQL["shape"], kind.name.casefold(), chosen)
    stored = None if row is None else (row[0], _columns(row[1]))
    check_shape(kind, stored, generation=chosen)
    return _Look(chosen, stored is None, generation is None and chosen > max(now, 1))


async def _activate(connection: Any, name: str, generation: int) -> None:
    for (before,) in await connection.fetch(_SQL["shapes_before"], name.casefold(), generation):
        await _drop(connection, name, before)
    await connection.execute(_SQL["set_active"], "view", name, generation)


async def _drop(connection: Any, name: str, generation: int) -> None:
    await connection.execute(f"DROP TABLE IF EXISTS {table_name(name, generation)}")
    await connection.execute(_SQL["drop_shape"], name.casefold(), generation)
